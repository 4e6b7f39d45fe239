"""Streams: credit, offsets, repetition; over a lossy line, against what was sent."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pfusion.errors import RemoteProtocolError
from p2pfusion.limits import CHUNK_BYTES, MAX_PARKED_REQUESTS_PER_PEER
from p2pfusion.protocol import events as e
from p2pfusion.protocol.messages import Chunk, Credit, Refusal, Request, StreamStart
from p2pfusion.protocol.transfer import (
    STALLED_RETRY_S,
    WAITING_RETRY_S,
    Pull,
    Pulls,
    Serve,
    Serves,
    window_bytes,
)

KEY = e.StreamKey("fused", 3, "b", "a")
WINDOW_BYTES = window_bytes(KEY.hop)
DIGEST = bytes(16)


def opened(total: int | None) -> tuple[Pulls, Pull]:
    pulls = Pulls(1)
    pulls.open(KEY, DIGEST, total, 0.0)
    (pull,) = pulls.of_source("b")
    return pulls, pull


def asked(serves: Serves, *, pull: int = 1, offset: int = 0, limit: int = 1) -> Serve:
    request = Request(pull, "fused", 3, DIGEST, "", offset, limit)
    serve = serves.asked("a", request, KEY)
    assert isinstance(serve, Serve)
    return serve


class Line:
    """One pull and one serve with messages between them that may get lost."""

    def __init__(self, total: int, *, loss: float, seed: int) -> None:
        self.total, self.now = total, 0.0
        self.pulls, self.serves = Pulls(1), Serves()
        self._loss, self._random = loss, random.Random(seed)
        self.received = bytearray()
        self.most_in_flight = 0
        self.done = False
        self.to_serve = self._sent(self.pulls.open(KEY, DIGEST, total, 0.0))

    def _sent(self, effects: list[e.Effect]) -> list[Request | Credit]:
        for effect in effects:
            if isinstance(effect, e.Absorb):
                assert effect.offset == len(self.received)
                self.received += effect.payload
            if isinstance(effect, e.CloseSink):
                assert effect.complete
                self.done = True
        messages = [x.message for x in effects if isinstance(x, e.Send)]
        return [m for m in messages if self._random.random() >= self._loss]

    def step(self) -> None:
        """Everything that is under way arrives; then time passes if nothing did."""
        effects: list[e.Effect] = []
        for message in self.to_serve:
            if isinstance(message, Request):
                serve = self.serves.asked("a", message, KEY)
                assert isinstance(serve, Serve)
                effects += self.serves.begin(serve, self.total, 5)
            else:
                effects += self.serves.credit("a", message)
        self.to_serve = []
        for effect in effects:
            self._arrive(effect)
        if not self.to_serve and not self.done:
            self.now = self.pulls.retry_at if self.pulls.by_round else self.now
            self.to_serve = self._sent(self.pulls.retry(self.now))

    def _arrive(self, effect: e.Effect) -> None:
        pull = self.pulls.find(1, "b")
        if isinstance(effect, e.SendChunk) and pull is not None:
            in_flight = effect.offset + effect.size - pull.received
            self.most_in_flight = max(self.most_in_flight, in_flight)
        if pull is None or self._random.random() < self._loss:
            return
        if isinstance(effect, e.SendStart):
            head = StreamStart(1, self.total, 5, b"")
            self.to_serve += self._sent(self.pulls.started(pull, head, 1.0, self.now))
        elif isinstance(effect, e.SendChunk):
            data = bytes((effect.offset // CHUNK_BYTES + 1) % 256 for _ in range(1))
            chunk = Chunk(1, effect.offset, memoryview(data * effect.size))
            self.to_serve += self._sent(self.pulls.arrived(pull, chunk, self.now))


@pytest.mark.parametrize("chunks", [0.001, 1, 7.5, 8, 20.25])
@pytest.mark.parametrize("loss", [0.0, 0.2])
def test_every_byte_arrives_once_and_within_the_credit(
    chunks: float, loss: float
) -> None:
    total = int(chunks * CHUNK_BYTES)
    line = Line(total, loss=loss, seed=7)
    for _ in range(500):
        if not line.done:
            line.step()
    assert line.done
    expected = b"".join(
        bytes([at // CHUNK_BYTES + 1]) * min(CHUNK_BYTES, total - at)
        for at in range(0, total, CHUNK_BYTES)
    )
    assert bytes(line.received) == expected
    assert line.most_in_flight <= WINDOW_BYTES
    if not loss:
        assert line.now == 0.0, "nothing had to be asked for again"


def test_a_stream_goes_on_at_its_offset() -> None:
    pulls, pull = opened(3 * CHUNK_BYTES)
    pulls.started(pull, StreamStart(1, 3 * CHUNK_BYTES, 1, b""), 1.0, 1.0)
    pulls.arrived(pull, Chunk(1, 0, memoryview(bytes(CHUNK_BYTES))), 1.0)
    gap = Chunk(1, 2 * CHUNK_BYTES, memoryview(bytes(CHUNK_BYTES)))
    assert pulls.arrived(pull, gap, 1.1) == []
    assert pulls.retry(1.0 + STALLED_RETRY_S - 0.01) == []
    (again,) = pulls.retry(1.0 + STALLED_RETRY_S)
    assert isinstance(again, e.Send) and isinstance(again.message, Request)
    assert again.message.offset == CHUNK_BYTES
    assert again.message.limit == CHUNK_BYTES + WINDOW_BYTES
    serves = Serves()
    serve = asked(serves, offset=CHUNK_BYTES, limit=again.message.limit)
    effects = serves.begin(serve, 3 * CHUNK_BYTES, 1)
    assert [x.offset for x in effects if isinstance(x, e.SendChunk)] == [
        CHUNK_BYTES,
        2 * CHUNK_BYTES,
    ]


def begun(total: int) -> tuple[Pulls, Pull]:
    """A stream whose head has just come, at instant 0."""
    pulls, pull = opened(total)
    pulls.started(pull, StreamStart(1, total, 1, b""), 1.0, 0.0)
    return pulls, pull


def piece(offset: int, size: int = CHUNK_BYTES) -> Chunk:
    return Chunk(1, offset, memoryview(bytes(size)))


@pytest.mark.parametrize("has_head", [False, True])
def test_while_anything_comes_from_its_sender_nothing_is_asked_again(
    has_head: bool,
) -> None:
    pulls, _ = (begun if has_head else opened)(3 * CHUNK_BYTES)
    now = 0.0
    while now < 100.0:
        now += STALLED_RETRY_S / 2
        pulls.sign("b", now)
        pulls.sign("c", now + STALLED_RETRY_S)  # says nothing about b
        assert pulls.retry(now) == []
    assert pulls.retry_at == now + STALLED_RETRY_S or not has_head
    assert pulls.retry(now + STALLED_RETRY_S - 0.01) == []
    assert len(pulls.retry(now + STALLED_RETRY_S)) == 1


def test_what_is_lost_is_asked_again_though_bytes_come() -> None:
    pulls, pull = begun(9 * CHUNK_BYTES)
    pulls.arrived(pull, piece(CHUNK_BYTES), 1.0)
    pulls.sign("b", STALLED_RETRY_S)
    assert pulls.retry(STALLED_RETRY_S) == [pull.request()]


def test_of_an_old_copy_no_gap_counts_and_of_the_new_one_each_does() -> None:
    pulls, pull = begun(9 * CHUNK_BYTES)
    pulls.arrived(pull, piece(CHUNK_BYTES), 1.0)
    assert len(pulls.retry(2.0)) == 1
    now = 2.0
    for number in range(2, 6):  # the rest of the old copy, slowly
        now += STALLED_RETRY_S
        pulls.sign("b", now)
        pulls.arrived(pull, piece(number * CHUNK_BYTES), now)
        assert pulls.retry(now) == []
    pulls.sign("b", now)
    # The new copy's head and first piece are lost, too: offsets go back.
    pulls.arrived(pull, piece(CHUNK_BYTES), now)
    now += STALLED_RETRY_S
    pulls.sign("b", now)
    assert len(pulls.retry(now)) == 1


def test_a_withdrawn_stream_is_served_no_more() -> None:
    pulls, pull = begun(20 * CHUNK_BYTES)
    pulls.arrived(pull, piece(0), 1.0)
    (sent,) = pulls.withdraw(pull)
    assert isinstance(sent, e.Send) and isinstance(sent.message, Request)
    assert sent.message.limit == sent.message.offset == CHUNK_BYTES
    serves = Serves()
    serves.begin(asked(serves, limit=WINDOW_BYTES), 20 * CHUNK_BYTES, 1)
    assert serves.withdrawn("a", sent.message) == [e.StopServing("a", 1)]
    assert not list(serves) and serves.withdrawn("a", sent.message) == []


def test_a_request_that_waits_is_repeated() -> None:
    pulls, pull = opened(10)
    assert pulls.retry_at == WAITING_RETRY_S
    assert pulls.retry(WAITING_RETRY_S) == [pull.request()]
    assert pulls.retry_at == 2 * WAITING_RETRY_S


def test_a_head_that_is_late_hastens_the_repetition() -> None:
    pulls, pull = opened(10)
    pulls.arrived(pull, Chunk(1, 0, memoryview(bytes(10))), 1.0)
    assert pull.received == 0
    assert pulls.retry_at == 1.0 + STALLED_RETRY_S


def test_repeated_heads_and_chunks_change_nothing() -> None:
    pulls, pull = opened(8)
    head, chunk = StreamStart(1, 8, 1, b""), Chunk(1, 0, memoryview(bytes(4)))
    assert len(pulls.started(pull, head, 1.0, 0.0)) == 1
    assert pulls.started(pull, head, 1.0, 0.0) == []
    assert len(pulls.arrived(pull, chunk, 0.0)) == 1
    assert pulls.arrived(pull, chunk, 0.0) == []


def test_streams_that_break_their_plan_are_errors() -> None:
    pulls, pull = opened(8)
    with pytest.raises(RemoteProtocolError, match="the plan says 8"):
        pulls.started(pull, StreamStart(1, 9, 1, b""), 1.0, 0.0)
    pulls.started(pull, StreamStart(1, 8, 1, b""), 1.0, 0.0)
    with pytest.raises(RemoteProtocolError, match="longer"):
        pulls.arrived(pull, Chunk(1, 4, memoryview(bytes(5))), 0.0)


def test_a_cancelled_pull_closes_what_it_opened() -> None:
    pulls, pull = opened(8)
    assert pulls.cancel(pull) == []
    pulls, pull = opened(8)
    pulls.started(pull, StreamStart(1, 8, 1, b""), 1.0, 0.0)
    assert pulls.cancel(pull) == [e.CloseSink(1, False)]
    assert pulls.find(1, "b") is None and not pulls.by_round


@given(st.integers(0, 2**62), st.integers(0, 2**62), st.integers(1, 2**24))
def test_no_request_makes_the_sender_queue_more_than_a_window(
    offset: int, limit: int, total: int
) -> None:
    serves = Serves()
    serve = asked(serves, offset=min(offset, total), limit=limit)
    first = serves.begin(serve, total, 1)
    second = serves.credit("a", Credit(1, limit))
    for effects in (first, second):
        chunks = [x for x in effects if isinstance(x, e.SendChunk)]
        assert sum(chunk.size for chunk in chunks) <= WINDOW_BYTES
        for chunk in chunks:
            assert chunk.offset + chunk.size <= min(limit, total)


def test_credit_for_an_unknown_or_waiting_stream_is_kept_out() -> None:
    serves = Serves()
    assert serves.credit("a", Credit(1, 100)) == []
    serve = asked(serves, limit=0)
    assert serves.credit("a", Credit(1, 100)) == [] and serve.limit == 0


def test_the_number_of_an_earlier_stream_names_the_new_one() -> None:
    """A peer that started again may count from the beginning."""
    serves = Serves()
    asked(serves, limit=5)
    other = e.StreamKey("home", 4, "b", "a")
    request = Request(1, "home", 4, DIGEST, "", 0, 1)
    serve = serves.asked("a", request, other)
    assert isinstance(serve, Serve) and serve.stream == other
    assert [each.stream for each in serves] == [other]


def test_ended_streams_give_way_to_new_requests() -> None:
    serves = Serves()
    for number in range(MAX_PARKED_REQUESTS_PER_PEER):
        serves.begin(asked(serves, pull=number, limit=8), 8, 1)
    assert isinstance(asked(serves, pull=100), Serve)
    assert len(list(serves)) == 1
    for number in range(MAX_PARKED_REQUESTS_PER_PEER - 1):
        asked(serves, pull=number)
    request = Request(999, "fused", 3, DIGEST, "", 0, 1)
    assert serves.asked("a", request, KEY) == Refusal(999, "busy")
    assert isinstance(serves.asked("other", request, KEY), Serve)


def test_requests_are_dropped_by_peer_and_by_round() -> None:
    serves = Serves()
    asked(serves, pull=1)
    assert serves.drop_where(peer="b") == [] and serves.drop_where(before=3) == []
    assert serves.drop_where(before=4) == [e.StopServing("a", 1)]
    asked(serves, pull=2)
    assert serves.drop_where(peer="a") == [e.StopServing("a", 2)]
    assert not list(serves)
