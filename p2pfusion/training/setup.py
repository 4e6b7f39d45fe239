"""What stays the same over all rounds of one peer's trainer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from p2pfusion.errors import ConfigError
from p2pfusion.split.layout import Layout
from p2pfusion.training.data import DataOptions
from p2pfusion.training.descent import Optimiser
from p2pfusion.training.loop import Schedule
from p2pfusion.training.objectives import SELF_SUPERVISED
from p2pfusion.training.privacy import Privacy


@dataclass(frozen=True)
class Setup:
    """What stays the same over all rounds of one peer."""

    model: str
    layout: Layout
    seed: int
    schedule: Schedule
    data: DataOptions
    arguments: Mapping[str, object] = field(default_factory=dict)
    optimiser: Optimiser = field(default_factory=Optimiser)
    objective: Mapping[str, object] = field(default_factory=dict)
    vocabulary: Mapping[str, object] = field(default_factory=dict)
    """What tokens mean in the swarm; empty for images."""
    versions: Mapping[str, object] = field(default_factory=dict)
    """Packages from outside that the swarm's code is of, with their versions."""
    augment: str = "none"
    device: str = "cpu"
    processes: int = 1
    """How many train together, each its part of every batch."""
    precision: str = "float32"
    """What products are computed in."""
    checkpointing: bool = False
    """Whether activations are computed again for the backward pass, and not kept."""
    outer_momentum: float = 0.0
    past: Path | None = None
    """Where the outer momentum's memory is; whoever trains needs it if there is one."""
    depth_dropout: float = 0.0
    """The chance of each frozen block to be left out of a step."""
    changes: bool = False
    """Whether a round gives changes of what was received, in place of values."""
    summed: bool = False
    """Whether these changes are added, and not averaged as values are."""
    owed: Path | None = None
    """Where it is kept what earlier changes have lost on their way, if they do."""
    privacy: Privacy | None = None
    """How changes are clipped and noised, if they are."""


def check_together(setup: Setup) -> None:
    """``ConfigError`` for what is good by itself, and not together."""
    if setup.summed and setup.outer_momentum:
        raise ConfigError(
            "there is no outer momentum where changes are added",
            hint="leave out outer_momentum, or choose another method",
        )
    if setup.summed and setup.privacy:
        raise ConfigError(
            "[peer.privacy] does not go with a method that adds changes: what it lets "
            "peers find out and announce is not hidden",
            hint="leave the section out, or join another swarm",
        )
    if setup.processes > 1 and setup.privacy:
        raise ConfigError("[peer.privacy] goes with one process, not with several")
    in_parts = setup.schedule.parts > 1 or setup.processes > 1
    if in_parts and setup.objective.get("name") in SELF_SUPERVISED:
        raise ConfigError(
            f"the objective {setup.objective['name']!r} compares the records of a "
            "batch with each other: it cannot be computed in parts",
            hint="leave out accumulation and processes, or set a smaller batch",
        )
