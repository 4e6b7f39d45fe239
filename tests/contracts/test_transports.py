"""What ``transport/base.py`` promises, for every entry of ``TRANSPORTS``."""

from __future__ import annotations

import math
import os
import selectors
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

import psutil
import pytest
import zmq

from p2pfusion.errors import ConflictError, LocalProtocolError
from p2pfusion.limits import (
    CHUNK_BYTES,
    CONTROL_SEND_QUEUE_MESSAGES,
    MAX_CONTROL_FRAME_BYTES,
    MAX_CONTROL_MESSAGES_PER_POLL,
    MAX_DATA_FRAME_BYTES,
    MAX_FRAMES_PER_MESSAGE,
    MAX_KNOCKS,
    MAX_PEER_ID_CHARACTERS,
)
from p2pfusion.transport import TRANSPORTS, Address, Incoming, Plane, Transport
from p2pfusion.transport.memory import Hub, MemoryTransport
from p2pfusion.transport.zeromq import ZeroMQTransport

PATIENCE_S = 20.0
ANY_PORT = Address("127.0.0.1", 0)
CONTROL, DATA = Plane.CONTROL, Plane.DATA


class Network(Protocol):
    """Where transports of one kind meet, and somebody who ignores the rules."""

    def open(self, peer: str, control: Address, data: Address) -> Transport: ...

    def intruder(self, name: str, target: Address) -> Callable[[Sequence[bytes]], None]:
        """Returns what sends anything at all to ``target`` under ``name``."""
        ...

    def close(self) -> None: ...


class MemoryNetwork:
    def __init__(self) -> None:
        self.hub = Hub()

    def open(self, peer: str, control: Address, data: Address) -> Transport:
        return MemoryTransport(self.hub, peer, control=control, data=data)

    def intruder(self, name: str, target: Address) -> Callable[[Sequence[bytes]], None]:
        link = self.hub.open(name, target, 1_000)

        def send(frames: Sequence[bytes]) -> None:
            self.hub.post(link, tuple(frames))

        return send

    def close(self) -> None:
        pass


class ZeroMQNetwork:
    def __init__(self) -> None:
        self.context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()

    def open(self, peer: str, control: Address, data: Address) -> Transport:
        return ZeroMQTransport(peer, control=control, data=data)

    def intruder(self, name: str, target: Address) -> Callable[[Sequence[bytes]], None]:
        dealer = self.context.socket(zmq.DEALER)
        dealer.set(zmq.ROUTING_ID, name.encode())
        dealer.connect(f"tcp://{target}")

        def send(frames: Sequence[bytes]) -> None:
            dealer.send_multipart(frames)

        return send

    def close(self) -> None:
        self.context.destroy(linger=0)


NETWORKS: dict[str, Callable[[], Network]] = {
    "memory": MemoryNetwork,
    "zeromq": ZeroMQNetwork,
}


class Swarm:
    """Transports of one network, closed at the end of the test."""

    def __init__(self, network: Network) -> None:
        self.network = network
        self.transports: list[Transport] = []

    def open(
        self, peer: str, control: Address = ANY_PORT, data: Address = ANY_PORT
    ) -> Transport:
        transport = self.network.open(peer, control, data)
        self.transports.append(transport)
        return transport

    def shut(self, transport: Transport) -> dict[Plane, Address]:
        """Closes one, and says where it was."""
        addresses = dict(transport.addresses)
        self.transports.remove(transport)
        transport.close()
        return addresses

    def pair(self) -> tuple[Transport, Transport]:
        """Peers a and b, each connected to the other."""
        a, b = self.open("a"), self.open("b")
        meet(a, "b", b.addresses)
        meet(b, "a", a.addresses)
        return a, b

    def close(self) -> None:
        for transport in self.transports:
            transport.close()
        self.network.close()


@pytest.fixture(params=TRANSPORTS)
def swarm(request: pytest.FixtureRequest) -> Iterator[Swarm]:
    made = Swarm(NETWORKS[request.param]())
    yield made
    made.close()


def meet(transport: Transport, peer: str, addresses: object) -> None:
    assert isinstance(addresses, dict)
    transport.connect(peer, control=addresses[CONTROL], data=addresses[DATA])


