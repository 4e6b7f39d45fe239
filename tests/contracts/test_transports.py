"""What ``transport/base.py`` promises, for every entry of ``TRANSPORTS``, the network
with keys and without."""

from __future__ import annotations

import functools
import hashlib
import math
import os
import selectors
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Protocol

import psutil
import pytest
import zmq
from zmq.utils import z85

from p2pfusion.errors import ConflictError, LocalProtocolError
from p2pfusion.limits import (
    CHUNK_BYTES,
    MAX_BANNER_BYTES,
    MAX_CONTROL_FRAME_BYTES,
    SEAL_BYTES,
)
from p2pfusion.transport import (
    GUEST,
    TRANSPORTS,
    Address,
    Arrival,
    Banner,
    Incoming,
    Keys,
    KnockFailed,
    MemoryTransport,
    NetworkTransport,
    Plane,
    Remote,
    Transport,
)
from p2pfusion.transport.base import TOKEN_BYTES
from p2pfusion.transport.bounds import (
    CONTROL_SEND_QUEUE_MESSAGES,
    MAX_CONTROL_MESSAGES_PER_POLL,
    MAX_FRAMES_PER_MESSAGE,
    MAX_KNOCKS,
    MAX_PEER_ID_CHARACTERS,
)
from p2pfusion.transport.memory import Hub

PATIENCE_S = 20.0
ANY_PORT = Address("127.0.0.1", 0)
CONTROL, DATA = Plane.CONTROL, Plane.DATA


@functools.cache
def keys_of(name: str) -> Keys:
    """The same keys whenever they are asked for, also after a restart."""
    public, secret = map(z85.decode, zmq.curve_keypair())
    return Keys(public, secret)


def token(sender: str, receiver: str) -> bytes:
    """What messages from one to the other begin with."""
    return hashlib.sha256(f"{sender} {receiver}".encode()).digest()[:TOKEN_BYTES]


class Network(Protocol):
    """Where transports of one kind meet, and somebody who ignores the rules."""

    def open(self, peer: str, listen: Address) -> Transport: ...

    def intruder(self, name: str, target: Address) -> Callable[[Sequence[bytes]], None]:
        """Returns what sends anything at all to a control address under ``name``, or
        with its keys."""
        ...

    def close(self) -> None: ...


class MemoryNetwork:
    def __init__(self) -> None:
        self.hub = Hub()

    def open(self, peer: str, listen: Address) -> Transport:
        return MemoryTransport(self.hub, peer, listen)

    def intruder(self, name: str, target: Address) -> Callable[[Sequence[bytes]], None]:
        link = self.hub.open(name, target, 1_000)

        def send(frames: Sequence[bytes]) -> None:
            self.hub.post(link, (b"", *frames))

        return send

    def close(self) -> None:
        pass


class RealNetwork:
    def __init__(self, *, has_keys: bool) -> None:
        self.has_keys = has_keys
        self.context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self.listeners: dict[Address, str] = {}

    def open(self, peer: str, listen: Address) -> Transport:
        keys = keys_of(peer) if self.has_keys else None
        opened = NetworkTransport(peer, listen, keys)
        self.listeners[opened.addresses[CONTROL]] = peer
        return opened

    def intruder(self, name: str, target: Address) -> Callable[[Sequence[bytes]], None]:
        socket_ = self.context.socket(zmq.PUSH)
        if self.has_keys:
            own = keys_of(name)
            socket_.set(zmq.CURVE_SERVERKEY, keys_of(self.listeners[target]).public)
            socket_.set(zmq.CURVE_PUBLICKEY, own.public)
            socket_.set(zmq.CURVE_SECRETKEY, own.secret)
        socket_.connect(f"tcp://{target}")

        def send(frames: Sequence[bytes]) -> None:
            named = [] if self.has_keys else [name.encode()]
            socket_.send_multipart([*named, *frames])

        return send

    def close(self) -> None:
        self.context.destroy(linger=0)


NETWORKS: dict[str, Callable[[], Network]] = {
    "memory": MemoryNetwork,
    "network": functools.partial(RealNetwork, has_keys=True),
    "network-plain": functools.partial(RealNetwork, has_keys=False),
}


