"""Messages in a stream of bytes, whatever pieces it comes and goes in."""

from __future__ import annotations

import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import accumulate, pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pfusion import limits
from p2pfusion.errors import RemoteProtocolError
from p2pfusion.transport import bounds
from p2pfusion.transport.connection import (
    HEAD_LIMIT_BYTES,
    PAYLOAD_LIMIT_BYTES,
    PREFIX,
    BufferPool,
    Receiver,
    SendQueue,
    abort,
    prepare,
)
from p2pfusion.transport.watch import Budget
from tests.transport.planes import message

TOKEN = b"a-token-"
MESSAGES = st.lists(
    st.tuples(st.binary(max_size=40), st.binary(max_size=400)), max_size=8
)
LONG_MESSAGES = st.lists(
    st.tuples(
        st.binary(max_size=40), st.integers(0, 20_000).map(lambda n: b"0123456" * n)
    ),
    max_size=4,
)
PIECES = st.lists(st.integers(1, 100), max_size=30)


@contextmanager
def channels() -> Iterator[tuple[socket.socket, socket.socket]]:
    """A receiving end that does not block, and a sending end."""
    near, far = socket.socketpair()
    with near, far:
        near.setblocking(False)
        yield near, far


def known(token: bytes) -> bool:
    return token == TOKEN


def receive_all(receiver: Receiver, pool: BufferPool) -> list[tuple[bytes, ...]]:
    """Every message that is there, copied."""
    found = []
    budget = Budget(1 << 30, 1 << 30)
    while True:
        frames = receiver.receive(budget)
        if frames is not None:
            found.append(tuple(map(bytes, frames)))
            assert receiver.buffer is not None
            pool.give(receiver.buffer)
            receiver.buffer = None
        elif receiver.hungry:
            receiver.buffer = pool.take()
        else:
            return found


@given(MESSAGES, PIECES)
def test_messages_arrive_however_the_stream_is_cut(
    messages: list[tuple[bytes, bytes]], pieces: list[int]
) -> None:
    stream = b"".join(message(TOKEN, *frames) for frames in messages)
    with channels() as (near, far):
        receiver, pool, got = Receiver(near, known), BufferPool(), []
        for size in [*pieces, len(stream)]:
            far.sendall(stream[:size])
            stream = stream[size:]
            got += receive_all(receiver, pool)
        assert got == [(h, p) if p else (h,) for h, p in messages]
        assert not receiver.begun and not receiver.ended
        far.close()
        assert receive_all(receiver, pool) == []
        assert receiver.ended


@given(st.binary(max_size=200), PIECES)
def test_any_bytes_are_a_message_or_a_remote_protocol_error(
    noise: bytes, pieces: list[int]
) -> None:
    """Also behind a right token, where lengths and what follows are noise."""
    for stream in (noise, TOKEN + noise, message(TOKEN, b"head") + noise):
        with channels() as (near, far):
            receiver, pool = Receiver(near, known), BufferPool()
            try:
                for size in [*pieces, len(stream)]:
                    far.sendall(stream[:size])
                    stream = stream[size:]
                    receive_all(receiver, pool)
            except RemoteProtocolError as error:
                assert len(str(error)) < 30


@pytest.mark.parametrize(
    ("stream", "reason"),
    [
        (PREFIX.pack(b"unknown-", 4, 0), "an unknown token"),
        (message(TOKEN, b"head") + PREFIX.pack(b"unknown-", 4, 0), "another session"),
        (PREFIX.pack(TOKEN, HEAD_LIMIT_BYTES + 1, 0), "an oversized frame"),
        (PREFIX.pack(TOKEN, 0, PAYLOAD_LIMIT_BYTES + 1), "an oversized frame"),
        (PREFIX.pack(TOKEN, 2**32 - 1, 2**32 - 1), "an oversized frame"),
        (PREFIX.pack(b"unknown-", 2**32 - 1, 0), "an unknown token"),
    ],
)
def test_the_prefix_alone_ends_a_connection(stream: bytes, reason: str) -> None:
    with channels() as (near, far):
        receiver, pool = Receiver(near, known), BufferPool()
        far.sendall(stream + b"what follows")
        with pytest.raises(RemoteProtocolError, match=reason):
            receive_all(receiver, pool)
        assert near.recv(99) == b"what follows"


