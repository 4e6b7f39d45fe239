"""The events and effects about the checkpoint that a swarm begins with."""

from __future__ import annotations

from dataclasses import dataclass, field

# --- Events --------------------------------------------------------------------------


@dataclass(frozen=True)
class LacksCheckpoint:
    """The manifest names a checkpoint that is not here: there is no store before."""


@dataclass(frozen=True)
class HasCheckpoint:
    """The store has the checkpoint, which has so many bytes."""

    total_bytes: int


@dataclass(frozen=True)
class BadCheckpoint:
    """What came is not the checkpoint, or could not be kept."""


# --- Effects -------------------------------------------------------------------------


@dataclass(frozen=True)
class KeepCheckpoint:
    """Bytes of the checkpoint, in order; from offset 0 on it begins anew."""

    offset: int
    total_bytes: int
    payload: memoryview = field(compare=False, repr=False)


@dataclass(frozen=True)
class CheckCheckpoint:
    """All bytes are here: make the store with them, if they are the right ones."""


@dataclass(frozen=True)
class NoCheckpoint:
    """Nobody can give the checkpoint."""
