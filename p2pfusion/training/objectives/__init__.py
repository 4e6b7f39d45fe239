"""Objectives: what a peer minimises on its own data, and their table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

import torch
from torch import Tensor, nn

from p2pfusion.errors import ConfigError
from p2pfusion.training.objectives.task import TaskObjective

__all__ = ["OBJECTIVES", "Objective", "create_objective"]


class Objective(Protocol):
    """A loss on one batch."""

    @property
    def absent(self) -> Tensor | None:
        """Classes that this peer's training leaves alone, as a mask; None: no class."""
        ...

    def loss(self, module: nn.Module, inputs: Tensor, targets: Tensor) -> Tensor:
        """Mean loss over the batch's targets, a scalar with gradient."""
        ...


OBJECTIVES = {
    "task": TaskObjective,
}


def create_objective(
    options: Mapping[str, object], class_counts: Sequence[int], device: torch.device
) -> Objective:
    """The objective that the manifest's options name (``task`` without a name)."""
    unknown = set(options) - {"name", "label_mask", "logit_adjustment"}
    if unknown:
        raise ConfigError(f"objective.{min(unknown)}: unknown key")
    name = options.get("name", "task")
    if name not in OBJECTIVES:
        raise ConfigError(
            f"objective.name: {name!r} is unknown",
            hint=f"known objectives: {', '.join(OBJECTIVES)}",
        )
    return OBJECTIVES[str(name)].create(options, class_counts, device)
