"""Stages: rounds in which more and more of a model's layers are there.

A model of L blocks between its input layer and its head is trained in ``L / k`` stages
of equally many rounds; stage s has the first ``s k`` blocks. New blocks begin as the
manifest's seed says, at every peer alike, so nobody has to send them.
"""

from __future__ import annotations

from dataclasses import dataclass

from p2pfusion.errors import ConfigError
from p2pfusion.methods.base import PlanContext
from p2pfusion.split.layout import Layout

MAX_LAYERS_PER_STAGE = 256


@dataclass(frozen=True)
class Stage:
    """Blocks from the first new one to the last, counted from 1."""

    first: int
    last: int


def check_layers_per_stage(value: object) -> None:
    """``ConfigError`` for what is no number of layers."""
    whole = isinstance(value, int) and not isinstance(value, bool)
    if not whole or not 1 <= value <= MAX_LAYERS_PER_STAGE:  # type: ignore[operator]
        raise ConfigError(
            f"layers_per_stage: not a whole number from 1 to {MAX_LAYERS_PER_STAGE}"
        )


def block_count(layout: Layout) -> int:
    """Layers between the first, the input's, and the last, the head's."""
    return max(0, len(layout.layers) - 2)


def stage_count(layout: Layout, layers_per_stage: int) -> int:
    """How many stages a model has; the last may be shorter than the others."""
    return max(1, -(-block_count(layout) // layers_per_stage))


def stage_of(context: PlanContext, round_index: int, layers_per_stage: int) -> Stage:
    """The stage of a round; what comes after the last round is in the last stage.

    ``floor(t S / R)`` of round t of R: stages that are as equal as they can be.
    """
    blocks = block_count(context.layout)
    stages = stage_count(context.layout, layers_per_stage)
    number = min(round_index * stages // max(1, context.rounds), stages - 1)
    last = min((number + 1) * layers_per_stage, blocks)
    return Stage(number * layers_per_stage + 1, last)
