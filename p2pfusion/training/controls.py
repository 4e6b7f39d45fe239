"""Training and evaluation that no daemon does: what experiments compare with.

A control isolates one cause (docs/methods.md). ``FullForwardTrainer``: is it the
missing part of the model, or that fewer peers train each entry, that costs a sub-model
its accuracy? ``evaluate_together``: are several small models as good together?
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from p2pfusion.errors import ConfigError
from p2pfusion.split.depth import tensor_shape
from p2pfusion.split.layout import Layout
from p2pfusion.split.segment import Split
from p2pfusion.store.rectangles import numbers
from p2pfusion.training import submodel
from p2pfusion.training.data import Records
from p2pfusion.training.loop import Evaluation, evaluate
from p2pfusion.training.setup import Setup
from p2pfusion.training.trainer import Trainer
from p2pfusion.training.whole import whole_module


class FullForwardTrainer(Trainer):
    """Computes with the whole model, and trains only what the peer's split does.

    Everything outside the split keeps the values that the round began with. Costs what
    the whole model costs.
    """

    def __init__(self, setup: Setup, *, records: Records | None = None) -> None:
        """``ConfigError`` for an objective that remembers sub-models, and where frozen
        blocks are left out: the whole model is there in every step."""
        if setup.objective.get("name", "task") != "task":
            raise ConfigError("a full forward pass is for the objective 'task' only")
        if setup.depth_dropout:
            raise ConfigError("a full forward pass leaves out no layers")
        super().__init__(setup, records=records)

    def _module(self, split: Split, read: submodel.Read) -> nn.Module:
        setup, layout = self._setup, self._setup.layout
        full = Split.full(layout)
        module = submodel.made(self._model, setup.arguments, layout, full, read)
        for parameter, mask in zip(
            module.parameters(), _masks(layout, split.trained), strict=True
        ):
            parameter.register_hook(lambda gradient, mask=mask: gradient * mask)
        return module

    def _arrays(self, module: nn.Module, split: Split) -> list[np.ndarray]:
        layout = self._setup.layout
        return [
            np.ascontiguousarray(array[np.ix_(*map(numbers, segment.sets))])
            for array, segment in zip(
                submodel.extract(module, layout, Split.full(layout)),
                split.trained.segments(layout),
                strict=True,
            )
        ]


def _masks(layout: Layout, split: Split) -> list[Tensor]:
    """One where the split is, zero elsewhere: of each parameter."""
    masks = []
    for parameter, segment in zip(
        layout.parameters, split.segments(layout), strict=True
    ):
        mask = np.zeros(parameter.shape, np.float32)
        mask[np.ix_(*map(numbers, segment.sets))] = 1
        masks.append(torch.from_numpy(mask.reshape(tensor_shape(parameter))))
    return masks


class MeanOfLogits(nn.Module):
    """Several models of one kind that answer together."""

    def __init__(self, models: Sequence[nn.Module]) -> None:
        super().__init__()
        self.models = nn.ModuleList(models)

    def forward(self, inputs: Tensor) -> Tensor:
        """The mean of their logits."""
        return torch.stack([model(inputs) for model in self.models]).mean(0)


def evaluate_together(
    name: str,
    arguments: Mapping[str, object],
    each: Sequence[Mapping[str, np.ndarray]],
    records: Records,
) -> Evaluation:
    """Whole models with these values, by parameter name, on these records; together
    they say the mean of their logits."""
    modules = [whole_module(name, arguments, values) for values in each]
    return evaluate(MeanOfLogits(modules), records, torch.device("cpu"))
