"""The task at every exit, and the deepest exit as the others' teacher.

    L = CE(z_m, y) + sum over j < m of ( CE(z_j, y) + weight T^2 KL(p_m || p_j) )
    p = softmax(z / T)

z_1, ..., z_m: the logits of the exits that the sub-model has, from shallow to deep; T:
``temperature``. No gradient goes to the teacher p_m. The last term counts from round
``distill_from`` on: before that, the deepest exit has little to teach.

Source: Co-S2P (arXiv 2410.08457, cross-block knowledge transfer), as its published code
has it: weight 0.5, T 3, from round 10, and KL as the mean over all elements of (B,
classes), which is weaker than per record by the number of classes. ``per_sample`` takes
the mean over records.

Differs: the code lets the gradient reach its teacher. Logit adjustment and label mask,
which are not the paper's, apply to the cross-entropies alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from p2pfusion.errors import ConfigError
from p2pfusion.limits import (
    MAX_CONTRAST_TEMPERATURE,
    MAX_CONTRAST_WEIGHT,
    MAX_DISTILLATION_ROUND,
    MIN_CONTRAST_TEMPERATURE,
)
from p2pfusion.split.layout import Layout
from p2pfusion.split.segment import Split
from p2pfusion.training.models.units import FIRST_EXIT, Exiting
from p2pfusion.training.objectives.options import count, number, truth
from p2pfusion.training.objectives.task import TaskObjective


@dataclass(frozen=True)
class Distillation:
    """The options of what exits learn from the deepest one."""

    weight: float = 0.5
    """Of the term, beside an exit's own cross-entropy; 0: none."""
    temperature: float = 3.0
    distill_from: int = 10
    """The first round in which the term counts."""
    per_sample: bool = False
    """Whether KL is a mean over records, in place of all elements."""

    @classmethod
    def from_data(cls, options: Mapping[str, object]) -> Distillation:
        """From plain data; ``ConfigError`` names the key."""
        return cls(
            number(options, "weight", 0.0, MAX_CONTRAST_WEIGHT, cls.weight),
            number(
                options,
                "temperature",
                MIN_CONTRAST_TEMPERATURE,
                MAX_CONTRAST_TEMPERATURE,
                cls.temperature,
            ),
            count(
                options,
                "distill_from",
                MAX_DISTILLATION_ROUND,
                cls.distill_from,
                least=0,
            ),
            truth(options, "per_sample", cls.per_sample),
        )


class ExitsObjective:
    """Cross-entropy at all exits, and in later rounds the deepest one teaches."""

    def __init__(self, task: TaskObjective, settings: Distillation) -> None:
        self._task = task
        self._settings = settings
        self._distils = settings.distill_from == 0

    @classmethod
    def create(
        cls,
        options: Mapping[str, object],
        class_counts: Sequence[int],
        device: torch.device,
        layout: Layout,
    ) -> ExitsObjective:
        """As for the task; ``ConfigError`` for a model without exits."""
        if all(parameter.name != FIRST_EXIT for parameter in layout.parameters):
            raise _no_exits()
        task = TaskObjective.create(options, class_counts, device, layout)
        return cls(task, Distillation.from_data(options))

    @property
    def absent(self) -> Tensor | None:
        """Classes that this peer's training leaves alone."""
        return self._task.absent

    @property
    def labelled(self) -> bool:
        """The task needs labels."""
        return self._task.labelled

    def at(self, round_index: int) -> None:
        """Which round begins next."""
        self._distils = round_index >= self._settings.distill_from

    def begin(
        self, module: nn.Module, split: Split, generator: torch.Generator
    ) -> tuple[Split, ...]:
        """Nothing runs beside the module."""
        if not isinstance(module, Exiting):
            raise _no_exits()
        return ()

    def loss(self, module: nn.Module, inputs: Tensor, targets: Tensor) -> Tensor:
        """The sum of all exits' mean losses."""
        assert isinstance(module, Exiting)
        *shallow, deepest = module.answers(inputs)
        loss = self._task.loss_of(deepest, targets)
        for logits in shallow:
            loss = loss + self._task.loss_of(logits, targets)
            if self._distils and self._settings.weight:
                term = distillation(deepest.detach(), logits, self._settings)
                loss = loss + self._settings.weight * term
        return loss

    def after_step(self, module: nn.Module) -> None:
        """Nothing follows the module."""

    def end(self, module: nn.Module, split: Split) -> None:
        """Nothing is remembered."""


def distillation(teacher: Tensor, logits: Tensor, settings: Distillation) -> Tensor:
    """T^2 KL(teacher || exit) of logits (B, classes) both."""
    heat = settings.temperature
    divergence = functional.kl_div(
        (logits / heat).log_softmax(-1),
        (teacher / heat).softmax(-1),
        reduction="batchmean",
    )
    return heat**2 * divergence / (1 if settings.per_sample else logits.shape[-1])


def _no_exits() -> ConfigError:
    return ConfigError(
        "the objective 'exits' needs a model with exits", hint="vit-units has them"
    )
