"""Ending without loss: no further round, and everything served that was asked for.

Whoever drains enters no round after the present one. Others have asked for all that
they need of that round when it began; when they have got it, nobody misses this peer
before they notice that it is gone.
"""

from __future__ import annotations

from p2pfusion.protocol.events import Effect, Report
from p2pfusion.protocol.exchange import Exchange
from p2pfusion.protocol.timing import NEVER_S

DRAIN_PATIENCE_S = 30.0
"""A request may never be taken up again: whoever made it has given it up, or is gone.
So long after its last round a peer waits for such ones."""


class Draining:
    """Whether this peer shall end, and whether anybody still waits for it."""

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange
        self.is_wanted = False
        """Whether it shall end after the present round."""
        self._since: float | None = None
        self._is_said = False
        self.ends_at = NEVER_S
        """When patience ends."""

    def look(self, now: float, *, is_idle: bool) -> list[Effect]:
        """Says, once, that nothing is left to do. ``is_idle``: it is in no round."""
        if self._is_said or not is_idle:
            return []
        if self._since is None:
            self._since, self.ends_at = now, now + DRAIN_PATIENCE_S
        if now < self.ends_at and self._exchange.owes():
            return []
        self._is_said, self.ends_at = True, NEVER_S
        return [Report("drained", {"waited_s": now - self._since})]

    def again(self) -> None:
        """This peer is in rounds (once more)."""
        self._since, self._is_said, self.ends_at = None, False, NEVER_S
