"""The table of homes on its way here, from one peer at a time.

A newcomer needs it before it can plan, so it belongs to no round, and its bytes concern
nobody else.
"""

from __future__ import annotations

from p2pfusion.errors import RemoteProtocolError
from p2pfusion.limits import MAX_TABLE_BYTES
from p2pfusion.protocol.events import Absorb, CloseSink, Effect, OpenSink, StreamKey
from p2pfusion.protocol.messages import TABLE
from p2pfusion.protocol.transfer import Pulls

NO_DIGEST = bytes(16)
"""A table of homes is asked for before its plan is known."""


class TablePull:
    """The table that was asked for, if any, as far as it is here."""

    def __init__(self, pulls: Pulls, me: str) -> None:
        self._pulls = pulls
        self._me = me
        self._arrived = bytearray()
        self._complete: bytes | None = None

    def begin(self, source: str, round_index: int, now: float) -> list[Effect]:
        """Asks a peer for its table as of the beginning of a round."""
        self.cancel()
        stream = StreamKey(TABLE, round_index, source, self._me)
        return self._pulls.open(stream, NO_DIGEST, None, now)

    def cancel(self) -> None:
        """Drops the table that is being pulled, if any."""
        for pull in self._pulls.of_hop(TABLE):
            self._pulls.cancel(pull)
        self._arrived.clear()
        self._complete = None

    @property
    def source(self) -> str | None:
        """The peer that was asked for its table and has not sent it yet."""
        return next((p.stream.source for p in self._pulls.of_hop(TABLE)), None)

    @property
    def round_index(self) -> int:
        """The round at whose beginning this peer will come in; -1 if none."""
        return next((p.stream.round_index for p in self._pulls.of_hop(TABLE)), -1)

    @property
    def received(self) -> int | None:
        """Bytes here of the table that was asked for; None if none is awaited."""
        return next((p.received for p in self._pulls.of_hop(TABLE)), None)

    def took(self, effects: list[Effect]) -> list[Effect]:
        """Takes the table's bytes out of the effects: they concern nobody else.

        ``RemoteProtocolError`` for one that is too long.
        """
        rest: list[Effect] = []
        for effect in effects:
            if isinstance(effect, OpenSink):
                if effect.total_bytes > MAX_TABLE_BYTES:
                    self.cancel()
                    raise RemoteProtocolError("a table of homes is too long")
            elif isinstance(effect, Absorb):
                self._arrived += effect.payload
            elif isinstance(effect, CloseSink):
                self._complete = bytes(self._arrived)
            else:
                rest.append(effect)
        return rest

    def take(self) -> bytes | None:
        """The table, once it is complete, once."""
        table, self._complete = self._complete, None
        return table