def test_largest_message_fits_a_buffer() -> None:
    head, payload = b"h" * HEAD_LIMIT_BYTES, b"p" * PAYLOAD_LIMIT_BYTES
    with channels() as (near, far):
        receiver, pool = Receiver(near, known), BufferPool()
        stream, got = message(TOKEN, head, payload), []
        far.setblocking(False)
        while stream:
            stream = stream[far.send(stream) :]
            got += receive_all(receiver, pool)
        assert got == [(head, payload)]


@given(st.binary(max_size=100))
def test_payloads_are_aligned_whatever_the_head(head: bytes) -> None:
    with channels() as (near, far):
        receiver, pool = Receiver(near, known), BufferPool()
        far.sendall(message(TOKEN, head, b"payload!"))
        receiver.receive(Budget(1_000, 1_000))
        receiver.buffer = pool.take()
        frames = receiver.receive(Budget(1_000, 1_000))
        assert frames is not None
        assert np.frombuffer(frames[1], np.float64).flags.aligned


def test_nothing_is_read_ahead() -> None:
    """What waits must show at the socket, where the poller sees it."""
    with channels() as (near, far):
        receiver, pool = Receiver(near, known), BufferPool()
        second = message(TOKEN, b"second")
        far.sendall(message(TOKEN, b"first") + second)
        budget = Budget(1_000, 1_000)
        assert receiver.receive(budget) is None and receiver.hungry
        receiver.buffer = pool.take()
        frames = receiver.receive(budget)
        assert frames is not None and bytes(frames[0]) == b"first"
        assert near.recv(1_000, socket.MSG_PEEK) == second
        assert budget == Budget(1_000 - PREFIX.size - 5, 1_000)


def test_buffers_are_made_when_needed_and_lent_until_reclaimed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(limits, "DATA_BUFFERS", 2)
    pool = BufferPool()
    first, second = pool.take(), pool.take()
    assert first is not None and second is not None and first is not second
    assert pool.take() is None and not pool.has_any
    pool.lend(first)
    assert pool.take() is None and pool.has_any
    pool.give(second)
    assert pool.take() is second
    pool.reclaim()
    assert pool.take() is first
    assert pool.take() is None


@given(LONG_MESSAGES, st.lists(st.integers(1, 50_000), max_size=30))
def test_queue_leaves_as_the_messages_one_after_the_other(
    messages: list[tuple[bytes, bytes]], reads: list[int]
) -> None:
    """The kernel takes what fits into a small buffer, so most writes end inside."""
    wanted = b"".join(message(TOKEN, *frames) for frames in messages)
    queue, got, sizes = SendQueue(), bytearray(), iter(reads)
    with channels() as (near, far):
        far.setblocking(False)
        far.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1)
        for head, payload in messages:
            queue.add(TOKEN, [head, memoryview(payload)])
        while len(got) < len(wanted):
            while queue and queue.write(far):
                pass
            got += near.recv(next(sizes, 1 << 20))
    assert got == wanted
    assert not queue and not queue.is_full


@given(MESSAGES, st.integers(0, 5_000))
def test_cut_drops_the_message_that_has_begun_and_no_other(
    messages: list[tuple[bytes, bytes]], count: int
) -> None:
    streams = [message(TOKEN, *frames) for frames in messages]
    ends = [0]
    for stream in streams:
        ends.append(ends[-1] + len(stream))
    count = min(count, ends[-1])
    queue = SendQueue()
    for head, payload in messages:
        queue.add(TOKEN, [head, payload] if payload else [head])
    queue._leave(count)  # as after writes of so many bytes in all
    inside = any(before < count < after for before, after in pairwise(ends))
    assert queue.cut() is inside
    assert queue.cut() is False
    rest = [s for s, begin in zip(streams, ends, strict=False) if begin >= count]
    assert len(queue) == len(rest)
    with channels() as (near, far):
        while queue:
            queue.write(far)
        assert (near.recv(1 << 20) if rest else b"") == b"".join(rest)