class Swarm:
    """Transports of one network, closed at the end of the test."""

    def __init__(self, network: Network) -> None:
        self.network = network
        self.transports: dict[Transport, str] = {}
        self.inbox: dict[Transport, list[Arrival]] = {}

    def open(self, peer: str, listen: Address = ANY_PORT) -> Transport:
        transport = self.network.open(peer, listen)
        self.transports[transport] = peer
        return transport

    def shut(self, transport: Transport) -> dict[Plane, Address]:
        """Closes one, and says where it was."""
        addresses = dict(transport.addresses)
        del self.transports[transport]
        transport.close()
        return addresses

    def meet(
        self, transport: Transport, peer: str, addresses: Mapping[Plane, Address]
    ) -> None:
        """Tells a transport all that it needs to speak with a peer."""
        key = keys_of(peer).public
        transport.admit(peer, key)
        transport.connect(peer, Remote(addresses[CONTROL], addresses[DATA], key))
        own = self.transports[transport]
        sending, receiving = token(own, peer), token(peer, own)
        transport.open_session(peer, sending=sending, receiving=receiving)

    def pair(self) -> tuple[Transport, Transport]:
        """Peers a and b, each connected to the other."""
        a, b = self.open("a"), self.open("b")
        self.meet(a, "b", b.addresses)
        self.meet(b, "a", a.addresses)
        return a, b

    def turn(self, transport: Transport, wait_s: float = 0.02) -> list[Arrival]:
        """What arrives at one, while all the others do their part as well."""
        for other in self.transports:
            if other is not transport:
                inbox = self.inbox.setdefault(other, [])
                inbox += copied(other.poll(0, {})[0])
        waiting = self.inbox.pop(transport, [])
        return waiting + copied(transport.poll(0 if waiting else wait_s, {})[0])

    def receive(self, transport: Transport, count: int) -> list[Incoming]:
        """The next messages; fails if they do not come in time."""
        got: list[Incoming] = []
        deadline = time.monotonic() + PATIENCE_S
        while len(got) < count:
            assert time.monotonic() < deadline, f"{len(got)} of {count} arrived"
            got += messages(self.turn(transport))
        assert len(got) == count
        return got

    def send_until_received(
        self, send: Callable[[], object], transport: Transport, sender: str
    ) -> Incoming:
        """Repeats ``send``, which may get lost, until something of ``sender`` comes."""
        deadline = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline:
            send()
            for message in messages(self.turn(transport, 0.05)):
                if message.sender == sender:
                    return message
        raise AssertionError(f"nothing arrived from {sender}")

    def drop(self, transport: Transport) -> None:
        """Waits until something was dropped, while nothing arrives."""
        deadline = time.monotonic() + PATIENCE_S
        while not transport.traffic.dropped:
            assert time.monotonic() < deadline
            assert self.turn(transport) == []

    def close(self) -> None:
        for transport in self.transports:
            transport.close()
        self.network.close()


@pytest.fixture(params=NETWORKS)
def swarm(request: pytest.FixtureRequest) -> Iterator[Swarm]:
    made = Swarm(NETWORKS[request.param]())
    yield made
    made.close()


def knock(
    transport: Transport,
    address: Address,
    frames: Sequence[bytes],
    *,
    at: str = "b",
    own: Keys | None = None,
) -> None:
    transport.knock(address, frames, key=keys_of(at).public, own=own)


def copied(arrivals: Sequence[Arrival]) -> list[Arrival]:
    """Arrivals whose frames are still good after the next poll."""
    return [
        Incoming(a.sender, a.plane, tuple(bytes(frame) for frame in a.frames))
        if isinstance(a, Incoming)
        else a
        for a in arrivals
    ]


def messages(arrivals: Sequence[Arrival]) -> list[Incoming]:
    """The same; all must be messages."""
    found = [arrival for arrival in arrivals if isinstance(arrival, Incoming)]
    assert len(found) == len(arrivals)
    return found


def words(messages: Sequence[Incoming]) -> list[bytes]:
    return [bytes(message.frames[0]) for message in messages]


