"""The data plane as a whole: between two planes, from the first word to the last."""

from __future__ import annotations

import itertools
import os
import select
import socket
import threading
import time
from collections.abc import Iterator

import psutil
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from p2pfusion.errors import (
    ConfigError,
    ConflictError,
    LocalProtocolError,
    ResourceError,
)
from p2pfusion.limits import CHUNK_BYTES
from p2pfusion.transport import bounds
from p2pfusion.transport.base import FRAME_LIMITS_BYTES, Address, Plane, Traffic
from p2pfusion.transport.tcp import DataPlane
from tests.transport.planes import (
    ANY_PORT,
    PATIENCE_S,
    Bench,
    benches,
    is_readable,
    meet,
    message,
)
from tests.transport.test_reception import no_descriptors

HEAD_LIMIT, PAYLOAD_LIMIT = FRAME_LIMITS_BYTES[Plane.DATA]


@pytest.fixture
def bench() -> Iterator[Bench]:
    with benches() as made:
        yield made


def has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return False
    return True


# --- Messages ------------------------------------------------------------------------


@settings(max_examples=20)
@given(
    st.lists(
        st.tuples(st.booleans(), st.binary(max_size=60), st.integers(0, 3 << 18)),
        max_size=30,
    )
)
def test_messages_of_both_directions_arrive_whole_and_in_order(
    messages: list[tuple[bool, bytes, int]],
) -> None:
    noise = memoryview(os.urandom(3 << 18))
    with benches() as bench:
        a, b = bench.pair()
        sent: dict[DataPlane, list[tuple[bytes, ...]]] = {a: [], b: []}
        for to_b, head, size in messages:
            sender, name, receiver = (a, "b", b) if to_b else (b, "a", a)
            payload = noise[len(noise) - size :]
            frames = [head, payload] if size else [head]
            bench.until(lambda s=sender, n=name, f=frames: s.send(n, f))
            sent[receiver].append(tuple(map(bytes, frames)))
        for plane, wanted in sent.items():
            bench.until(lambda p=plane, w=wanted: len(bench.messages(p)) >= len(w))
            assert [m.frames for m in bench.messages(plane)] == wanted
        assert {m.sender for m in bench.messages(b)} <= {"a"}
        assert {m.plane for m in bench.messages(b)} <= {Plane.DATA}


def test_thousands_of_small_messages_arrive_in_order(bench: Bench) -> None:
    a, b = bench.pair()
    for number in range(3_000):
        bench.until(lambda n=number: a.send("b", [b"%d" % n]))
    bench.until(lambda: len(bench.messages(b)) == 3_000)
    assert bench.words(b) == [b"%d" % number for number in range(3_000)]


def test_largest_and_emptiest_messages(bench: Bench) -> None:
    a, b = bench.pair()
    head, payload = os.urandom(HEAD_LIMIT), os.urandom(PAYLOAD_LIMIT)
    for frames in ([head, payload], [b""], [b"", payload], [head, b""]):
        assert a.send("b", frames)
    bench.until(lambda: len(bench.messages(b)) == 4)
    assert [m.frames for m in bench.messages(b)] == [
        (head, payload),
        (b"",),
        (b"", payload),
        (head,),
    ]


def test_views_of_any_contiguous_memory_are_sent(bench: Bench) -> None:
    a, b = bench.pair()
    words = memoryview(bytearray(range(32))).cast("f", (2, 4))
    assert a.send("b", [memoryview(b"head"), words])
    bench.until(lambda: bench.messages(b))
    assert bench.messages(b)[0].frames == (b"head", bytes(range(32)))


@pytest.mark.parametrize(
    "frames",
    [
        [],
        [bytes(HEAD_LIMIT + 1)],
        [b"head", memoryview(bytes(PAYLOAD_LIMIT + 1))],
        [b"head", b"payload", b"more"],
    ],
)
def test_own_message_out_of_bounds_is_a_bug(bench: Bench, frames: list[bytes]) -> None:
    a, _ = bench.pair()
    with pytest.raises(LocalProtocolError):
        a.send("b", frames)
    assert bench.traffic[a].sent_bytes() == 0


