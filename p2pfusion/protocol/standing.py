"""Where a peer stands in its swarm, and where it could go on by itself."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from p2pfusion.split.homes import Homes


class Standing(StrEnum):
    """Where this peer stands in the swarm."""

    NO_SWARM = "no swarm"
    WAITING = "waiting"
    CATCHING_UP = "catching up"
    RUNNING = "running"
    PAUSED = "paused"
    """In a part of the swarm that is too small to go on by itself."""
    DONE = "done"
    DRAINED = "drained"
    """In no round any more, because it was asked to end."""
    LEFT = "left"
    """In no roster any more, by its own wish."""


RUNNING, DONE = Standing.RUNNING, Standing.DONE
"""The two that are asked for after every event, where an enumeration is slow."""


@dataclass(frozen=True)
class Own:
    """Where a peer could go on by itself: a round, and its table of homes.

    It does if nobody is beyond ``limit``, and not before ``alone_at``.
    """

    next_round: int
    homes: Homes
    limit: int
    alone_at: float
    lacks_quorum: bool = False
    """Too few of the others are there, and the time has come."""
