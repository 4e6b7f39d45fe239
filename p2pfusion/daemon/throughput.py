"""How much a peer takes in from here: chunks of noise, by the way that values take.

They are sealed, framed and queued as the chunks of a stream are, in turn with those
that rounds send, and under the same cap. Their numbers belong to no stream: whoever
opens one says with ``Credit`` how far it has come, and forgets it. So what is measured
ends at the other side's memory. It needs no message of its own; a daemon of an earlier
version takes such a chunk for one of a stream that was given up, and says nothing.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

from p2pfusion.daemon.arguments import number
from p2pfusion.daemon.control import Request
from p2pfusion.daemon.echo import FIRST_NUMBER, asked_peer
from p2pfusion.daemon.outbox import Piece
from p2pfusion.errors import ConflictError
from p2pfusion.limits import CHUNK_BYTES, CREDIT_CHUNKS
from p2pfusion.protocol.messages import Chunk, Credit, StreamStart

if TYPE_CHECKING:
    from p2pfusion.daemon.node import Node

FIRST_BYTES = 64 * 1024
"""Of the first chunk; they double with each that has come, so that a slow line is not
full for a minute with what a fast one takes in a blink."""

MAX_SECONDS = 60.0
PATIENCE_S = 20.0
"""After the last sign of what is under way: a chunk on the slowest line that a cap can
make takes four seconds."""


@dataclass
class Measurement:
    """Chunks to one peer, for some seconds."""

    request: Request
    peer: str
    number: int
    noise: memoryview
    begun_at: float
    ends_at: float
    heard_at: float
    size: int = FIRST_BYTES
    sent: int = 0
    arrived: int = 0
    under_way: dict[int, int] = field(default_factory=dict)
    """Sizes of the chunks that nothing is known of, by where each ends."""

    @property
    def has_room(self) -> bool:
        """Whether another chunk may be under way."""
        return len(self.under_way) < CREDIT_CHUNKS


class Throughput:
    """The measurement under way, if any; and the answers to those of others."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._measurement: Measurement | None = None
        self._number = FIRST_NUMBER

    def take(self, request: Request) -> None:
        """Begins to measure."""
        peer = asked_peer(self._node, request)
        self.check()
        if self._measurement is not None:
            raise ConflictError("a line is being measured already", hint="wait for it")
        seconds = min(max(number(request.arguments, "seconds", 5.0), 0.0), MAX_SECONDS)
        now = self._node.now()
        self._number += 1
        noise = memoryview(os.urandom(CHUNK_BYTES))
        self._measurement = Measurement(
            request, peer, self._number, noise, now, now + seconds, now
        )
        self._fill(self._measurement, now)

    def came(self, peer: str, chunk: Chunk) -> None:
        """A chunk that belongs to no stream: its sender hears that it is here."""
        if chunk.pull >= FIRST_NUMBER:
            limit = chunk.offset + chunk.payload.nbytes
            self._node.links.send(peer, Credit(chunk.pull, limit))

    def credited(self, peer: str, credit: Credit) -> None:
        """So much of what was sent is there."""
        found = self._measurement
        if found is None or (credit.pull, peer) != (found.number, found.peer):
            return
        if credit.limit not in found.under_way:
            return
        now = self._node.now()
        found.heard_at = now
        found.arrived += found.under_way[credit.limit]
        # They come in order: what was to come before is lost.
        rest = {end: s for end, s in found.under_way.items() if end > credit.limit}
        found.under_way = rest
        found.size = min(2 * found.size, CHUNK_BYTES)
        self._fill(found, now)

    def _fill(self, found: Measurement, now: float) -> None:
        while now < found.ends_at and found.has_room:
            chunk = Chunk(found.number, found.sent, found.noise[: found.size])
            send = partial(self._send, found.peer, chunk)
            outbox = self._node.streams.outbox
            outbox.add(Piece(found.peer, found.number, found.sent, send))
            found.sent += found.size
            found.under_way[found.sent] = found.size

    def _send(self, peer: str, chunk: Chunk, head: StreamStart | None) -> bool:
        assert head is None, "what is measured is no stream"
        return self._node.links.send(peer, chunk)

    def check(self) -> None:
        """Answers what is over."""
        found, now = self._measurement, self._node.now()
        if found is None:
            return
        is_over = now >= found.ends_at and not found.under_way
        if found.request.closed:
            self._end(found)
        elif is_over or now >= found.heard_at + PATIENCE_S:
            self._end(found)
            found.request.reply(self._outcome(found))

    def _end(self, found: Measurement) -> None:
        self._measurement = None
        self._node.streams.outbox.drop(found.peer, found.number)

    def deadline(self) -> float:
        """When ``check`` may have something to do, if nothing comes before."""
        found = self._measurement
        if found is None:
            return float("inf")
        patience = found.heard_at + PATIENCE_S
        return patience if self._node.now() >= found.ends_at else found.ends_at

    def _outcome(self, found: Measurement) -> dict[str, object]:
        seconds = found.heard_at - found.begun_at
        record = self._node.peer.gossip.facts.records[found.peer]
        return {
            "id": found.peer,
            "name": self._node.name_of(found.peer),
            "address": record.address,
            "sent_bytes": found.sent,
            "arrived_bytes": found.arrived,
            "seconds": seconds,
            "bytes_per_s": found.arrived / seconds if found.arrived else None,
            "encrypted": self._node.links.encrypted,
            "up_limit_bytes_per_s": self._node.profile.peer.up_limit,
        }
