"""Whose changes agree with whose, as far as this peer's own reductions tell.

Every peer judges by what it has reduced itself: how a change lies to those of others,
and to what its author has said before. Whoever it suspects it has caught once more in
each round (``outlying``); several such rounds are needed for quarantine.
"""

from __future__ import annotations

from collections.abc import Mapping

from p2pfusion.fusion.agreement import Agreement, Deviation
from p2pfusion.protocol.events import Caught


class Watching:
    """One account of all peers, kept for as long as the daemon runs."""

    def __init__(self) -> None:
        self._agreement = Agreement()

    def note(self, deviations: Mapping[str, Deviation]) -> list[Caught]:
        """What a sum of this peer has measured of those who contributed to it, and who
        of these is suspected."""
        for peer, deviation in deviations.items():
            self._agreement.note(peer, deviation)
        # Who is out leaves few behind, among whom it must not count as one of many.
        suspects = self._agreement.suspects(deviations.keys())
        told = "its changes are unlike the others', or not new: {:.1f} spreads"
        return [
            Caught(peer, "outlying", told.format(suspects[peer]))
            for peer in sorted(suspects)
        ]
