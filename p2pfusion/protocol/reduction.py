"""What a peer averages in a round, and whom it waits for before it divides."""

from __future__ import annotations

from collections.abc import Container
from dataclasses import dataclass, field

from p2pfusion.split.hops import CONTRIBUTION, SEEDS
from p2pfusion.split.keeping import Cells

BY_HOLDERS = (CONTRIBUTION, SEEDS)
"""What reducers get of those who train."""


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
    opening: set[str] | None = None
    """Where contributions are masked: whose seeds are still to come; None before they
    were asked for."""
    keeping: dict[str, Cells] | None = None
    """Where nobody contributed: whom it has asked for which older values, not yet
    here; None before it has looked."""
    asked: set[str] = field(default_factory=set)
    """Who has answered that."""

    @property
    def waits(self) -> bool:
        """Whether a contribution is still to come."""
        awaits = self.pending or self.own_pending or self.opening or self.keeping
        return bool(awaits) or self.is_unlisted

    def arrived(self, hop: str, source: str, *, whole: bool) -> None:
        """A holder's contribution has come, lacking nothing if ``whole``; or what opens
        it."""
        self.gave_up(source)
        if whole and hop == CONTRIBUTION:
            self.came.add(source)

    def gave_up(self, source: str) -> None:
        """Nothing (more) comes of this holder."""
        self.pending.discard(source)
        if self.opening is not None:
            self.opening.discard(source)

    def forget(self, source: str) -> None:
        """A holder of a masked contribution is gone: if it comes back, it does so with
        other seeds."""
        if self.opening is None:
            self.came.discard(source)

    def waits_for(self, offered: Container[str]) -> dict[str, str]:
        """Who is awaited, and for what; ``offered``: who has said it is ready."""
        waits: dict[str, str] = {}
        for peer in sorted(self.pending):
            waits[peer] = "its contribution" if peer in offered else "its offer"
        for peer in sorted(self.opening or ()):
            waits[peer] = "the seeds of its masks"
        for peer in self.keeping or ():
            waits[peer] = "older values of what nobody trained"
        return waits