def test_own_token_or_name_of_a_wrong_form_is_a_bug(bench: Bench) -> None:
    a = bench.plane()
    for sending, receiving in ((b"short", b"12345678"), (b"12345678", b"too long!")):
        with pytest.raises(LocalProtocolError):
            a.open_session("b", sending=sending, receiving=receiving)
    with pytest.raises(LocalProtocolError):
        a.connect("two words", ANY_PORT)


def test_nothing_is_sent_without_address_and_session(bench: Bench) -> None:
    a, b = bench.plane(), bench.plane()
    assert not a.send("b", [b"word"])
    a.open_session("b", sending=b"a-to-b--", receiving=b"b-to-a--")
    assert not a.send("b", [b"word"])
    b.connect("a", a.address)
    assert not b.send("a", [b"word"])
    assert bench.dropped(a) == {"unknown peer": 2}
    assert bench.dropped(b) == {"no session": 1}
    a.disconnect("nobody")
    a.expel("nobody")


def test_counters_are_exact(bench: Bench) -> None:
    a, b = bench.pair()
    assert a.send("b", [b"12345", bytes(CHUNK_BYTES)])
    assert a.send("b", [b"678"])
    assert b.send("a", [b"1"])
    bench.until(lambda: len(bench.messages(b)) == 2 and bench.messages(a))
    sent, received = bench.traffic[a], bench.traffic[b]
    assert sent.sent_bytes(plane=Plane.DATA, peer="b") == CHUNK_BYTES + 8
    assert received.received_bytes(plane=Plane.DATA, peer="a") == CHUNK_BYTES + 8
    assert received.sent_bytes() == sent.received_bytes() == 1
    assert not bench.dropped(a) and not bench.dropped(b)


def test_payload_is_not_copied_on_its_way_out(bench: Bench) -> None:
    """A full queue of one chunk sixteen times costs no sixteen chunks."""
    a = bench.plane()
    listener, address = bench.listener()
    a.connect("b", address)
    a.open_session("b", sending=b"a-to-b--", receiving=b"b-to-a--")
    chunk = os.urandom(CHUNK_BYTES)
    process = psutil.Process()
    before_bytes = process.memory_info().rss
    while a.send("b", [b"head", chunk]):
        pass
    bench.settle()
    assert process.memory_info().rss - before_bytes < 4 * CHUNK_BYTES
    assert bench.accepted(listener)


# --- A peer's life -------------------------------------------------------------------


def test_restarted_peer_is_reached_again(bench: Bench) -> None:
    a, b = bench.pair()
    assert a.send("b", [b"first"])
    bench.until(lambda: bench.words(b) == [b"first"])
    again = bench.plane(bench.shut(b))
    bench.until(lambda: a.deadline() is not None)
    again.open_session("a", sending=b"new-to-a", receiving=b"a-to-new")
    a.open_session("b", sending=b"a-to-new", receiving=b"new-to-a")
    assert a.send("b", [b"second"])
    bench.until(lambda: bench.words(again) == [b"second"])


def test_sender_that_is_early_with_its_session_is_heard_later(bench: Bench) -> None:
    a, b = bench.plane(), bench.plane()
    a.connect("b", b.address)
    a.open_session("b", sending=b"a-to-b--", receiving=b"b-to-a--")
    assert a.send("b", [b"too early"])
    bench.until(lambda: bench.dropped(b) == {"an unknown token": 1})
    b.open_session("a", sending=b"b-to-a--", receiving=b"a-to-b--")
    bench.until(lambda: a.deadline() is not None)
    assert a.send("b", [b"in time"])
    bench.clock.advance(bounds.RECONNECT_CEILING_MS / 1_000)
    bench.until(lambda: bench.words(b) == [b"in time"])


def test_slow_taker_gets_everything(bench: Bench) -> None:
    """The sender fills queue and kernel while nobody takes, and is woken afterwards."""
    a, b = bench.pair()
    bench.planes.remove(b)
    chunk, sent = os.urandom(CHUNK_BYTES), 0
    while sent < 200:
        bench.turn()
        bench.until(lambda: not is_readable(a))
        if not a.send("b", [b"%d" % sent, chunk]):
            break
        sent += 1
    assert sent < 200, "a queue without a bound"
    assert a.deadline() is None
    bench.planes.append(b)
    bench.until(lambda: len(bench.messages(b)) == sent)
    assert bench.words(b) == [b"%d" % number for number in range(sent)]
    assert all(m.frames[1] == chunk for m in bench.messages(b))


