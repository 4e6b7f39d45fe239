"""The contrastive objective: the task, and staying near what the swarm has agreed on.

    L = L_task + weight L_con
    L_con = -log( e(z, z+) / (e(z, z+) + sum over k of e(z, z-_k)) ),  mean over a batch
    e(a, b) = exp( cos(a, b) / temperature )

z: the sub-model's projected features of a record; z+: those of a frozen copy of the
sub-model as it was received when the round began; z-_k: those of this peer's sub-models
as it has trained them in its last ``previous`` rounds, each on the windows that it had
then. So a peer is drawn to the others' mean and away from where it was alone.

Source: MOON (Li et al., CVPR 2021, as its published code has it) in the reading of
MSfusion (arXiv 2407.03622) that ``docs/methods.md`` reconstructs.

Differs: MOON's projection is a network whose outputs the classifier reads; here it is a
linear layer beside the classifier, with all outputs in every sub-model, because two
windows share no features otherwise (``models/projection.py``).

A peer's past sub-models live in the trainer's memory alone. In its first round, and
in the first round of a trainer that was started again, there is none to stay away from:
such a round trains the task, and runs nothing beside it.
"""

from __future__ import annotations

import copy
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from p2pfusion.errors import ConfigError
from p2pfusion.limits import (
    MAX_CONTRAST_PREVIOUS,
    MAX_CONTRAST_TEMPERATURE,
    MAX_CONTRAST_WEIGHT,
    MIN_CONTRAST_TEMPERATURE,
)
from p2pfusion.split.layout import Layout
from p2pfusion.split.segment import Split
from p2pfusion.training.models.projection import NAME, Projecting
from p2pfusion.training.objectives.options import count, number
from p2pfusion.training.objectives.task import TaskObjective


class Frozen(NamedTuple):
    """A sub-model that is not trained any more, and what it was cut to."""

    module: Projecting
    split: Split


@dataclass(frozen=True)
class Contrast:
    """The options of the contrastive term."""

    weight: float = 1.0
    """Of the term, beside the task; 0 is the task alone."""
    temperature: float = 0.5
    """Similarities are divided by it: the smaller, the more the nearest counts."""
    previous: int = 1
    """How many past sub-models a peer stays away from."""

    @classmethod
    def from_data(cls, options: Mapping[str, object]) -> Contrast:
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
            count(options, "previous", MAX_CONTRAST_PREVIOUS, cls.previous),
        )


class ContrastiveObjective:
    """The task's loss and the contrast; remembers what this peer has trained."""

    def __init__(self, task: TaskObjective, settings: Contrast) -> None:
        self._task = task
        self._settings = settings
        self._past: deque[Frozen] = deque(maxlen=settings.previous)
        self._others: tuple[Frozen, ...] = ()
        """Of the present round: the one that attracts, then those that repel."""

    @classmethod
    def create(
        cls,
        options: Mapping[str, object],
        class_counts: Sequence[int],
        device: torch.device,
        layout: Layout,
    ) -> ContrastiveObjective:
        """As for the task; ``ConfigError`` for a model without a projection."""
        if all(p.name != f"{NAME}.weight" for p in layout.parameters):
            raise _no_projection()
        task = TaskObjective.create(options, class_counts, device, layout)
        return cls(task, Contrast.from_data(options))

    @property
    def absent(self) -> Tensor | None:
        """Classes that this peer's training leaves alone."""
        return self._task.absent

    @property
    def labelled(self) -> bool:
        """The task needs labels."""
        return self._task.labelled

    def begin(
        self, module: nn.Module, split: Split, generator: torch.Generator
    ) -> tuple[Split, ...]:
        """A round begins: copies the sub-model as it was received."""
        if not isinstance(module, Projecting) or module.projection is None:
            raise _no_projection()
        self._others = ()  # of a round that failed
        if self._past:
            self._others = (_frozen(module, split), *self._past)
        return tuple(other.split for other in self._others)

    def loss(self, module: nn.Module, inputs: Tensor, targets: Tensor) -> Tensor:
        """The task's mean loss, and the weighted mean contrast of the batch."""
        if not self._others:
            return self._task.loss(module, inputs, targets)
        assert isinstance(module, Projecting)
        last = module.last(inputs)
        task = self._task.loss_of(module.logits(last), targets)
        others = [projected(other.module, inputs) for other in self._others]
        term = contrast(module.project(last), others, self._settings.temperature)
        return task + self._settings.weight * term

    def after_step(self, module: nn.Module) -> None:
        """What stands beside the module does not move."""

    def end(self, module: nn.Module, split: Split) -> None:
        """A round has been trained: keeps what came of it for the next ones."""
        self._others = ()
        if not self._settings.weight:
            return
        if len(self._past) == self._settings.previous:
            self._past.popleft()  # first, so that no more copies live than are counted
        assert isinstance(module, Projecting)
        self._past.append(_frozen(module, split))


def contrast(own: Tensor, others: Sequence[Tensor], temperature: float) -> Tensor:
    """L_con of projected features (B, P); the first of the others attracts."""
    similarities = [functional.cosine_similarity(own, z) for z in others]
    scores = torch.stack(similarities, dim=1) / temperature  # (B, others)
    return -scores.log_softmax(1)[:, 0].mean()


@torch.no_grad()
def projected(module: Projecting, inputs: Tensor) -> Tensor:
    """A frozen sub-model's projected features, (B, P)."""
    return module.project(module.last(inputs))


def _frozen(module: Projecting, split: Split) -> Frozen:
    return Frozen(copy.deepcopy(module).requires_grad_(False), split)


def _no_projection() -> ConfigError:
    return ConfigError(
        "the objective 'contrastive' needs a model with a projection",
        hint="set the model argument projection, for example to 64",
    )
