"""Who may connect, for how long, in whose turn, and where messages are kept."""

from __future__ import annotations

import os
import resource
import socket
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from p2pfusion import limits
from p2pfusion.limits import (
    CHUNK_BYTES,
)
from p2pfusion.transport import bounds
from p2pfusion.transport.base import Arrival, Incoming
from p2pfusion.transport.bounds import (
    MAX_DATA_MESSAGES_PER_POLL,
)
from p2pfusion.transport.reception import _origin
from p2pfusion.transport.tcp import DataPlane
from tests.transport.planes import Bench, benches, is_readable, message, wait


@pytest.fixture
def bench() -> Iterator[Bench]:
    with benches() as made:
        yield made


def listening(bench: Bench, *peers: str) -> DataPlane:
    """A plane with a session for each peer; ``token`` is what the peer sends."""
    plane = bench.plane()
    for peer in peers:
        plane.open_session(peer, sending=b"unused--", receiving=token(peer))
    return plane


def token(peer: str) -> bytes:
    return peer.encode().ljust(8, b"-")


def count(bench: Bench, plane: DataPlane) -> int:
    return len(bench.messages(plane))


# --- Strangers -----------------------------------------------------------------------


def test_unknown_token_hangs_up_before_anything_else_is_read(bench: Bench) -> None:
    plane = listening(bench, "known")
    stranger = bench.visitor(plane)
    stranger.send(message(token("unknown"), b"head")[:16])
    bench.until(lambda: bench.hung_up(stranger))
    assert bench.dropped(plane) == {"an unknown token": 1}
    assert not bench.arrived[plane]


def test_oversized_frame_is_refused_by_its_announcement(bench: Bench) -> None:
    plane = listening(bench, "peer")
    visitor = bench.visitor(plane)
    visitor.send(message(token("peer"), b"fine"))
    visitor.send(token("peer") + b"\xff" * 8)
    bench.until(lambda: bench.hung_up(visitor))
    assert bench.words(plane) == [b"fine"]
    assert bench.dropped(plane) == {"an oversized frame": 1}


@pytest.mark.parametrize(
    "babble", [b"", b"GET / HTTP/1.1\r\n\r\n", b"\xff" * 64, os.urandom(4096)]
)
def test_strangers_who_talk_nonsense_disturb_nobody(
    bench: Bench, babble: bytes
) -> None:
    plane = listening(bench, "peer")
    stranger = bench.visitor(plane)
    stranger.send(babble)
    if not babble:
        stranger.close()
    visitor = bench.visitor(plane)
    visitor.send(message(token("peer"), b"word"))
    bench.until(lambda: bench.words(plane) == [b"word"])
    if babble:
        bench.until(lambda: bench.hung_up(stranger))


def test_silence_and_drops_of_a_prefix_end_with_the_handshake(bench: Bench) -> None:
    plane = listening(bench, "peer")
    silent, dripping, member = (bench.visitor(plane) for _ in range(3))
    member.send(message(token("peer"), b"word"))
    bench.until(lambda: bench.words(plane) == [b"word"])
    for byte in range(10):
        bench.clock.advance(bounds.HANDSHAKE_TIMEOUT_MS / 1_000 / 11)
        dripping.send(token("peer")[byte % 8 :][:1])
        bench.turn()
    assert not bench.hung_up(silent) and not bench.hung_up(dripping)
    bench.clock.advance(bounds.HANDSHAKE_TIMEOUT_MS / 1_000 / 11)
    bench.until(lambda: bench.hung_up(silent) and bench.hung_up(dripping))
    assert bench.dropped(plane) == {"a silent connection": 2}
    assert plane.deadline() is None
    member.send(message(token("peer"), b"still here"))
    bench.until(lambda: count(bench, plane) == 2)


