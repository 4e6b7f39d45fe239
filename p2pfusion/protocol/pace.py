"""How often a member may say something new of itself.

Whatever a member says of itself everybody verifies, keeps, and tells everybody else. An
honest one has something to say when it starts, joins, leaves, is slandered, or changes
what it trains: a few times in an hour. What comes faster waits: two peers compare their
facts every second, and then the newest of it comes again.
"""

from __future__ import annotations

BURST = 16
"""Records of one member at once: all that can happen to it in one moment, twice."""

PER_SECOND = 1.0
"""... and in the long run: as often as peers compare."""


class Pace:
    """One bucket of tokens for each member, by its public key."""

    def __init__(self) -> None:
        self._left: dict[bytes, tuple[float, float]] = {}

    def may(self, key: bytes, now: float) -> bool:
        """Whether a new record of this member is taken up."""
        return self._tokens(key, now) >= 1

    def spend(self, key: bytes, now: float) -> None:
        """One was taken up. Only then, so that nobody uses up what is another's with
        records that are not its own."""
        self._left[key] = (self._tokens(key, now) - 1, now)

    def _tokens(self, key: bytes, now: float) -> float:
        left, since = self._left.get(key, (float(BURST), now))
        return min(float(BURST), left + PER_SECOND * (now - since))
