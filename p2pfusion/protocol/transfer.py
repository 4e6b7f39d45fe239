"""Streams: asked for by whoever needs them, bounded by credit, resumed after a loss.

A ``Pull`` is the needing side, a ``Serve`` the giving side. A request is idempotent: it
names the stream, the offset to go on from and the byte up to which the sender may go,
so it can be repeated whenever something seems lost, and the sender just continues from
there. A request may come long before the data: it waits at the serving side.

What a peer sends comes in order, over one connection. So while anything comes from it,
what it was asked for is still on its way, however slow the line is, and asking again
would only put a copy behind it. A gap, in turn, says at once that something is lost.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from p2pfusion.errors import RemoteProtocolError
from p2pfusion.limits import (
    CHECKPOINT_PIECE_BYTES,
    CHUNK_BYTES,
    CREDIT_CHUNKS,
    MAX_PARKED_REQUESTS_PER_PEER,
)
from p2pfusion.protocol.events import (
    Absorb,
    CloseSink,
    Effect,
    OpenSink,
    Send,
    SendChunk,
    SendStart,
    StopServing,
    StreamKey,
)
from p2pfusion.protocol.messages import (
    CHECKPOINT,
    NEVER,
    Chunk,
    Credit,
    Refusal,
    Request,
    StreamStart,
)
from p2pfusion.protocol.timing import LONG_AGO, NEVER_S

WAITING_RETRY_S = 5.0
"""A request that waits at the serving side is repeated at this interval: a lost one
costs so much, and a repeated one costs a hundred bytes."""

STALLED_RETRY_S = 2.0
"""A stream that has begun is asked for again when it stands still for so long and
nothing else comes from its sender, or when a part of it is certainly lost."""


def piece_bytes(hop: str) -> int:
    """How much of a stream of this kind travels at once."""
    return CHECKPOINT_PIECE_BYTES if hop == CHECKPOINT else CHUNK_BYTES


def window_bytes(hop: str) -> int:
    """How much of a stream of this kind may be on its way."""
    return CREDIT_CHUNKS * piece_bytes(hop)


@dataclass(slots=True)
class Pull:
    """One stream that this peer needs. ``total_bytes`` follows from the plan."""

    number: int
    stream: StreamKey
    digest: bytes
    total_bytes: int | None
    retry_at: float
    received: int = 0
    granted: int = 0
    opened: bool = False
    absent_count: int = 0
    """Parts that the sender has no values for, as the stream's head said."""
    absent: bytes = b""
    """Which parts those are."""
    is_broken: bool = False
    """Whether a part of it is lost: no patience makes it come."""
    asked_again: bool = False
    """Whether what comes was sent before the last repetition: nothing of that is here.
    """
    last_offset: int = -1
    """Of the last piece that came: within one copy of a stream they only grow."""

    def grant(self) -> None:
        """Lets the sender go on by a window from what is here."""
        self.granted = self.received + window_bytes(self.stream.hop)

    def request(self) -> Send:
        """The message that asks for what is still missing."""
        key = self.stream
        return Send(
            key.source,
            Request(
                self.number,
                key.hop,
                key.round_index,
                self.digest,
                key.instead_of,
                self.received,
                self.granted,
                key.asked,
                key.least,
            ),
        )


