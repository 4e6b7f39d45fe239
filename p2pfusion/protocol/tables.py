"""Getting the table of homes of a round that the others will begin.

Whoever catches up asks one peer for its table as of the beginning of the next round,
and waits for that round to begin there. If the table does not come, another peer is
asked, and when nobody's table helped, all are asked again.
"""

from __future__ import annotations

from p2pfusion.protocol.events import Effect
from p2pfusion.protocol.exchange import Exchange

TABLE_PATIENCE_S = 10.0
"""The others are in the round already, but the table of one does not come: after so
long another is asked. Three repetitions of a lost request fit."""

TABLE_PAUSE_S = 1.0
"""When nobody's table helped, everybody is asked again after this pause."""


class TableSearch:
    """Whom this peer has asked for a table, and for which round."""

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange
        self._claims = exchange.gossip.claims
        self.is_on = False
        """Whether a table is needed."""
        self.target = -1
        """The round whose table was asked for last."""
        self._asked: set[str] = set()
        self._ask_again_at = 0.0
        self._seen: tuple[int | None, float] = (None, 0.0)

    def begin(self) -> None:
        """A table is needed from now on."""
        self.is_on, self.target = True, -1
        self._exchange.table.cancel()

    def end(self) -> None:
        """No table is needed any more."""
        self.is_on = False
        self._exchange.table.cancel()

    def forgive(self) -> None:
        """Those that were of no help may be asked again."""
        self._asked.clear()

    def ask(self, seen: int, target: int, now: float) -> list[Effect]:
        """Asks for the table of a round, if none is on its way.

        ``seen``: the round that the others are in.
        """
        if now < self._ask_again_at or self._comes(seen, now):
            return []
        but = self._asked | self._exchange.gossip.quarantine.peers
        source = self._claims.furthest(seen + 1, now, but=but)
        if source is None:
            self._asked.clear()
            self._ask_again_at = now + TABLE_PAUSE_S
            return []
        self._asked.add(source)
        self.target = target
        self._seen = (0, now)
        return self._exchange.comes_in(source, target, now)

    def _comes(self, seen: int, now: float) -> bool:
        """Whether a table was asked for that may still come."""
        progress = self._exchange.table.received
        if progress is None:
            return False
        if seen < self.target or progress != self._seen[0]:
            self._seen = (progress, now)
        return now - self._seen[1] < TABLE_PATIENCE_S