def test_fileno_wakes_a_loop_that_sleeps(bench: Bench) -> None:
    a, b = bench.pair()
    assert a.send("b", [b"connects"])
    bench.until(lambda: bench.words(b))
    bench.settle()
    poller = select.poll()
    poller.register(b.fileno(), select.POLLIN)
    woken: list[object] = []
    sleeper = threading.Thread(
        target=lambda: woken.extend(poller.poll(1_000 * PATIENCE_S))
    )
    sleeper.start()
    assert a.send("b", [b"wake up"])
    sleeper.join()
    assert woken == [(b.fileno(), select.POLLIN)]
    bench.until(lambda: len(bench.words(b)) == 2)


NAMES = ("a", "b", "c")
PAIRS = st.sampled_from([(x, y) for x in NAMES for y in NAMES if x != y])
INCIDENTS = st.lists(
    st.tuples(st.just("send"), PAIRS, st.integers(0, 2 << 20))
    | st.tuples(st.sampled_from(["renew", "expel", "move", "leave"]), PAIRS, st.just(0))
    | st.tuples(st.sampled_from(["turn", "wait", "noise"]), PAIRS, st.integers(0, 99)),
    max_size=60,
)


class Turmoil:
    """Three peers, numbered messages, and what may happen to them."""

    def __init__(self, bench: Bench) -> None:
        self.bench = bench
        self.planes = {name: bench.plane() for name in NAMES}
        self.number = 0
        for pair in itertools.permutations(NAMES, 2):
            self.happen("renew", pair, 0)
            self.happen("move", pair, 0)

    def happen(self, what: str, pair: tuple[str, str], size: int) -> None:
        name, other = pair
        plane, far = self.planes[name], self.planes[other]
        self.number += 1
        token = self.number.to_bytes(8, "big")
        if what == "send":
            payload = bytes([self.number % 256]) * min(size, CHUNK_BYTES)
            plane.send(other, [b"%d" % self.number, payload])
        elif what == "renew":
            plane.open_session(other, sending=token, receiving=token[::-1])
            far.open_session(name, sending=token[::-1], receiving=token)
        elif what == "expel":
            plane.expel(other)
        elif what == "move":
            plane.connect(other, far.address)
        elif what == "leave":
            plane.disconnect(other)
        elif what == "noise":
            self.bench.visitor(plane).send(bytes([size]) * (size + 1))
        elif what == "wait":
            self.bench.clock.advance(size / 10)
        self.bench.turn()


@settings(max_examples=60)
@given(INCIDENTS)
def test_whatever_happens_messages_are_whole_in_order_and_come_once(
    incidents: list[tuple[str, tuple[str, str], int]],
) -> None:
    with benches() as bench:
        turmoil = Turmoil(bench)
        for incident in incidents:
            turmoil.happen(*incident)
        bench.settle()
        for plane in turmoil.planes.values():
            numbers: dict[str, list[int]] = {name: [] for name in NAMES}
            for incoming in bench.messages(plane):
                number = int(incoming.frames[0])
                numbers[incoming.sender].append(number)
                payload = b"".join(incoming.frames[1:])
                assert not payload.strip(bytes([number % 256]))
            for found in numbers.values():
                assert found == sorted(set(found))
        # And afterwards everybody can still be reached.
        for pair in itertools.permutations(NAMES, 2):
            turmoil.happen("move", pair, 0)
            turmoil.happen("renew", pair, 0)
        for name, other in itertools.permutations(NAMES, 2):
            assert turmoil.planes[name].send(other, [b"1000000"])
        bench.clock.advance(bounds.RECONNECT_CEILING_MS / 1_000)
        for plane in turmoil.planes.values():
            bench.until(lambda p=plane: bench.words(p).count(b"1000000") == 2)


# --- Closing -------------------------------------------------------------------------


def test_queued_data_leaves_before_closing(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bounds, "CLOSE_LINGER_MS", 1_000 * PATIENCE_S)
    a, b = bench.pair()
    chunk = os.urandom(CHUNK_BYTES)
    for number in range(12):
        assert a.send("b", [b"%d" % number, chunk])
    bench.planes.remove(a)
    closer = threading.Thread(target=a.close)
    closer.start()
    bench.until(lambda: len(bench.messages(b)) == 12)
    closer.join(PATIENCE_S)
    assert not closer.is_alive()
    bench.settle()
    assert not bench.dropped(b)


