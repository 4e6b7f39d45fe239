"""Objectives: what a peer minimises on its own data, and their table."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from typing import Protocol

import torch
from torch import Tensor, nn

from p2pfusion.errors import ConfigError
from p2pfusion.split.layout import Layout
from p2pfusion.split.segment import Split
from p2pfusion.training.objectives.contrastive import Contrast, ContrastiveObjective
from p2pfusion.training.objectives.task import TaskObjective

__all__ = ["OBJECTIVES", "Objective", "create_objective"]

Options = Mapping[str, object]


class Objective(Protocol):
    """A loss on one batch after another, and what it remembers between rounds.

    A round is ``begin``, any number of losses, and ``end`` if it came to its end; after
    a round that failed comes the next ``begin``.
    """

    @property
    def absent(self) -> Tensor | None:
        """Classes that this peer's training leaves alone, as a mask; None: no class."""
        ...

    def begin(self, module: nn.Module, split: Split) -> tuple[Split, ...]:
        """A round begins, and the module of this split has the values as received.

        The splits of the sub-models that run beside it in every step of the round,
        frozen: what they cost is counted.
        """
        ...

    def loss(self, module: nn.Module, inputs: Tensor, targets: Tensor) -> Tensor:
        """Mean loss over the batch's targets, a scalar with gradient."""
        ...

    def end(self, module: nn.Module, split: Split) -> None:
        """The round's last step is done. The module's values may change afterwards."""
        ...


Create = Callable[[Options, Sequence[int], torch.device, Layout], Objective]

OBJECTIVES: dict[str, Create] = {
    "contrastive": ContrastiveObjective.create,
    "task": TaskObjective.create,
}

_COMMON = ("name", "label_mask", "logit_adjustment")
_OPTIONS = {"contrastive": [f.name for f in fields(Contrast)], "task": []}


def create_objective(
    options: Options,
    class_counts: Sequence[int],
    device: torch.device,
    layout: Layout,
) -> Objective:
    """The objective that the manifest's options name (``task`` without a name)."""
    name = options.get("name", "task")
    if name not in OBJECTIVES:
        raise ConfigError(
            f"objective.name: {name!r} is unknown",
            hint=f"known objectives: {', '.join(OBJECTIVES)}",
        )
    unknown = set(options) - {*_COMMON, *_OPTIONS[str(name)]}
    if unknown:
        raise ConfigError(f"objective.{min(unknown)}: unknown key")
    return OBJECTIVES[str(name)](options, class_counts, device, layout)