def test_every_transport_is_tested() -> None:
    assert {name.removesuffix("-plain") for name in NETWORKS} == TRANSPORTS.keys()


@pytest.mark.parametrize("plane", Plane)
def test_messages_arrive_in_order(swarm: Swarm, plane: Plane) -> None:
    a, b = swarm.pair()
    got: list[bytes] = []
    sent = 0
    deadline = time.monotonic() + PATIENCE_S
    while len(got) < 1_000 and time.monotonic() < deadline:
        while sent < 1_000 and a.send("b", plane, [b"%d" % sent]):
            sent += 1
        got += words(messages(swarm.turn(b)))
    assert got == [b"%d" % number for number in range(1_000)]


def test_both_directions_and_planes_keep_apart(swarm: Swarm) -> None:
    a, b = swarm.pair()
    for plane in Plane:
        assert a.send("b", plane, [b"to b", plane.encode()])
        assert b.send("a", plane, [b"to a", plane.encode()])
    for transport, name, other in ((a, "a", "b"), (b, "b", "a")):
        got = swarm.receive(transport, 2)
        assert {message.plane for message in got} == set(Plane)
        for message in got:
            assert message.sender == other
            assert [bytes(frame) for frame in message.frames] == [
                f"to {name}".encode(),
                message.plane.encode(),
            ]


def test_large_messages_arrive_whole(swarm: Swarm) -> None:
    a, b = swarm.pair()
    head = os.urandom(MAX_CONTROL_FRAME_BYTES + SEAL_BYTES)
    payload = os.urandom(CHUNK_BYTES + SEAL_BYTES)
    assert a.send("b", DATA, [head, memoryview(payload)])
    assert a.send("b", DATA, [memoryview(head)])
    assert [m.frames for m in swarm.receive(b, 2)] == [(head, payload), (head,)]
    largest = os.urandom(MAX_CONTROL_FRAME_BYTES)
    assert a.send("b", CONTROL, [largest, b"", largest])
    assert swarm.receive(b, 1)[0].frames == (largest, b"", largest)


def test_frames_of_the_data_plane_are_views(swarm: Swarm) -> None:
    a, b = swarm.pair()
    assert a.send("b", DATA, [b"head", b"payload"])
    got: list[Arrival] = []
    deadline = time.monotonic() + PATIENCE_S
    while not got and time.monotonic() < deadline:
        a.poll(0, {})
        got = b.poll(0.02, {})[0]
    (message,) = got
    assert isinstance(message, Incoming)
    assert [type(frame) for frame in message.frames] == [memoryview, memoryview]
    assert message.frames == (b"head", b"payload")


@pytest.mark.parametrize(
    ("plane", "frames"),
    [
        (CONTROL, [bytes(MAX_CONTROL_FRAME_BYTES + 1)]),
        (CONTROL, []),
        (CONTROL, [b""] * (MAX_FRAMES_PER_MESSAGE + 1)),
        (DATA, [b"", memoryview(bytes(CHUNK_BYTES + SEAL_BYTES + 1))]),
        (DATA, [bytes(MAX_CONTROL_FRAME_BYTES + SEAL_BYTES + 1)]),
        (DATA, []),
        (DATA, [b"", b"", b""]),
    ],
)
def test_own_message_out_of_bounds_is_a_bug(
    swarm: Swarm, plane: Plane, frames: list[bytes]
) -> None:
    a, _ = swarm.pair()
    with pytest.raises(LocalProtocolError):
        a.send("b", plane, frames)
    assert a.traffic.sent_bytes() == 0


def test_oversized_frame_is_dropped_and_its_sender_may_go_on(swarm: Swarm) -> None:
    a, b = swarm.pair()
    b.admit("mallory", keys_of("mallory").public)
    send = swarm.network.intruder("mallory", b.addresses[CONTROL])
    send([b"before"])
    assert words(swarm.receive(b, 1)) == [b"before"]
    send([bytes(2 * MAX_CONTROL_FRAME_BYTES)])
    message = swarm.send_until_received(lambda: send([b"after"]), b, "mallory")
    assert words([message]) == [b"after"]
    swarm.send_until_received(lambda: a.send("b", CONTROL, [b"still there"]), b, "a")
    assert b.traffic.received_bytes(peer="mallory") < MAX_CONTROL_FRAME_BYTES