def receive(transport: Transport, count: int) -> list[Incoming]:
    """The next messages; fails if they do not come in time."""
    messages: list[Incoming] = []
    deadline = time.monotonic() + PATIENCE_S
    while len(messages) < count:
        assert time.monotonic() < deadline, f"{len(messages)} of {count} arrived"
        messages += transport.poll(0.1, {})[0]
    assert len(messages) == count
    return messages


def send_until_received(
    send: Callable[[], object], transport: Transport, sender: str
) -> Incoming:
    """Repeats ``send``, which may get lost, until something of ``sender`` arrives."""
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        send()
        for message in transport.poll(0.05, {})[0]:
            if message.sender == sender:
                return message
    raise AssertionError(f"nothing arrived from {sender}")


def words(messages: Sequence[Incoming]) -> list[bytes]:
    return [bytes(message.frames[0]) for message in messages]


def test_every_transport_is_tested() -> None:
    assert NETWORKS.keys() == TRANSPORTS.keys()


@pytest.mark.parametrize("plane", Plane)
def test_messages_arrive_in_order(swarm: Swarm, plane: Plane) -> None:
    a, b = swarm.pair()
    got: list[bytes] = []
    sent = 0
    deadline = time.monotonic() + PATIENCE_S
    while len(got) < 1_000 and time.monotonic() < deadline:
        while sent < 1_000 and a.send("b", plane, [b"%d" % sent]):
            sent += 1
        got += words(b.poll(0.1, {})[0])
    assert got == [b"%d" % number for number in range(1_000)]


def test_both_directions_and_planes_keep_apart(swarm: Swarm) -> None:
    a, b = swarm.pair()
    for plane in Plane:
        assert a.send("b", plane, [b"to b", plane.encode()])
        assert b.send("a", plane, [b"to a", plane.encode()])
    for transport, name, other in ((a, "a", "b"), (b, "b", "a")):
        got = receive(transport, 2)
        assert {message.plane for message in got} == set(Plane)
        for message in got:
            assert message.sender == other
            assert [bytes(frame) for frame in message.frames] == [
                f"to {name}".encode(),
                message.plane.encode(),
            ]


def test_large_messages_arrive_whole(swarm: Swarm) -> None:
    a, b = swarm.pair()
    pieces = [os.urandom(MAX_DATA_FRAME_BYTES) for _ in range(MAX_FRAMES_PER_MESSAGE)]
    pieces[1] = b""
    assert a.send("b", DATA, [memoryview(piece) for piece in pieces])
    (message,) = receive(b, 1)
    assert all(isinstance(frame, memoryview) for frame in message.frames)
    assert [bytes(frame) for frame in message.frames] == pieces
    largest = os.urandom(MAX_CONTROL_FRAME_BYTES)
    assert a.send("b", CONTROL, [largest])
    assert receive(b, 1)[0].frames == (largest,)


@pytest.mark.parametrize(
    ("plane", "frames"),
    [
        (CONTROL, [bytes(MAX_CONTROL_FRAME_BYTES + 1)]),
        (DATA, [b"", memoryview(bytes(MAX_DATA_FRAME_BYTES + 1))]),
        (CONTROL, []),
        (DATA, [b""] * (MAX_FRAMES_PER_MESSAGE + 1)),
    ],
)
def test_own_message_out_of_bounds_is_a_bug(
    swarm: Swarm, plane: Plane, frames: list[bytes]
) -> None:
    a, _ = swarm.pair()
    with pytest.raises(LocalProtocolError):
        a.send("b", plane, frames)
    assert a.traffic.sent_bytes() == 0


@pytest.mark.parametrize("plane", Plane)
def test_oversized_frame_is_dropped_and_its_sender_may_go_on(
    swarm: Swarm, plane: Plane
) -> None:
    a, b = swarm.pair()
    send = swarm.network.intruder("mallory", b.addresses[plane])
    send([b"before"])
    assert words(receive(b, 1)) == [b"before"]
    send([bytes(MAX_DATA_FRAME_BYTES + 1)])
    message = send_until_received(lambda: send([b"after"]), b, "mallory")
    assert words([message]) == [b"after"]
    send_until_received(lambda: a.send("b", plane, [b"still there"]), b, "a")
    assert b.traffic.received_bytes(peer="mallory") < MAX_CONTROL_FRAME_BYTES