@given(MESSAGES, st.integers(0, 5_000), st.integers(0, 5_000))
def test_under_way_is_what_waits_or_is_not_acknowledged(
    messages: list[tuple[bytes, bytes]], count: int, missing: int
) -> None:
    streams = [message(TOKEN, *frames) for frames in messages]
    count = min(count, sum(map(len, streams)))
    missing = min(missing, count)
    queue = SendQueue()
    for head, payload in messages:
        queue.add(TOKEN, [head, payload] if payload else [head])
    for _ in range(count):  # as after writes of so many bytes in all
        queue._leave(1)
    there = len(b"".join(streams)[: count - missing])
    ends = accumulate(map(len, streams))
    assert queue.under_way(missing) == sum(end > there for end in ends)
    queue.cut()
    assert queue.under_way(missing) == len(queue)


def test_queue_is_bounded_in_messages_and_in_bytes() -> None:
    queue = SendQueue()
    for _ in range(bounds.DATA_SEND_QUEUE_MESSAGES):
        assert not queue.is_full
        queue.add(TOKEN, [b"head"])
    assert queue.is_full
    queue.clear()
    chunk = bytes(limits.CHUNK_BYTES)
    for _ in range(limits.DATA_SEND_BYTES // limits.CHUNK_BYTES):
        assert not queue.is_full
        queue.add(TOKEN, [b"head", chunk])
    assert queue.is_full
    queue._leave(1)
    queue.clear()
    assert not queue.is_full and len(queue) == 0 and not queue.cut()


def test_one_write_takes_no_more_than_it_may() -> None:
    queue = SendQueue()
    for _ in range(6):
        queue.add(TOKEN, [b"head"])
    size = len(message(TOKEN, b"head"))
    with channels() as (near, far):
        for most in (1, 2 * size, 2 * size + 1):
            assert queue.write(far, most) == most
        assert queue.write(far) == 2 * size - 2
        whole = near.recv(10 * size)
    assert whole == 6 * message(TOKEN, b"head") and not queue


def test_frames_leave_from_the_callers_memory() -> None:
    payload = bytearray(b"before")
    queue = SendQueue()
    queue.add(TOKEN, [b"head", memoryview(payload)])
    payload[:] = b"after!"
    with channels() as (near, far):
        queue.write(far)
        assert near.recv(1_000) == message(TOKEN, b"head", b"after!")


def test_write_into_a_full_or_broken_connection() -> None:
    with channels() as (near, far):
        far.setblocking(False)
        queue = SendQueue()
        for _ in range(8):
            queue.add(TOKEN, [b"head", bytes(limits.CHUNK_BYTES)])
        while queue.write(far):
            pass
        assert queue.write(far) == 0
        near.close()
        with pytest.raises(OSError, match="pipe"):
            queue.write(far)


def test_connections_notice_when_the_other_machine_is_gone() -> None:
    with socket.socket() as channel:
        prepare(channel)
        assert not channel.getblocking()
        assert channel.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        assert channel.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        if sys.platform == "linux":
            numbers = (
                channel.getsockopt(socket.IPPROTO_TCP, option)
                for option in (
                    socket.TCP_KEEPIDLE,
                    socket.TCP_KEEPINTVL,
                    socket.TCP_USER_TIMEOUT,
                )
            )
            idle_s = bounds.KEEPALIVE_IDLE_S
            assert [*numbers] == [idle_s, idle_s, bounds.PEER_SILENCE_MS]


def test_aborted_connection_does_not_linger() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        caller = socket.create_connection(listener.getsockname())
        answerer = listener.accept()[0]
        abort(caller)
        with answerer, pytest.raises(ConnectionResetError):
            answerer.recv(1)