class Pulls:
    """All streams that this peer has asked for and not yet received."""

    def __init__(self, first_number: int) -> None:
        self._pulls: dict[int, Pull] = {}
        self.by_round: dict[int, dict[int, Pull]] = {}
        """The same by round and number; no round without any."""
        self._next_number = first_number
        self.retry_at = NEVER_S
        """When ``retry`` may have something to do; it never has before."""
        self._signs: dict[str, float] = {}

    def open(
        self,
        stream: StreamKey,
        digest: bytes,
        total_bytes: int | None,
        now: float,
        *,
        offset: int = 0,
    ) -> list[Effect]:
        """Asks for a stream. ``total_bytes`` None: the sender says, within limits.

        ``offset``: what is before is here already, from somebody else.
        """
        number = self._next_number
        self._next_number += 1
        pull = Pull(number, stream, digest, total_bytes, now + WAITING_RETRY_S, offset)
        pull.grant()
        self._pulls[number] = pull
        self.by_round.setdefault(stream.round_index, {})[number] = pull
        self.retry_at = min(self.retry_at, pull.retry_at)
        return [pull.request()]

    def find(self, number: int, peer: str) -> Pull | None:
        """The pull of that number, if that peer is its source."""
        pull = self._pulls.get(number)
        return pull if pull is not None and pull.stream.source == peer else None

    def sign(self, peer: str, now: float) -> None:
        """Something of this peer's came on the data plane, perhaps of no open pull."""
        if self._pulls:
            self._signs[peer] = now

    def started(
        self, pull: Pull, start: StreamStart, weight: float, now: float
    ) -> list[Effect]:
        """The stream's head came; a repeated one changes nothing."""
        if pull.total_bytes is not None and start.total_bytes != pull.total_bytes:
            raise RemoteProtocolError(
                f"stream {pull.stream.hop} announces {start.total_bytes} bytes, the "
                f"plan says {pull.total_bytes}",
                offence="stream",
            )
        pull.retry_at = now + STALLED_RETRY_S
        pull.is_broken = pull.asked_again = False
        self.retry_at = min(self.retry_at, pull.retry_at)
        if pull.opened:
            return []
        pull.opened = True
        pull.absent = start.absent
        pull.absent_count = int.from_bytes(start.absent, "big").bit_count()
        pull.total_bytes = start.total_bytes
        return [
            OpenSink(pull.number, pull.stream, weight, start.total_bytes, start.absent)
        ]

    def arrived(self, pull: Pull, chunk: Chunk, now: float) -> list[Effect]:
        """Bytes came. Those already here are passed over; a gap is asked for again."""
        if chunk.offset <= pull.last_offset:
            pull.asked_again = False
        pull.last_offset = chunk.offset
        if not pull.opened or pull.total_bytes is None:
            return self._miss(pull, now)
        size = chunk.payload.nbytes
        if chunk.offset + size > pull.total_bytes:
            text = "a stream is longer than announced"
            raise RemoteProtocolError(text, offence="stream")
        if chunk.offset != pull.received:
            return self._miss(pull, now) if chunk.offset > pull.received else []
        pull.received += size
        pull.retry_at, pull.is_broken = now + STALLED_RETRY_S, False
        effects: list[Effect] = [Absorb(pull.number, chunk.offset, chunk.payload)]
        if pull.received == pull.total_bytes:
            return [*effects, *self._close(pull, complete=True)]
        if pull.granted - pull.received <= window_bytes(pull.stream.hop) // 2:
            pull.grant()
            effects.append(Send(pull.stream.source, Credit(pull.number, pull.granted)))
        return effects

    def _miss(self, pull: Pull, now: float) -> list[Effect]:
        """What comes before this is lost, unless it is asked for anew already."""
        if not pull.asked_again:
            pull.is_broken = True
            pull.retry_at = min(pull.retry_at, now + STALLED_RETRY_S)
            self.retry_at = min(self.retry_at, pull.retry_at)
        return []

    def withdraw(self, pull: Pull) -> list[Effect]:
        """Asks for no more of a stream, before it is given up: what has not left yet
        would only be in the way of what comes next."""
        pull.granted = pull.received
        return [pull.request()]

    def cancel(self, pull: Pull) -> list[Effect]:
        """Gives a stream up."""
        return self._close(pull, complete=False)

    def _close(self, pull: Pull, *, complete: bool) -> list[Effect]:
        del self._pulls[pull.number]
        round_index = pull.stream.round_index
        of_round = self.by_round[round_index]
        del of_round[pull.number]
        if not of_round:
            del self.by_round[round_index]
        if not self._pulls:
            self._signs.clear()
        return [CloseSink(pull.number, complete)] if pull.opened else []

    def of_source(self, peer: str) -> list[Pull]:
        """The open pulls from one peer."""
        return [p for p in self._pulls.values() if p.stream.source == peer]

    def of_round(self, round_index: int) -> list[Pull]:
        """The open pulls of one round."""
        return list(self.by_round.get(round_index, {}).values())

    def of_hop(self, hop: str) -> list[Pull]:
        """The open pulls of one kind."""
        return [p for p in self._pulls.values() if p.stream.hop == hop]

    def retry(self, now: float) -> list[Effect]:
        """Asks again for what waits or stands still too long."""
        effects: list[Effect] = []
        for pull in self._pulls.values():
            if pull.retry_at > now:
                continue
            sign = self._signs.get(pull.stream.source, LONG_AGO)
            if not pull.is_broken and sign + STALLED_RETRY_S > now:
                pull.retry_at = sign + STALLED_RETRY_S
                continue
            pull.retry_at = now + WAITING_RETRY_S
            pull.is_broken, pull.asked_again = False, True
            pull.grant()
            effects.append(pull.request())
        instants = (pull.retry_at for pull in self._pulls.values())
        self.retry_at = min(instants, default=NEVER_S)
        return effects