def drops(swarm: Swarm, name: str, frames: list[bytes]) -> None:
    """Asserts that what an intruder sends is dropped, counted, and harmless."""
    a, b = swarm.pair()
    if name == "mallory":
        b.admit(name, keys_of(name).public)
    swarm.network.intruder(name, b.addresses[CONTROL])(frames)
    swarm.drop(b)
    assert b.traffic.dropped.total() == 1
    assert b.traffic.received_bytes() == 0
    assert a.send("b", CONTROL, [b"fine"])
    assert words(swarm.receive(b, 1)) == [b"fine"]


def test_message_of_too_many_frames_is_dropped_and_counted(swarm: Swarm) -> None:
    drops(swarm, "mallory", [b""] * (MAX_FRAMES_PER_MESSAGE + 1))


@pytest.mark.parametrize(
    "name",
    [
        "x" * (MAX_PEER_ID_CHARACTERS + 1),
        "with space",
        "Ünal",
        GUEST + "00",
        GUEST + "AB" * 32,
        GUEST + "ab" * 33,
    ],
)
@pytest.mark.parametrize("swarm", ["memory", "network-plain"], indirect=True)
def test_odd_names_are_dropped_and_counted(swarm: Swarm, name: str) -> None:
    drops(swarm, name, [b"word"])


def test_unknown_peer_gets_nothing(swarm: Swarm) -> None:
    a, b = swarm.pair()
    assert not a.send("nobody", CONTROL, [b"word"])
    a.disconnect("nobody")
    a.disconnect("b")
    assert not a.send("b", DATA, [b"word"])
    assert a.traffic.dropped == {"unknown peer": 2}
    assert a.traffic.sent_bytes() == 0
    assert b.send("a", DATA, [b"the other way stays"])
    assert words(swarm.receive(a, 1)) == [b"the other way stays"]


def test_without_a_session_no_data_leaves_or_arrives(swarm: Swarm) -> None:
    a, b, key = swarm.open("a"), swarm.open("b"), keys_of("b").public
    a.connect("b", Remote(b.addresses[CONTROL], b.addresses[DATA], key))
    assert not a.send("b", DATA, [b"word"])
    assert a.traffic.dropped == {"no session": 1}
    a.open_session("b", sending=token("a", "b"), receiving=token("b", "a"))
    assert a.send("b", DATA, [b"word"])
    swarm.drop(b)
    assert b.traffic.dropped == {"an unknown token": 1}


def test_session_names_the_sender_and_the_newest_counts(swarm: Swarm) -> None:
    a, b = swarm.pair()
    assert a.send("b", DATA, [b"first"])
    assert words(swarm.receive(b, 1)) == [b"first"]
    for transport, peer, sending, receiving in (
        (a, "b", b"12345678", b"abcdefgh"),
        (b, "a", b"abcdefgh", b"12345678"),
    ):
        transport.open_session(peer, sending=sending, receiving=receiving)
    message = swarm.send_until_received(lambda: a.send("b", DATA, [b"second"]), b, "a")
    assert message == Incoming("a", DATA, (b"second",))


def test_token_of_another_length_is_a_bug(swarm: Swarm) -> None:
    a = swarm.open("a")
    with pytest.raises(LocalProtocolError):
        a.open_session("b", sending=b"1234567", receiving=b"12345678")


@pytest.mark.parametrize("plane", Plane)
def test_restarted_peer_is_reached_again(swarm: Swarm, plane: Plane) -> None:
    a, b = swarm.pair()
    assert a.send("b", plane, [b"first"])
    assert b.send("a", plane, [b"first"])
    swarm.receive(b, 1)
    swarm.receive(a, 1)
    addresses = swarm.shut(b)
    again = swarm.open("b", addresses[CONTROL])
    swarm.meet(again, "a", a.addresses)
    swarm.send_until_received(lambda: a.send("b", plane, [b"second"]), again, "a")
    swarm.send_until_received(lambda: again.send("a", plane, [b"second"]), a, "b")