@pytest.mark.parametrize(
    ("name", "frames"),
    [
        ("x" * (MAX_PEER_ID_CHARACTERS + 1), [b"word"]),
        ("with space", [b"word"]),
        ("Ünal", [b"word"]),
        ("mallory", [b""] * (MAX_FRAMES_PER_MESSAGE + 1)),
    ],
)
def test_odd_senders_and_messages_are_dropped_and_counted(
    swarm: Swarm, name: str, frames: list[bytes]
) -> None:
    a, b = swarm.pair()
    swarm.network.intruder(name, b.addresses[CONTROL])(frames)
    deadline = time.monotonic() + PATIENCE_S
    while not b.traffic.dropped and time.monotonic() < deadline:
        assert b.poll(0.1, {}) == ([], [])
    assert b.traffic.dropped.total() == 1
    assert b.traffic.received_bytes() == 0
    assert a.send("b", CONTROL, [b"fine"])
    assert words(receive(b, 1)) == [b"fine"]


def test_unknown_peer_gets_nothing(swarm: Swarm) -> None:
    a, b = swarm.pair()
    assert not a.send("nobody", CONTROL, [b"word"])
    a.disconnect("nobody")
    a.disconnect("b")
    assert not a.send("b", DATA, [b"word"])
    assert a.traffic.dropped == {"unknown peer": 2}
    assert a.traffic.sent_bytes() == 0
    assert b.send("a", DATA, [b"the other way stays"])
    assert words(receive(a, 1)) == [b"the other way stays"]


@pytest.mark.parametrize("plane", Plane)
def test_restarted_peer_is_reached_again(swarm: Swarm, plane: Plane) -> None:
    a, b = swarm.pair()
    assert a.send("b", plane, [b"first"])
    assert b.send("a", plane, [b"first"])
    receive(b, 1)
    receive(a, 1)
    addresses = swarm.shut(b)
    again = swarm.open("b", addresses[CONTROL], addresses[DATA])
    meet(again, "a", a.addresses)
    send_until_received(lambda: a.send("b", plane, [b"second"]), again, "a")
    send_until_received(lambda: again.send("a", plane, [b"second"]), a, "b")


def test_peer_that_restarts_without_hanging_up_takes_over(swarm: Swarm) -> None:
    a, b = swarm.pair()
    assert b.send("a", CONTROL, [b"old"])
    receive(a, 1)
    newer = swarm.open("b")
    meet(newer, "a", a.addresses)

    def send() -> None:
        newer.send("a", CONTROL, [b"new"])

    assert words([send_until_received(send, a, "b")]) == [b"new"]


def test_counters_are_exact(swarm: Swarm) -> None:
    a, b = swarm.pair()
    assert a.send("b", CONTROL, [b"12345", b"678"])
    assert a.send("b", DATA, [b"", memoryview(bytes(CHUNK_BYTES))])
    assert b.send("a", DATA, [b"1"])
    a.knock(b.addresses[CONTROL], [b"hello"])
    receive(b, 3)
    receive(a, 1)
    assert a.traffic.sent_bytes() == 8 + CHUNK_BYTES + 5
    assert a.traffic.sent_bytes(peer="b") == 8 + CHUNK_BYTES
    assert a.traffic.sent_bytes(plane=CONTROL) == 13
    assert b.traffic.received_bytes() == 8 + CHUNK_BYTES + 5
    assert b.traffic.received_bytes(plane=DATA, peer="a") == CHUNK_BYTES
    assert b.traffic.received_bytes(plane=CONTROL) == 13
    assert a.traffic.received_bytes(peer="b") == b.traffic.sent_bytes() == 1
    assert not a.traffic.dropped and not b.traffic.dropped


