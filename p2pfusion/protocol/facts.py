"""Membership facts, and the roster as their fold.

Facts merge by union, in any order and any number of times, to the same set: of two
records of one peer the newer counts, of two starts the first in order (a founder makes
only one). ``roster(epoch)`` is a pure function of the facts, so peers with equal facts
have equal rosters without any agreement protocol. A fact counts from an epoch that lies
at least one full epoch ahead, so that it has reached everybody before it matters.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from fractions import Fraction

from p2pfusion.errors import ConfigError, RemoteProtocolError
from p2pfusion.limits import MAX_ROSTER
from p2pfusion.methods.base import Member, split_fraction
from p2pfusion.protocol.messages import BEFORE_START, Facts, PeerRecord

MAX_START_BYTES = 40 * 1024
MAX_RECORDS_BYTES = 20 * 1024
"""Together, with their heads, they fit a control frame of 64 KiB."""


class FactSet:
    """Everything this peer knows about who belongs to the swarm."""

    def __init__(self) -> None:
        self.records: dict[str, PeerRecord] = {}
        self.start: tuple[str, ...] = ()
        self._fractions: dict[str, Fraction] = {}
        self._digest: bytes | None = None

    def merge(self, facts: Facts) -> tuple[PeerRecord, ...]:
        """Adds what is new; returns the records that changed something.

        Raises ``RemoteProtocolError`` for a record that no honest peer can have made;
        nothing of the message is then kept.
        """
        fractions = {record.peer: _fraction(record) for record in facts.records}
        new = tuple(r for r in facts.records if self._is_newer(r))
        known = len(self.records.keys() | {record.peer for record in new})
        if known > MAX_ROSTER:
            raise RemoteProtocolError("more members than this version allows")
        if new:
            self._digest = None
        for record in new:
            self.records[record.peer] = record
            self._fractions[record.peer] = fractions[record.peer]
        return new

    def merge_start(self, start: Iterable[str]) -> bool:
        """Adds the founder's list of first members; True if that was news.

        Raises ``RemoteProtocolError`` for one that would not fit our own messages.
        """
        members = tuple(sorted(set(start)))
        if not members or (self.start and self.start <= members):
            return False
        if _start_bytes(members) > MAX_START_BYTES:
            raise RemoteProtocolError("a list of first members is too long")
        self.start, self._digest = members, None
        return True

    def _is_newer(self, record: PeerRecord) -> bool:
        known = self.records.get(record.peer)
        return known is None or record.age > known.age

    def roster(self, epoch: int) -> tuple[Member, ...]:
        """The members of an epoch, ordered by rank: (join epoch, peer id)."""
        joined = sorted(
            (self.join_epoch(record), record.peer)
            for record in self.records.values()
            if self.join_epoch(record) is not None
            and (self.join_epoch(record) or 0) <= epoch
        )
        return tuple(Member(peer, self._fractions[peer]) for _, peer in joined)

    def join_epoch(self, record: PeerRecord) -> int | None:
        """The epoch from which a peer counts; None while it waits for the start."""
        if record.peer in self.start:
            return 0
        return None if record.join_epoch == BEFORE_START else record.join_epoch

    @property
    def digest(self) -> bytes:
        """Sixteen bytes that name this set of facts."""
        if self._digest is None:
            lines = [repr(self.records[peer]) for peer in sorted(self.records)]
            text = "\n".join([*lines, *self.start])
            self._digest = hashlib.sha256(text.encode()).digest()[:16]
        return self._digest

    def messages(self) -> list[Facts]:
        """All facts, in messages that fit a control frame."""
        return self.news(self.records[peer] for peer in sorted(self.records))

    def news(self, records: Iterable[PeerRecord]) -> list[Facts]:
        """Some records and the start, in messages that fit a control frame."""
        batches: list[list[PeerRecord]] = [[]]
        size = 0
        for record in records:
            size += _record_bytes(record)
            if size > MAX_RECORDS_BYTES:
                batches.append([])
                size = _record_bytes(record)
            batches[-1].append(record)
        return [Facts(tuple(batch), self.start) for batch in batches]


def _start_bytes(members: tuple[str, ...]) -> int:
    """An upper bound of a start's length on the wire."""
    return sum(len(peer.encode()) + 5 for peer in members)


def _record_bytes(record: PeerRecord) -> int:
    """An upper bound of a record's length on the wire."""
    texts = (record.peer, record.name, record.host, record.split_fraction)
    return sum(len(text.encode()) + 5 for text in texts) + 5 * 9 + 5


def _fraction(record: PeerRecord) -> Fraction:
    try:
        return split_fraction(record.split_fraction, f"record of {record.name!r}")
    except ConfigError as error:
        raise RemoteProtocolError(str(error)) from None
