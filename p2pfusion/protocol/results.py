"""The events about the own work: what the trainer gave, what was fused of it."""

from __future__ import annotations

from dataclasses import dataclass

from p2pfusion.protocol.values import value


@value
class TrainingFinished:
    """The trainer's offer of this round is on disk."""

    round_index: int
    samples: int
    loss: float
    norm: float
    seconds: float
    l1: float = 0.0
    """The sum of the magnitudes of what training has changed."""


@dataclass(frozen=True)
class TrainingFailed:
    """The trainer produced nothing usable for this round."""

    round_index: int
    reason: str


@dataclass(frozen=True)
class Announced:
    """The trainer has found out what this peer is to announce."""

    announced: bytes


@value
class Moved:
    """What this peer has fused in a round differs from before by so much, as a sum of
    magnitudes."""

    round_index: int
    l1: float