@pytest.mark.parametrize("plane", Plane)
def test_dead_peer_blocks_nobody(swarm: Swarm, plane: Plane) -> None:
    a, b = swarm.pair()
    dead = swarm.shut(swarm.open("c"))
    meet(a, "c", dead)
    accepted = 0
    started = time.monotonic()
    while a.send("c", plane, [b"word"]):
        accepted += 1
        assert accepted <= 2 * CONTROL_SEND_QUEUE_MESSAGES
    assert time.monotonic() - started < 5.0
    assert accepted > 0
    assert a.traffic.dropped == {"queue full": 1}
    assert a.traffic.sent_bytes(peer="c") == 4 * accepted
    assert a.send("b", plane, [b"word"])
    assert words(receive(b, 1)) == [b"word"]


def test_slow_reader_holds_the_sender_back_and_loses_nothing(swarm: Swarm) -> None:
    a, b = swarm.pair()
    filler = bytes(MAX_CONTROL_FRAME_BYTES)
    accepted = 0
    while a.send("b", CONTROL, [b"%d" % accepted, filler]):
        accepted += 1
        assert accepted < 10_000
    assert words(receive(b, accepted)) == [b"%d" % n for n in range(accepted)]


def test_knock_reaches_who_listens_and_disturbs_no_connection(swarm: Swarm) -> None:
    a, b = swarm.pair()
    for number in range(3):
        a.knock(b.addresses[CONTROL], [b"knock", b"%d" % number])
        assert receive(b, 1) == [
            Incoming("a", CONTROL, (b"knock", b"%d" % number)),
        ]
        assert a.send("b", CONTROL, [b"word"])
        assert words(receive(b, 1)) == [b"word"]


def test_knock_waits_for_who_comes_later(swarm: Swarm) -> None:
    a = swarm.open("a")
    empty = swarm.shut(swarm.open("b"))
    a.knock(empty[CONTROL], [b"anybody?"])
    b = swarm.open("b", empty[CONTROL], empty[DATA])
    assert receive(b, 1) == [Incoming("a", CONTROL, (b"anybody?",))]


def test_knocks_are_bounded(swarm: Swarm) -> None:
    a, b = swarm.pair()
    dead = swarm.shut(swarm.open("c"))[CONTROL]
    for _ in range(100):
        a.knock(dead, [b"anybody?"])
    assert 0 < a.traffic.dropped["queue full"] < 100
    for port in range(1, 2 * MAX_KNOCKS):
        a.knock(Address("127.0.0.1", port), [b"anybody?"])
    a.knock(b.addresses[CONTROL], [b"there you are"])
    assert words(receive(b, 1)) == [b"there you are"]


def test_connecting_again_keeps_what_waits(swarm: Swarm) -> None:
    a = swarm.open("a")
    later = swarm.shut(swarm.open("b"))
    meet(a, "b", later)
    assert a.send("b", CONTROL, [b"for later"])
    meet(a, "b", later)
    b = swarm.open("b", later[CONTROL], later[DATA])
    assert words(receive(b, 1)) == [b"for later"]


def test_changed_address_replaces_the_connection(swarm: Swarm) -> None:
    a, b = swarm.pair()
    moved = swarm.open("b")
    meet(a, "b", moved.addresses)
    for plane in Plane:
        assert a.send("b", plane, [b"word"])
    assert words(receive(moved, 2)) == [b"word", b"word"]
    assert b.poll(0, {}) == ([], [])


def test_unresolvable_host_is_only_silent(swarm: Swarm) -> None:
    a, b = swarm.pair()
    nowhere = Address("nobody.invalid", 7_788)
    a.connect("c", control=nowhere, data=nowhere)
    a.knock(nowhere, [b"anybody?"])
    assert a.send("c", CONTROL, [b"word"])
    assert a.send("b", CONTROL, [b"word"])
    assert words(receive(b, 1)) == [b"word"]


def test_taken_port_is_a_conflict_and_leaves_nothing(swarm: Swarm) -> None:
    a, free = swarm.open("a"), swarm.shut(swarm.open("free"))
    taken = a.addresses[DATA]
    with pytest.raises(ConflictError) as raised:
        swarm.open("b", free[CONTROL], taken)
    assert raised.value.message == f"port {taken.port} on 127.0.0.1 is in use"
    assert raised.value.hint
    swarm.open("b", free[CONTROL], free[DATA])