def test_peer_that_restarts_without_hanging_up_takes_over(swarm: Swarm) -> None:
    a, b = swarm.pair()
    assert b.send("a", CONTROL, [b"old"])
    swarm.receive(a, 1)
    newer = swarm.open("b")
    swarm.meet(newer, "a", a.addresses)

    def send() -> None:
        newer.send("a", CONTROL, [b"new"])

    assert words([swarm.send_until_received(send, a, "b")]) == [b"new"]


def test_counters_are_exact(swarm: Swarm) -> None:
    a, b = swarm.pair()
    assert a.send("b", CONTROL, [b"12345", b"678"])
    assert a.send("b", DATA, [b"", memoryview(bytes(CHUNK_BYTES))])
    assert b.send("a", DATA, [b"1"])
    knock(a, b.addresses[CONTROL], [b"hello"])
    swarm.receive(b, 3)
    swarm.receive(a, 1)
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
    swarm.meet(a, "c", dead)
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
    assert words(swarm.receive(b, 1)) == [b"word"]


def test_slow_reader_holds_the_sender_back_and_loses_nothing(swarm: Swarm) -> None:
    a, b = swarm.pair()
    filler = bytes(MAX_CONTROL_FRAME_BYTES)
    accepted = 0
    while a.send("b", CONTROL, [b"%d" % accepted, filler]):
        accepted += 1
        assert accepted < 10_000
    assert words(swarm.receive(b, accepted)) == [b"%d" % n for n in range(accepted)]


def test_knock_reaches_who_listens_and_disturbs_no_connection(swarm: Swarm) -> None:
    a, b = swarm.pair()
    for number in range(3):
        knock(a, b.addresses[CONTROL], [b"knock", b"%d" % number])
        assert swarm.receive(b, 1) == [
            Incoming("a", CONTROL, (b"knock", b"%d" % number)),
        ]
        assert a.send("b", CONTROL, [b"word"])
        assert words(swarm.receive(b, 1)) == [b"word"]


def test_knock_waits_for_who_comes_later(swarm: Swarm) -> None:
    a = swarm.open("a")
    empty = swarm.shut(swarm.open("b"))
    knock(a, empty[CONTROL], [b"anybody?"])
    b = swarm.open("b", empty[CONTROL])
    b.admit("a", keys_of("a").public)
    assert swarm.receive(b, 1) == [Incoming("a", CONTROL, (b"anybody?",))]


def test_knocks_are_bounded(swarm: Swarm) -> None:
    a, b = swarm.pair()
    dead = swarm.shut(swarm.open("c"))[CONTROL]
    for _ in range(100):
        knock(a, dead, [b"anybody?"], at="c")
    assert 0 < a.traffic.dropped["queue full"] < 100
    for port in range(1, 2 * MAX_KNOCKS):
        knock(a, Address("127.0.0.1", port), [b"anybody?"])
    knock(a, b.addresses[CONTROL], [b"there you are"])
    assert words(swarm.receive(b, 1)) == [b"there you are"]


def test_guest_knocks_under_its_own_key(swarm: Swarm) -> None:
    a, b, invited = swarm.open("a"), swarm.open("b"), keys_of("an invitation")
    b.set_door(guests=[invited.public], strangers=False, banner=b"")
    for number in range(3):
        knock(a, b.addresses[CONTROL], [b"%d" % number], own=invited)
        name = GUEST + invited.public.hex()
        assert swarm.receive(b, 1) == [Incoming(name, CONTROL, (b"%d" % number,))]


def test_two_guests_of_one_invitation_do_not_disturb_each_other(swarm: Swarm) -> None:
    a, b, c = swarm.open("a"), swarm.open("b"), swarm.open("c")
    invited = keys_of("an invitation")
    b.set_door(guests=[invited.public], strangers=False, banner=b"")
    for number in range(3):
        for transport, name in ((a, b"a"), (c, b"c")):
            knock(transport, b.addresses[CONTROL], [b"%s" % name], own=invited)
        assert sorted(words(swarm.receive(b, 2))) == [b"a", b"c"], number
    assert not b.traffic.dropped


