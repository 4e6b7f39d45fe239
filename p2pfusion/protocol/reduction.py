"""What a peer averages in a round, and whom it waits for before it divides."""

from __future__ import annotations

from dataclasses import dataclass, field

from p2pfusion.split.keeping import Cells


@dataclass
class Reduction:
    """Ranges that this peer averages; ``pending`` are the sources still awaited."""

    instead_of: str
    pending: set[str]
    own_pending: bool
    is_unlisted: bool = False
    """Whether it is not known yet which contributions count (``closing.py``)."""
    closed: bool = False
    came: set[str] = field(default_factory=set)
    """Whose whole contributions have arrived, lacking nothing."""
    keeping: dict[str, Cells] | None = None
    """Where nobody contributed: whom it has asked for which older values, not yet
    here; None before it has looked."""
    asked: set[str] = field(default_factory=set)
    """Who has answered that."""

    @property
    def waits(self) -> bool:
        """Whether a contribution is still to come."""
        awaits = self.pending or self.own_pending or self.keeping
        return bool(awaits) or self.is_unlisted