def test_poll_gives_up_in_time(swarm: Swarm) -> None:
    a = swarm.open("a")
    a.poll(0, {})
    started = time.monotonic()
    assert a.poll(0.05, {}) == ([], [])
    assert 0.04 < time.monotonic() - started < 5.0


def test_poll_watches_descriptors(swarm: Swarm) -> None:
    a, b = swarm.pair()
    left, right = socket.socketpair()
    with left, right:
        number = left.fileno()
        reading, writing = selectors.EVENT_READ, selectors.EVENT_WRITE
        a.poll(0, {})
        assert a.poll(0, {number: reading}) == ([], [])
        assert a.poll(None, {number: reading | writing}) == ([], [number])
        right.send(b"x")
        assert a.poll(None, {number: reading}) == ([], [number])
        left.recv(1)
        assert a.poll(0, {number: reading}) == ([], [])
        right.close()
        assert a.poll(None, {number: reading}) == ([], [number])
        assert b.send("a", DATA, [b"word"])
        assert words(receive(a, 1)) == [b"word"]


@pytest.mark.parametrize("timeout_s", [None, math.inf, 1e12])
def test_poll_without_end_wakes_for_a_message(
    swarm: Swarm, timeout_s: float | None
) -> None:
    a, b = swarm.pair()
    got: list[Incoming] = []

    def listen() -> None:
        while not got:  # any wait may end early
            got.extend(a.poll(timeout_s, {})[0])

    listener = threading.Thread(target=listen)
    listener.start()
    assert b.send("a", CONTROL, [b"wake up"])
    listener.join(PATIENCE_S)
    assert not listener.is_alive()
    assert words(got) == [b"wake up"]


def test_one_poll_hands_over_a_bounded_number(swarm: Swarm) -> None:
    a, b = swarm.pair()
    c = swarm.open("c")
    meet(c, "b", b.addresses)
    count = MAX_CONTROL_MESSAGES_PER_POLL + 1
    for _ in range(count):
        assert a.send("b", CONTROL, [b"a"])
        assert c.send("b", CONTROL, [b"c"])
    batches: list[list[Incoming]] = []
    while sum(map(len, batches)) < 2 * count:
        batches.append(b.poll(PATIENCE_S, {})[0])
        assert len(batches[-1]) <= MAX_CONTROL_MESSAGES_PER_POLL
    assert sorted(words([m for batch in batches for m in batch])) == (
        [b"a"] * count + [b"c"] * count
    )


def test_close_frees_threads_and_descriptors(swarm: Swarm) -> None:
    process = psutil.Process()
    swarm.pair()  # the first sockets of a process start what stays until its end

    def live(wanted: bool) -> tuple[int, int]:
        if wanted:
            a, b = swarm.pair()
            dead = swarm.shut(swarm.open("c"))
            meet(a, "c", dead)
            assert a.send("b", DATA, [bytes(CHUNK_BYTES)])
            assert a.send("c", CONTROL, [b"never arrives"])
            a.knock(dead[CONTROL], [b"anybody?"])
            receive(b, 1)
            swarm.shut(a)
            swarm.shut(b)
        return process.num_threads(), process.num_fds()

    live(True)
    before = live(False)
    started = time.monotonic()
    assert live(True) == before
    assert time.monotonic() - started < 5.0


def test_closed_transport_leaves_its_ports(swarm: Swarm) -> None:
    addresses = swarm.shut(swarm.open("a"))
    again = swarm.open("a", addresses[CONTROL], addresses[DATA])
    assert again.addresses == addresses


def test_last_words_leave_before_closing(swarm: Swarm) -> None:
    a, b = swarm.pair()
    assert a.send("b", CONTROL, [b"hello"])
    receive(b, 1)
    assert a.send("b", CONTROL, [b"goodbye"])
    swarm.shut(a)
    assert words(receive(b, 1)) == [b"goodbye"]


@pytest.mark.parametrize("peer", ["", "two words", "x" * 65, "Ünal"])
def test_impossible_peer_id_is_a_bug(swarm: Swarm, peer: str) -> None:
    a = swarm.open("a")
    with pytest.raises(LocalProtocolError):
        a.connect(peer, control=ANY_PORT, data=ANY_PORT)
    with pytest.raises(LocalProtocolError):
        swarm.open(peer)