def test_closing_does_not_wait_for_who_does_not_read(bench: Bench) -> None:
    listener, address = bench.listener()
    a = bench.plane()
    a.connect("b", address)
    a.open_session("b", sending=b"a-to-b--", receiving=b"b-to-a--")
    while a.send("b", [b"head", bytes(CHUNK_BYTES)]):
        pass
    channel = bench.accepted(listener)
    closer = threading.Thread(target=bench.shut, args=(a,))
    closer.start()
    closer.join(PATIENCE_S)
    assert not closer.is_alive()
    while channel.recv(1 << 20):
        pass  # what the kernel had


def test_close_frees_descriptors_threads_and_port() -> None:
    process = psutil.Process()

    def live() -> tuple[int, int]:
        with benches() as bench:
            a, b = bench.pair()
            b.banner = b"me"
            assert a.send("b", [b"head", bytes(CHUNK_BYTES)])
            a.connect("dead", bench.refusing()[1])
            a.open_session("dead", sending=b"a-to-c--", receiving=b"c-to-a--")
            assert a.send("dead", [b"never arrives"])
            a.connect("odd", Address("nobody.invalid", 1))
            a.open_session("odd", sending=b"a-to-d--", receiving=b"d-to-a--")
            assert a.send("odd", [b"never arrives"])
            a.ask(Address("127.0.0.1", b.address.port - 1))
            bench.visitor(b)
            bench.visitor(b).send(message(b"a-to-b--", b"cut off")[:20])
            bench.until(lambda: len(bench.arrived[b]) == len(bench.arrived[a]) == 1)
            address = bench.shut(b)
            bench.plane(address)
        return process.num_fds(), threading.active_count()

    def look_ups_have_ended() -> bool:
        return threading.active_count() == before[1]

    before = process.num_fds(), threading.active_count()
    assert live()[0] == before[0]
    deadline = time.monotonic() + PATIENCE_S
    while not look_ups_have_ended():
        assert time.monotonic() < deadline


# --- Addresses -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("listen", "reach"),
    [
        ("127.0.0.1", "localhost"),
        ("0.0.0.0", "127.0.0.1"),
        ("localhost", "localhost"),
        *(
            pytest.param(
                *hosts,
                marks=pytest.mark.skipif(not has_ipv6(), reason="no IPv6 here"),
            )
            for hosts in (("::1", "::1"), ("::", "127.0.0.1"), ("::", "::1"))
        ),
    ],
)
def test_hosts_by_name_and_number(bench: Bench, listen: str, reach: str) -> None:
    a, b = bench.plane(), bench.plane(Address(listen, 0))
    assert b.address.host == listen and b.address.port
    meet(a, b)
    a.connect("b", Address(reach, b.address.port))
    assert a.send("b", [b"word"])
    bench.until(lambda: bench.words(b) == [b"word"])


@pytest.mark.parametrize("host", ["192.0.2.1", "nobody.invalid"])
def test_foreign_listen_address_is_a_config_error(host: str) -> None:
    with pytest.raises(ConfigError) as raised:
        DataPlane(Address(host, 0), Traffic())
    assert f"cannot listen on {host}:0" in raised.value.message
    assert raised.value.hint


def test_taken_port_is_a_conflict(bench: Bench) -> None:
    taken = bench.plane().address
    with pytest.raises(ConflictError) as raised:
        DataPlane(taken, Traffic())
    assert raised.value.message == f"port {taken.port} on 127.0.0.1 is in use"
    assert raised.value.hint


def test_without_descriptors_nobody_listens() -> None:
    with no_descriptors(), pytest.raises(ResourceError):
        DataPlane(ANY_PORT, Traffic())


def test_without_descriptors_links_wait_and_try_again(bench: Bench) -> None:
    a, b = bench.pair()
    with no_descriptors():
        assert a.send("b", [b"word"])
        assert a.deadline() is not None and not is_readable(a)
    bench.clock.advance(bounds.RECONNECT_CEILING_MS / 1_000)
    bench.until(lambda: bench.words(b) == [b"word"])