def test_stranger_is_heard_where_the_door_is_open(swarm: Swarm) -> None:
    a, b, own = swarm.open("a"), swarm.open("b"), keys_of("a stranger")
    b.set_door(guests=[], strangers=True, banner=b"")
    knock(a, b.addresses[CONTROL], [b"hello"], own=own)
    (message,) = swarm.receive(b, 1)
    assert message.sender == GUEST + own.public.hex()


def test_guest_that_was_kicked_may_come_back(swarm: Swarm) -> None:
    a, b, invited = swarm.open("a"), swarm.open("b"), keys_of("an invitation")
    b.set_door(guests=[invited.public], strangers=False, banner=b"")

    def send() -> None:
        knock(a, b.addresses[CONTROL], [b"hello"], own=invited)

    send()
    (message,) = swarm.receive(b, 1)
    b.kick(message.sender)
    b.kick("nobody")
    swarm.send_until_received(send, b, message.sender)


def test_expelled_peer_is_not_heard_until_it_is_admitted_again(swarm: Swarm) -> None:
    a, b = swarm.pair()
    c = swarm.open("c")
    swarm.meet(b, "c", c.addresses)
    swarm.meet(c, "b", b.addresses)
    for transport in (a, c):
        for plane in Plane:
            assert transport.send("b", plane, [b"word"])
    swarm.receive(b, 4)
    b.expel("a")
    assert not b.send("a", CONTROL, [b"word"])
    assert not b.send("a", DATA, [b"word"])
    for plane in Plane:
        a.send("b", plane, [b"let me in"])
    message = swarm.send_until_received(lambda: c.send("b", CONTROL, [b"word"]), b, "c")
    assert message.sender == "c"
    swarm.meet(b, "a", a.addresses)
    for plane in Plane:
        words_heard: list[bytes] = []
        while words_heard[-1:] != [b"here again"]:

            def send(plane: Plane = plane) -> None:
                swarm.meet(a, "b", b.addresses)
                a.send("b", plane, [b"here again"])

            # What was refused at first may have waited.
            words_heard += words([swarm.send_until_received(send, b, "a")])


def test_expelling_somebody_unknown_does_nothing(swarm: Swarm) -> None:
    a, b = swarm.pair()
    b.expel("nobody")
    assert a.send("b", CONTROL, [b"word"])
    assert words(swarm.receive(b, 1)) == [b"word"]