@dataclass(slots=True)
class Serve:
    """One stream that another peer has asked for.

    ``planned_bytes`` is its length by the plan, once that has been looked up: whoever
    waits is looked at again with every event.
    """

    peer: str
    request: Request
    stream: StreamKey
    offset: int
    limit: int
    planned_bytes: int | None = None
    total_bytes: int | None = None
    samples: int = 0


class Serves:
    """All streams that others have asked for, ready or waiting."""

    def __init__(self) -> None:
        self._serves: dict[tuple[str, int], Serve] = {}
        self._waiting: dict[int, dict[tuple[str, int], Serve]] = {}
        self._of_peer: Counter[str] = Counter()

    def asked(self, peer: str, request: Request, stream: StreamKey) -> Serve | Refusal:
        """Notes a request, or a repetition of one; refuses one too many."""
        key = (peer, request.pull)
        known = self._serves.get(key)
        if known is None or known.stream != stream:
            if not self._has_room(peer):
                return Refusal(request.pull, "busy")
            if known is not None:
                self._forget(known)
            known = Serve(peer, request, stream, request.offset, request.limit)
            self._serves[key] = known
            self._waiting.setdefault(stream.round_index, {})[key] = known
            self._of_peer[peer] += 1
        known.offset, known.limit = request.offset, request.limit
        known.request = request
        return known

    def _has_room(self, peer: str) -> bool:
        """Whether a peer may ask for one stream more; ended ones give way."""
        if self._of_peer[peer] < MAX_PARKED_REQUESTS_PER_PEER:
            return True
        of_peer = [serve for serve in self._serves.values() if serve.peer == peer]
        ended = [serve for serve in of_peer if serve.offset == serve.total_bytes]
        for serve in ended:
            self._forget(serve)
        return bool(ended)

    def _forget(self, serve: Serve) -> None:
        key = (serve.peer, serve.request.pull)
        if self._serves.pop(key, None) is not None:
            self._of_peer[serve.peer] -= 1
            if not self._of_peer[serve.peer]:
                del self._of_peer[serve.peer]
        self._stop_waiting(serve)

    def _stop_waiting(self, serve: Serve) -> None:
        round_index = serve.stream.round_index
        waiting = self._waiting.get(round_index)
        if waiting is not None:
            waiting.pop((serve.peer, serve.request.pull), None)
            if not waiting:
                del self._waiting[round_index]

    def begin(
        self, serve: Serve, total_bytes: int, samples: int, base_round: int = NEVER
    ) -> list[Effect]:
        """The data is ready: send the head, then what the credit allows."""
        if serve.total_bytes is None:
            self._stop_waiting(serve)
        serve.total_bytes = total_bytes
        serve.samples = samples
        peer, pull = serve.peer, serve.request.pull
        start = SendStart(peer, pull, serve.stream, samples, base_round)
        return [start, *self._advance(serve)]

    def credit(self, peer: str, credit: Credit) -> list[Effect]:
        """The receiver has room up to a new byte."""
        serve = self._serves.get((peer, credit.pull))
        if serve is None or serve.total_bytes is None:
            return []
        serve.limit = max(serve.limit, credit.limit)
        return self._advance(serve)

    def _advance(self, serve: Serve) -> list[Effect]:
        effects: list[Effect] = []
        assert serve.total_bytes is not None
        # However much credit a peer claims, no more than a window is queued at once.
        piece = piece_bytes(serve.stream.hop)
        window = serve.offset + CREDIT_CHUNKS * piece
        end = min(serve.limit, serve.total_bytes, window)
        while serve.offset < end:
            size = min(piece, end - serve.offset)
            effects.append(
                SendChunk(
                    serve.peer, serve.request.pull, serve.stream, serve.offset, size
                )
            )
            serve.offset += size
        return effects

    def waiting(self, round_index: int) -> list[Serve]:
        """Requests of one round whose data was not ready so far."""
        return list(self._waiting.get(round_index, {}).values())

    def withdrawn(self, peer: str, request: Request) -> list[Effect]:
        """Nobody wants this stream any more."""
        serve = self._serves.get((peer, request.pull))
        return [] if serve is None else self.drop(serve)

    def drop(self, serve: Serve) -> list[Effect]:
        """Forgets a request."""
        self._forget(serve)
        return [StopServing(serve.peer, serve.request.pull)]

    def drop_where(self, *, peer: str = "", before: int = -1) -> list[Effect]:
        """Forgets all requests of a peer, or of the rounds before one."""
        gone = [
            s
            for s in self._serves.values()
            if s.peer == peer or s.stream.round_index < before
        ]
        return [effect for serve in gone for effect in self.drop(serve)]

    def __iter__(self) -> Iterator[Serve]:
        return iter(list(self._serves.values()))