def test_message_that_grows_may_take_as_long_as_it_likes(bench: Bench) -> None:
    plane = listening(bench, "slow")
    slow = bench.visitor(plane)
    step = limits.DATA_FRAME_GROWTH_BYTES
    whole = message(token("slow"), b"head", bytes(20 * step))
    for begin in range(0, len(whole), step):
        slow.send(whole[begin : begin + step])
        bench.settle()
        bench.clock.advance(0.9 * limits.DATA_FRAME_TIMEOUT_S)
        bench.settle()
    assert bench.words(plane) == [b"head"] and not bench.dropped(plane)
    slow.send(whole[:step])
    bench.settle()
    for _ in range(3):  # from now on it grows by too little
        bench.clock.advance(0.9 * limits.DATA_FRAME_TIMEOUT_S)
        slow.send(whole[: step // 4])
        bench.settle()
    bench.until(lambda: bench.hung_up(slow))
    assert bench.dropped(plane) == {"a message too slow": 1}


def test_message_must_grow_in_time_and_leaves_its_buffer(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "DATA_BUFFERS", 1)
    plane = listening(bench, "slow", "peer")
    slow = bench.visitor(plane)
    slow.send(message(token("slow"), b"word"))
    bench.until(lambda: bench.words(plane) == [b"word"])
    bench.clock.advance(10 * limits.DATA_FRAME_TIMEOUT_S)  # idle is not slow
    unfinished = message(token("slow"), b"head", bytes(1_000))
    slow.send(unfinished[:3])
    bench.until(lambda: plane.deadline() is not None)
    for _ in range(9):
        bench.clock.advance(limits.DATA_FRAME_TIMEOUT_S / 10)
        slow.send(unfinished[3:4])
        bench.turn()
    assert not bench.hung_up(slow)
    visitor = bench.visitor(plane)
    visitor.send(message(token("peer"), b"other"))
    bench.clock.advance(limits.DATA_FRAME_TIMEOUT_S / 10)
    bench.until(lambda: bench.hung_up(slow))
    assert bench.dropped(plane)["a message too slow"] == 1
    bench.until(lambda: bench.words(plane) == [b"word", b"other"])


def test_oldest_stranger_of_a_source_gives_way(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "MAX_HALF_OPEN_PER_SOURCE", 2)
    plane = listening(bench, "peer")
    elsewhere = bench.visitor(plane, "127.0.0.2")
    bench.turn()
    first, second, third = (bench.visitor(plane) for _ in range(3))
    bench.until(lambda: bench.hung_up(first))
    bench.settle()
    assert bench.dropped(plane) == {"too many connections": 1}
    assert not any(map(bench.hung_up, (elsewhere, second, third)))
    third.setblocking(True)
    third.send(message(token("peer"), b"word"))
    bench.until(lambda: bench.words(plane) == [b"word"])
    fourth = bench.visitor(plane)  # the third is none of them any more
    bench.settle()
    assert not any(map(bench.hung_up, (second, third, fourth)))


@pytest.mark.parametrize("bound", ["MAX_CONNECTIONS", "MAX_CONNECTIONS_PER_SOURCE"])
def test_members_stay_and_strangers_give_way_when_it_is_full(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, bound: str
) -> None:
    monkeypatch.setattr(limits, bound, 3)
    plane = listening(bench, "a", "b", "c", "d")
    members = []
    for peer in ("a", "b"):
        members.append(bench.visitor(plane))
        members[-1].send(message(token(peer), b"word"))
    bench.until(lambda: count(bench, plane) == 2)
    stranger = bench.visitor(plane)
    bench.settle()
    members.append(bench.visitor(plane))
    bench.until(lambda: bench.hung_up(stranger))
    members[-1].send(message(token("c"), b"word"))
    bench.until(lambda: count(bench, plane) == 3)
    refused = bench.visitor(plane)
    bench.until(lambda: bench.hung_up(refused))
    assert not any(map(bench.hung_up, members))
    assert bench.dropped(plane) == {"too many connections": 2}
    members[0].close()
    late = bench.visitor(plane)
    late.send(message(token("d"), b"word"))
    bench.until(lambda: count(bench, plane) == 4)


def test_nothing_is_remembered_of_who_has_left(bench: Bench) -> None:
    plane = listening(bench, "peer")
    member, stranger = bench.visitor(plane), bench.visitor(plane, "127.0.0.2")
    member.send(message(token("peer"), b"word"))
    bench.until(lambda: count(bench, plane) == 1)
    member.close()
    stranger.close()
    bench.settle()
    assert not plane._reception._origins and not plane._reception._sessions


def test_other_sources_do_not_pay_for_one(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "MAX_CONNECTIONS_PER_SOURCE", 1)
    plane = listening(bench, "a", "b")
    for peer, source in (("a", "127.0.0.1"), ("b", "127.0.0.2")):
        bench.visitor(plane, source).send(message(token(peer), b"word"))
    bench.until(lambda: count(bench, plane) == 2)
    assert not bench.dropped(plane)


def test_one_machine_is_one_source() -> None:
    assert _origin("192.0.2.7") == _origin("::ffff:192.0.2.7") != _origin("192.0.2.8")
    assert _origin("2001:db8::1") == _origin("2001:db8::ffff:1")
    assert _origin("2001:db8::1") != _origin("2001:db8:0:1::1")
    assert _origin("fe80::1%lo") == _origin("fe80::2")


@contextmanager
def no_descriptors() -> Iterator[None]:
    """This process may open nothing more."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    lowest = os.dup(0)
    os.close(lowest)
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowest, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


def test_without_descriptors_the_loop_sleeps_and_tries_again(bench: Bench) -> None:
    plane = listening(bench, "peer")
    visitor = bench.visitor(plane)
    visitor.send(message(token("peer"), b"word"))
    with no_descriptors():
        bench.until(lambda: plane.deadline() is not None)
        assert not is_readable(plane)
        due = plane.deadline()
        assert due is not None and due > bench.clock.now
        bench.clock.advance(limits.ACCEPT_PAUSE_MS / 1_000)
        bench.turn()  # still none
        bench.until(lambda: not is_readable(plane))
        assert not bench.messages(plane)
    bench.clock.advance(limits.ACCEPT_PAUSE_MS / 1_000)
    bench.until(lambda: bench.words(plane) == [b"word"])


# --- Sessions ------------------------------------------------------------------------


def test_new_connection_of_a_session_ends_the_old_one(bench: Bench) -> None:
    plane = listening(bench, "peer")
    old, new = bench.visitor(plane), bench.visitor(plane)
    old.send(message(token("peer"), b"first"))
    bench.until(lambda: bench.words(plane) == [b"first"])
    old.send(message(token("peer"), b"cut off", bytes(1_000))[:500])
    bench.settle()
    assert not bench.hung_up(old)
    new.send(message(token("peer"), b"second"))
    bench.until(lambda: bench.words(plane) == [b"first", b"second"])
    bench.until(lambda: bench.hung_up(old))
    assert bench.dropped(plane) == {"cut off": 1}


def test_stranger_does_not_end_a_sessions_connection(bench: Bench) -> None:
    plane = listening(bench, "peer", "other")
    member, stranger = bench.visitor(plane), bench.visitor(plane)
    member.send(message(token("peer"), b"word"))
    stranger.send(token("peer"))
    bench.until(lambda: bench.words(plane) == [b"word"])
    stranger.close()
    bench.settle()
    assert not bench.hung_up(member)


def test_connection_keeps_to_its_session(bench: Bench) -> None:
    plane = listening(bench, "peer", "other")
    visitor = bench.visitor(plane)
    visitor.send(message(token("peer"), b"word") + message(token("other"), b"word"))
    bench.until(lambda: bench.hung_up(visitor))
    assert [m.sender for m in bench.messages(plane)] == ["peer"]
    assert bench.dropped(plane) == {"another session's token": 1}


def test_expelled_peer_is_cut_off_within_a_message(bench: Bench) -> None:
    plane = listening(bench, "peer", "other")
    visitor, other = bench.visitor(plane), bench.visitor(plane)
    other.send(message(token("other"), b"word"))
    whole = message(token("peer"), b"head", bytes(1_000))
    visitor.send(whole[:500])
    bench.until(lambda: count(bench, plane) == 1)
    visitor.send(whole[500:] + whole)
    plane.expel("peer")
    bench.until(lambda: bench.hung_up(visitor))
    again = bench.visitor(plane)
    again.send(whole)
    bench.until(lambda: bench.hung_up(again))
    other.send(message(token("other"), b"word"))
    bench.until(lambda: count(bench, plane) == 2)
    assert [m.sender for m in bench.messages(plane)] == ["other", "other"]
    assert bench.dropped(plane) == {"cut off": 1, "an unknown token": 1}


def test_new_session_replaces_the_old_one(bench: Bench) -> None:
    plane = listening(bench, "peer")
    old = bench.visitor(plane)
    old.send(message(token("peer"), b"old"))
    bench.until(lambda: bench.words(plane) == [b"old"])
    plane.open_session("peer", sending=b"unused--", receiving=token("peer"))
    bench.settle()
    assert not bench.hung_up(old)  # nothing is new
    plane.open_session("peer", sending=b"unused--", receiving=token("newer"))
    bench.until(lambda: bench.hung_up(old))
    for name in ("peer", "newer"):
        bench.visitor(plane).send(message(token(name), name.encode()))
    bench.until(lambda: bench.words(plane) == [b"old", b"newer"])
    bench.until(lambda: bench.dropped(plane) == {"an unknown token": 1})


# --- Buffers and turns ---------------------------------------------------------------


def test_who_finds_no_buffer_waits_in_line(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "DATA_BUFFERS", 1)
    plane = listening(bench, "first", "second", "third")
    whole = {p: message(token(p), p.encode()) for p in ("first", "second", "third")}
    first, second, third = (bench.visitor(plane) for _ in range(3))
    first.send(whole["first"][:-1])
    bench.until(lambda: plane.deadline() is not None)
    bench.settle()
    second.send(whole["second"])
    bench.settle()
    third.send(whole["third"] + whole["third"])
    bench.settle()
    # The poller sleeps although two sockets are readable.
    assert not is_readable(plane) and not bench.messages(plane)
    due = plane.deadline()
    assert due is not None and due > bench.clock.now
    bench.clock.advance(0.9 * limits.DATA_FRAME_TIMEOUT_S)
    first.send(whole["first"][-1:])
    bench.until(lambda: count(bench, plane) == 1)
    # Now nothing but the next call can free the buffer, and it is asked for.
    assert plane.deadline() == 0.0
    bench.until(lambda: count(bench, plane) == 4)
    assert bench.words(plane) == [b"first", b"second", b"third", b"third"]
    assert plane.deadline() is None
    assert not bench.dropped(plane)


def test_waiting_for_a_buffer_is_not_slowness_but_what_follows_may_be(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "DATA_BUFFERS", 1)
    plane = listening(bench, "holder", "waiting")
    holder, waiting = bench.visitor(plane), bench.visitor(plane)
    waiting.send(message(token("waiting"), b"word"))
    bench.until(lambda: count(bench, plane) == 1)
    holder.send(message(token("holder"), b"head")[:-1])
    bench.settle()
    late = message(token("waiting"), b"late")
    waiting.send(late[:3])  # its time runs, and stops when it has to wait
    bench.settle()
    waiting.send(late[3:-1])
    bench.settle()
    bench.clock.advance(limits.DATA_FRAME_TIMEOUT_S)
    bench.until(lambda: bench.hung_up(holder))
    bench.settle()
    assert not bench.hung_up(waiting)
    bench.clock.advance(limits.DATA_FRAME_TIMEOUT_S)
    bench.until(lambda: bench.hung_up(waiting))
    assert bench.dropped(plane) == {"a message too slow": 2}


@pytest.mark.parametrize("end", ["hang up", "expel", "new session", "too slow"])
def test_buffer_of_a_dead_connection_goes_to_the_next(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, end: str
) -> None:
    monkeypatch.setattr(limits, "DATA_BUFFERS", 1)
    plane = listening(bench, "dead", "gone", "next")
    dead, gone, alive = (bench.visitor(plane) for _ in range(3))
    dead.send(message(token("dead"), b"head", bytes(1_000))[:500])
    bench.until(lambda: plane.deadline() is not None)
    bench.settle()
    gone.send(message(token("gone"), b"head"))
    bench.settle()
    gone.close()  # while it waits for a buffer: nobody looks
    alive.send(message(token("next"), b"word"))
    bench.settle()
    assert not bench.messages(plane)
    if end == "hang up":
        dead.close()
    elif end == "expel":
        plane.expel("dead")
    elif end == "new session":
        plane.open_session("dead", sending=b"unused--", receiving=b"another-")
    else:
        bench.clock.advance(limits.DATA_FRAME_TIMEOUT_S)
    bench.until(lambda: count(bench, plane) == 2)
    assert bench.words(plane) == [b"head", b"word"]
    bench.settle()
    assert plane.deadline() is None


def test_peer_expelled_while_it_waits_for_a_buffer(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "DATA_BUFFERS", 1)
    plane = listening(bench, "holder", "waiting")
    holder, waiting = bench.visitor(plane), bench.visitor(plane)
    holder.send(message(token("holder"), b"head")[:-1])
    bench.until(lambda: plane.deadline() is not None)
    bench.settle()
    waiting.send(message(token("waiting"), b"head"))
    bench.settle()
    plane.expel("waiting")
    assert bench.hung_up(waiting)
    holder.send(b"d" + message(token("holder"), b"more"))
    bench.until(lambda: bench.words(plane) == [b"head", b"more"])


def test_views_last_until_the_next_take(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "DATA_BUFFERS", 1)
    plane = listening(bench, "peer", "other")
    visitor, other = bench.visitor(plane), bench.visitor(plane)
    visitor.send(message(token("peer"), b"one", b"1") + message(token("peer"), b"two"))
    taken: list[Arrival] = []
    while not taken:
        wait(plane)
        taken = plane.take()
    (incoming,) = taken
    assert isinstance(incoming, Incoming)
    visitor.close()
    other.send(message(token("other"), b"xxx", b"x"))
    plane.expel("peer")
    assert [bytes(frame) for frame in incoming.frames] == [b"one", b"1"]
    bench.until(lambda: bench.words(plane))
    assert bytes(incoming.frames[0]) != b"one"  # there is one buffer, and it is reused


def test_fast_sender_starves_nobody(bench: Bench) -> None:
    """Twenty backlogs, one of them much longer than the others."""
    names = [f"peer-{number}" for number in range(20)]
    plane = listening(bench, *names)
    for name in names:
        backlog = 200 if name == names[0] else 10
        bench.visitor(plane).send(message(token(name), b"word") * backlog)
    bench.until(lambda: len(bench.messages(plane)) > 0)
    bench.arrived[plane].clear()
    for _ in range(10):
        before = len(bench.messages(plane))
        bench.turn()
        assert len(bench.messages(plane)) - before <= MAX_DATA_MESSAGES_PER_POLL
    seen = Counter(m.sender for m in bench.messages(plane))
    assert max(seen.values()) - min(seen[name] for name in names) <= 1
    assert is_readable(plane)  # the rest has not been forgotten
    bench.until(lambda: not is_readable(plane))


def test_one_turn_reads_a_bounded_number_of_bytes(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bounds, "MAX_DATA_MESSAGES_PER_POLL", 2)
    names = [f"peer-{number}" for number in range(8)]
    plane = listening(bench, *names)
    for name in names:
        visitor = bench.visitor(plane)
        visitor.setblocking(False)
        visitor.send(message(token(name), b"head", bytes(CHUNK_BYTES)))
    traffic = bench.traffic[plane]
    while is_readable(plane):
        before = traffic.received_bytes()
        bench.turn()
        assert traffic.received_bytes() - before <= 3 * CHUNK_BYTES


def test_hanging_up_within_a_message_is_counted(bench: Bench) -> None:
    plane = listening(bench, "peer", "other")
    visitors = [bench.visitor(plane) for _ in range(2)]
    visitors[0].send(message(token("peer"), b"head", b"payload")[:-1])
    visitors[1].send(message(token("other"), b"head"))
    for visitor in visitors:
        visitor.shutdown(socket.SHUT_WR)
    bench.until(lambda: all(map(bench.hung_up, visitors)))
    assert bench.dropped(plane) == {"cut off": 1}
    assert bench.words(plane) == [b"head"]