def test_banner_is_told_to_who_asks(
    swarm: Swarm, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("p2pfusion.transport.bounds.HANDSHAKE_TIMEOUT_MS", 300)
    a, b = swarm.open("a"), swarm.open("b")
    address = b.addresses[CONTROL]
    banner = os.urandom(MAX_BANNER_BYTES)
    for said, wanted in (
        (b"", KnockFailed(address, "no-banner")),
        (b"who I am", Banner(address, b"who I am")),
        (banner, Banner(address, banner)),
        (b"", KnockFailed(address, "no-banner")),
    ):
        b.set_door(guests=[], strangers=True, banner=said)
        a.ask(address)
        got: list[Arrival] = []
        deadline = time.monotonic() + PATIENCE_S
        while not got and time.monotonic() < deadline:
            got = swarm.turn(a)
        assert got == [wanted]


def test_banner_that_is_too_long_is_a_bug(swarm: Swarm) -> None:
    with pytest.raises(LocalProtocolError):
        swarm.open("a").set_door(
            guests=[], strangers=True, banner=bytes(MAX_BANNER_BYTES + 1)
        )


def test_connecting_again_keeps_what_waits(swarm: Swarm) -> None:
    a = swarm.open("a")
    later = swarm.shut(swarm.open("b"))
    swarm.meet(a, "b", later)
    assert a.send("b", CONTROL, [b"for later"])
    swarm.meet(a, "b", later)
    b = swarm.open("b", later[CONTROL])
    b.admit("a", keys_of("a").public)
    assert words(swarm.receive(b, 1)) == [b"for later"]


def test_changed_address_replaces_the_connection(swarm: Swarm) -> None:
    a, b = swarm.pair()
    moved = swarm.open("b")
    swarm.meet(moved, "a", a.addresses)
    swarm.meet(a, "b", moved.addresses)
    for plane in Plane:
        assert a.send("b", plane, [b"word"])
    assert words(swarm.receive(moved, 2)) == [b"word", b"word"]
    assert b.poll(0, {}) == ([], [])


def test_unresolvable_host_is_only_silent(swarm: Swarm) -> None:
    a, b = swarm.pair()
    nowhere = Address("nobody.invalid", 7_788)
    a.connect("c", Remote(nowhere, nowhere, keys_of("c").public))
    knock(a, nowhere, [b"anybody?"], at="c")
    assert a.send("c", CONTROL, [b"word"])
    assert a.send("b", CONTROL, [b"word"])
    assert words(swarm.receive(b, 1)) == [b"word"]


def test_taken_port_is_a_conflict_and_leaves_nothing(swarm: Swarm) -> None:
    a, free = swarm.open("a"), swarm.shut(swarm.open("free"))
    taken = a.addresses[CONTROL]
    for listen in (taken, Address(taken.host, taken.port - 1)):
        with pytest.raises(ConflictError) as raised:
            swarm.open("b", listen)
        assert raised.value.message == f"port {taken.port} on 127.0.0.1 is in use"
        assert raised.value.hint
    swarm.open("b", free[CONTROL])


def test_data_is_received_one_port_above_control(swarm: Swarm) -> None:
    for _ in range(3):
        addresses = swarm.open("a").addresses
        assert addresses[DATA].port == addresses[CONTROL].port + 1 > 1


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
        assert words(swarm.receive(a, 1)) == [b"word"]


@pytest.mark.parametrize("timeout_s", [None, math.inf, 1e12])
def test_poll_without_end_wakes_for_a_message(
    swarm: Swarm, timeout_s: float | None
) -> None:
    a, b = swarm.pair()
    got: list[Incoming] = []

    def listen() -> None:
        while not got:  # any wait may end early
            got.extend(messages(a.poll(timeout_s, {})[0]))

    listener = threading.Thread(target=listen)
    listener.start()
    assert b.send("a", CONTROL, [b"wake up"])
    listener.join(PATIENCE_S)
    assert not listener.is_alive()
    assert words(got) == [b"wake up"]


def test_one_poll_hands_over_a_bounded_number(swarm: Swarm) -> None:
    a, b = swarm.pair()
    c = swarm.open("c")
    swarm.meet(c, "b", b.addresses)
    swarm.meet(b, "c", c.addresses)
    count = MAX_CONTROL_MESSAGES_PER_POLL + 1
    for _ in range(count):
        assert a.send("b", CONTROL, [b"a"])
        assert c.send("b", CONTROL, [b"c"])
    batches: list[list[Incoming]] = []
    while sum(map(len, batches)) < 2 * count:
        batches.append(messages(b.poll(PATIENCE_S, {})[0]))
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
            swarm.meet(a, "c", dead)
            assert a.send("b", DATA, [b"head", bytes(CHUNK_BYTES)])
            assert a.send("c", CONTROL, [b"never arrives"])
            knock(a, dead[CONTROL], [b"anybody?"], at="c")
            a.ask(dead[CONTROL])
            swarm.receive(b, 1)
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
    again = swarm.open("a", addresses[CONTROL])
    assert again.addresses == addresses


def test_last_words_leave_before_closing(swarm: Swarm) -> None:
    a, b = swarm.pair()
    assert a.send("b", CONTROL, [b"hello"])
    swarm.receive(b, 1)
    assert a.send("b", CONTROL, [b"goodbye"])
    swarm.shut(a)
    assert words(swarm.receive(b, 1)) == [b"goodbye"]


@pytest.mark.parametrize("peer", ["", "two words", "x" * 65, "Ünal"])
def test_impossible_peer_id_is_a_bug(swarm: Swarm, peer: str) -> None:
    a = swarm.open("a")
    with pytest.raises(LocalProtocolError):
        a.connect(peer, Remote(ANY_PORT, ANY_PORT, keys_of("b").public))
    with pytest.raises(LocalProtocolError):
        a.admit(peer, keys_of("b").public)
    with pytest.raises(LocalProtocolError):
        swarm.open(peer)
