"""The dense module of a split of a traced model.

It has the parameters of the original, under its names, in the widths of the split, and
runs the original's rewritten graphs. Buffers of the original are constants; of those
that follow an axis it has the indices of the split.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, fx, nn

from p2pfusion.split.indices import IndexSet
from p2pfusion.split.layout import Dimension
from p2pfusion.split.segment import Split
from p2pfusion.training.models.base import Located, Width
from p2pfusion.training.tracing.graphs import CONSTANT, PARAMETER, Input

Places = Mapping[str, IndexSet]


@dataclass(frozen=True)
class Constant:
    """A buffer of the full model, and what its dimensions follow."""

    name: str
    value: Tensor
    dimensions: tuple[Dimension, ...]

    def cut(self, places: Places, sizes: Mapping[str, int]) -> Tensor:
        """Its entries inside a split; ``sizes``: of the full axes."""
        found = self.value
        for dim, dimension in enumerate(self.dimensions):
            if dimension.axis is not None and dimension.axis in places:
                indices = places[dimension.axis]
                rows = dimension.expand(indices, sizes[dimension.axis])
                found = found.index_select(dim, torch.tensor(list(rows)))
        return found.clone()


@dataclass(frozen=True)
class Run:
    """A rewritten graph: its inputs, and behind them the factors of these readings."""

    graph: fx.GraphModule
    inputs: tuple[Input, ...]
    readings: tuple[Width, ...]


class Network(Located):
    """Parameters by name, and one graph for training and one for everything else."""

    def __init__(
        self,
        *,
        shapes: Iterable[tuple[str, tuple[int, ...]]],
        statistics: frozenset[str],
        scalars: frozenset[str],
        constants: Sequence[Constant],
        full_sizes: Mapping[str, int],
        places: Places,
        runs: Mapping[bool, Run],
    ) -> None:
        """``shapes``: of every parameter, in order. ``statistics``: those that no
        gradient trains. ``scalars``: those without a dimension. ``places``: any
        indices of the widths that are wanted."""
        super().__init__()
        for name, shape in shapes:
            is_trained = name not in statistics
            values = nn.Parameter(torch.zeros(shape), requires_grad=is_trained)
            self._add(name, values)
        self._constants, self._full_sizes = constants, full_sizes
        self._runs, self._scalars = runs, scalars
        for number, constant in enumerate(constants):
            value = constant.cut(places, full_sizes)
            self.register_buffer(f"constant_{number}", value, persistent=False)
        self._numbers = {c.name: n for n, c in enumerate(constants)}
        self.p2pfusion_readings = nn.ModuleList(
            reading for run in runs.values() for reading in run.readings
        )

    def _add(self, name: str, values: nn.Parameter) -> None:
        *path, last = name.split(".")
        owner: nn.Module = self
        for step in path:
            if step not in owner._modules:
                owner.add_module(step, nn.Module())
            owner = owner.get_submodule(step)
        owner.register_parameter(last, values)

    def locate(self, split: Split) -> None:
        """Constants get the entries of the split's indices."""
        for number, constant in enumerate(self._constants):
            value = constant.cut(dict(split.sets), self._full_sizes)
            old = self.get_buffer(f"constant_{number}")
            setattr(self, f"constant_{number}", value.to(old.device, old.dtype))

    @property
    def training_graph(self) -> fx.GraphModule:
        """What runs in training."""
        return self._runs[True].graph

    def forward(self, records: Tensor) -> Tensor:
        """The logits: (B, classes) or (B, T, classes)."""
        run = self._runs[self.training]
        given = [self._value(each, records) for each in run.inputs]
        factors = (reading.factor for reading in run.readings)
        logits: Tensor = run.graph(*given, *factors)
        return logits

    def _value(self, wanted: Input, records: Tensor) -> Tensor:
        if wanted.kind == PARAMETER:
            found = self.get_parameter(wanted.name)
            return found.reshape(()) if wanted.name in self._scalars else found
        if wanted.kind == CONSTANT:
            return self.get_buffer(f"constant_{self._numbers[wanted.name]}")
        return records
