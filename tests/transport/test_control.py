"""Who is heard on the control plane, as whom, and what everybody else may cost.

Against a real listener come real clients: some with ZeroMQ and keys of their own, some
that write bytes as they like. What every transport promises is tested in
``contracts/test_transports.py``.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, suppress

import psutil
import pytest
import zmq

from p2pfusion import limits
from p2pfusion.errors import ConflictError, LocalProtocolError
from p2pfusion.transport import bounds, zeromq
from p2pfusion.transport.base import (
    GUEST,
    Arrival,
    Incoming,
    Keys,
    KnockFailed,
    Plane,
)
from p2pfusion.transport.control import ControlPlane
from tests.transport.strangers import (
    GREETING,
    MORE,
    PATIENCE_S,
    READY,
    Clients,
    clients,
    dropped,
    frame,
    is_hung_up,
    keys_of,
    open_plane,
    receive,
    shake_hands,
    until,
)

CONTROL = Plane.CONTROL
INVITED = keys_of("an invitation")
INVITED_NAME = GUEST + INVITED.public.hex()


@pytest.fixture
def host() -> Iterator[ControlPlane]:
    """Who is called. Knows one member, ``friend``."""
    with closing(open_plane("host")) as plane:
        plane.admit("friend", keys_of("friend").public)
        yield plane


@pytest.fixture
def friend(host: ControlPlane) -> Iterator[ControlPlane]:
    """A member with a line to the host."""
    with closing(open_plane("friend")) as plane:
        plane.connect("host", host.address, keys_of("host").public)
        yield plane


@pytest.fixture
def plain() -> Iterator[ControlPlane]:
    """A host without keys."""
    with closing(open_plane("host", plain=True)) as plane:
        yield plane


@pytest.fixture
def others() -> Iterator[Clients]:
    with clients() as made:
        yield made


def hears(host: ControlPlane, friend: ControlPlane) -> None:
    """Asserts that members are heard, whatever else goes on, and nobody else is."""
    assert friend.send("host", [b"word"])
    assert receive(host, 1, friend) == [Incoming("friend", CONTROL, (b"word",))]


def test_sender_is_who_has_proven_the_key_whatever_it_calls_itself(
    host: ControlPlane, others: Clients
) -> None:
    host.admit("mallory", keys_of("mallory").public)
    others.of(host, "host", "mallory").send([b"friend", b"word"])
    assert receive(host, 1) == [Incoming("mallory", CONTROL, (b"friend", b"word"))]


def test_unknown_key_waits_and_is_let_in_when_it_is_admitted(
    host: ControlPlane, friend: ControlPlane, others: Clients
) -> None:
    newcomer = others.of(host, "host", "newcomer")
    newcomer.send([b"hello"])
    until(lambda: host._door._parked, host)
    hears(host, friend)
    host.admit("newcomer", keys_of("newcomer").public)
    assert receive(host, 1) == [Incoming("newcomer", CONTROL, (b"hello",))]
    # Its first handshake was answered; it did not have to try again.
    events = [event for event, _ in newcomer.events()]
    assert events.count(zmq.EVENT_CONNECTED) == 1
    assert zmq.EVENT_DISCONNECTED not in events


def test_who_waits_is_let_in_when_the_door_opens(
    host: ControlPlane, others: Clients
) -> None:
    others.of(host, "host", "newcomer").send([b"hello"])
    until(lambda: host._door._parked, host)
    host.set_door(guests=[], strangers=True)
    (message,) = receive(host, 1)
    assert message.sender == GUEST + keys_of("newcomer").public.hex()


def test_unknown_key_is_never_heard_and_refused_after_a_while(
    host: ControlPlane,
    friend: ControlPlane,
    others: Clients,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(limits, "UNKNOWN_KEY_PATIENCE_S", 1e9)
    client = others.of(host, "host", "newcomer")
    client.send([b"hello"])
    until(lambda: host._door._parked, host)
    for _ in range(10):
        hears(host, friend)
    monkeypatch.setattr(limits, "UNKNOWN_KEY_PATIENCE_S", 0.1)
    refused = (zmq.EVENT_HANDSHAKE_FAILED_AUTH, 400)
    assert until(lambda: refused in client.events(), host) == []
    assert not dropped(host)


def test_refusal_after_a_while_needs_nothing_else_to_happen(
    host: ControlPlane, others: Clients, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "UNKNOWN_KEY_PATIENCE_S", 0.3)
    client = others.of(host, "host", "newcomer")
    until(lambda: host._door._parked, host)
    while host._door._parked:
        assert host.poll(PATIENCE_S, {}) == ([], [])
    assert client.monitor.poll(int(1_000 * PATIENCE_S))
    until(lambda: zmq.EVENT_HANDSHAKE_FAILED_AUTH in dict(client.events()))


def test_who_speaks_without_keys_is_never_heard(
    host: ControlPlane, friend: ControlPlane, others: Clients
) -> None:
    client = others.plain(host)
    client.send([b"friend", b"word"])
    with socket.create_connection((host.address.host, host.address.port)) as channel:
        channel.sendall(GREETING + READY + frame(b"friend", MORE) + frame(b"word"))
        until(lambda: is_hung_up(channel), host)
    until(lambda: zmq.EVENT_DISCONNECTED in dict(client.events()), host)
    hears(host, friend)


def test_message_of_who_is_not_admitted_any_more_is_dropped(
    host: ControlPlane, friend: ControlPlane
) -> None:
    """Its connection is proven still; whose key that is has changed."""
    hears(host, friend)
    host.admit("friend", keys_of("another").public)
    assert friend.send("host", [b"word"])
    assert until(lambda: dropped(host), host, friend) == []
    assert dropped(host) == {"a sender that is not admitted": 1}


def test_key_that_gets_another_name_speaks_under_it(
    host: ControlPlane, friend: ControlPlane
) -> None:
    hears(host, friend)
    host.admit("comrade", keys_of("friend").public)
    assert friend.send("host", [b"word"])
    assert receive(host, 1, friend)[0].sender == "comrade"


def test_expelled_key_is_cut_off_at_once_and_refused(
    host: ControlPlane, others: Clients
) -> None:
    client = others.of(host, "host", "friend")
    client.send([b"word"])
    receive(host, 1)
    list(client.events())
    host.expel("friend")
    client.send([b"let me in"])
    seen: list[tuple[int, int]] = []

    def is_refused() -> bool:
        seen.extend(client.events())
        return (zmq.EVENT_HANDSHAKE_FAILED_AUTH, 400) in seen

    assert until(is_refused, host) == []
    assert seen[0][0] == zmq.EVENT_DISCONNECTED
    assert not dropped(host).keys() - {"a connection that is being closed"}


def test_expelling_ends_a_parked_handshake(host: ControlPlane, others: Clients) -> None:
    client = others.of(host, "host", "newcomer")
    until(lambda: host._door._parked, host)
    host._door._keys["newcomer"] = keys_of("newcomer").public
    host._door._names[keys_of("newcomer").public] = "newcomer"
    host.expel("newcomer")
    until(lambda: zmq.EVENT_HANDSHAKE_FAILED_AUTH in dict(client.events()), host)


def test_line_that_was_refused_is_made_anew_while_it_is_used(
    host: ControlPlane, friend: ControlPlane, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bounds, "LOST_LINK_S", 0.1)
    hears(host, friend)
    before = friend._lines["host"]
    host.expel("friend")

    def is_new() -> bool:
        friend.send("host", [b"let me in"])
        return friend._lines["host"] is not before

    assert until(is_new, host, friend) == []
    host.admit("friend", keys_of("friend").public)

    def is_heard() -> bool:
        friend.send("host", [b"word"])
        return any(isinstance(a, Incoming) for a in host.poll(0.05, {})[0])

    until(is_heard, friend)


def test_guest_is_heard_under_its_key_and_as_a_peer_once_it_is_admitted(
    host: ControlPlane, others: Clients
) -> None:
    host.set_door(guests=[INVITED.public], strangers=False)
    client = others.of(host, "host", "an invitation")
    client.send([b"hello"])
    assert receive(host, 1) == [Incoming(INVITED_NAME, CONTROL, (b"hello",))]
    host.admit("newcomer", INVITED.public)
    client.send([b"word"])
    assert receive(host, 1) == [Incoming("newcomer", CONTROL, (b"word",))]


@pytest.mark.parametrize(
    "frames", [[bytes(limits.MAX_GUEST_FRAME_BYTES + 1)], [b"two", b"frames"]]
)
def test_guest_that_says_too_much_is_dropped_and_cut_off(
    host: ControlPlane, friend: ControlPlane, others: Clients, frames: list[bytes]
) -> None:
    host.set_door(guests=[INVITED.public], strangers=False)
    client = others.of(host, "host", "an invitation")
    client.send([bytes(limits.MAX_GUEST_FRAME_BYTES)])
    assert receive(host, 1)[0].sender == INVITED_NAME
    list(client.events())
    client.send(frames)
    until(lambda: zmq.EVENT_DISCONNECTED in dict(client.events()), host)
    assert dropped(host) == {"a guest's message out of bounds": 1}
    hears(host, friend)


def test_guest_whose_invitation_has_gone_is_cut_off(
    host: ControlPlane, others: Clients
) -> None:
    host.set_door(guests=[INVITED.public], strangers=False)
    client = others.of(host, "host", "an invitation")
    client.send([b"hello"])
    receive(host, 1)
    host.set_door(guests=[], strangers=False)
    client.send([b"hello"])
    until(lambda: zmq.EVENT_DISCONNECTED in dict(client.events()), host)
    assert dropped(host) == {"a sender that is not admitted": 1}


def test_guests_share_the_budget_of_their_source(
    host: ControlPlane, friend: ControlPlane, others: Clients
) -> None:
    host.set_door(guests=[INVITED.public], strangers=False)
    client = others.of(host, "host", "an invitation")
    for _ in range(2 * limits.HANDSHAKE_BURST):
        client.send([b"hello"])
    heard = len(until(lambda: dropped(host), host))
    assert heard >= limits.HANDSHAKE_BURST
    assert dropped(host)["too many messages of guests"] == 1
    hears(host, friend)


def test_flood_of_a_member_is_dropped_and_counted_and_others_are_heard(
    host: ControlPlane, friend: ControlPlane, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(host._member_rate, "_burst", 100)
    monkeypatch.setattr(host._member_rate, "_per_second", 0.001)
    host.admit("mallory", keys_of("mallory").public)
    with closing(open_plane("mallory")) as mallory:
        mallory.connect("host", host.address, keys_of("host").public)
        heard: list[str] = []
        words = 0
        deadline = time.monotonic() + PATIENCE_S
        while dropped(host).get("too many messages of one peer", 0) < 1_000:
            assert time.monotonic() < deadline
            mallory.send("host", [b"flood"])
            if words == heard.count("friend") < 50:
                words += friend.send("host", [b"word"])
            for arrival in host.poll(0, {})[0]:
                assert isinstance(arrival, Incoming)
                heard.append(arrival.sender)
        assert heard.count("mallory") == 100
        assert heard.count("friend") > 0
    receive(host, words - heard.count("friend"), friend)
    hears(host, friend)


def endless(host: ControlPlane, wanted: str) -> int:
    """Lets a host work until it has cut somebody off; by how much memory grew."""
    process = psutil.Process()
    before_bytes = most_bytes = process.memory_info().rss
    deadline = time.monotonic() + 3 * PATIENCE_S
    while not dropped(host):
        assert time.monotonic() < deadline, "nobody was cut off"
        assert host.poll(1.0, {})[0] == []
        most_bytes = max(most_bytes, process.memory_info().rss)
    assert dropped(host) == {wanted: 1}
    return most_bytes - before_bytes


def test_member_s_message_without_an_end_is_cut_off(
    host: ControlPlane, friend: ControlPlane, others: Clients
) -> None:
    """One GiB in frames that are each allowed, in one message."""
    host.admit("mallory", keys_of("mallory").public)
    client = others.of(host, "host", "mallory")
    client.send([b"word"])
    receive(host, 1)
    one = bytes(limits.MAX_CONTROL_FRAME_BYTES)
    client.send([one] * ((1 << 30) // len(one)))
    grown_bytes = endless(host, "a message without an end")
    assert grown_bytes < 1 << 29
    hears(host, friend)


@pytest.mark.parametrize("size_bytes", [0, 1_000, limits.MAX_CONTROL_FRAME_BYTES])
def test_message_without_an_end_is_cut_off_without_keys_too(
    plain: ControlPlane, size_bytes: int
) -> None:
    piece = frame(bytes(size_bytes), MORE)
    noise = piece * (1 + (1 << 16) // len(piece))
    with socket.create_connection((plain.address.host, plain.address.port)) as channel:
        shake_hands(channel)
        channel.sendall(frame(b"mallory", MORE) + frame(b"word"))
        assert receive(plain, 1) == [Incoming("mallory", CONTROL, (b"word",))]
        channel.sendall(frame(b"mallory", MORE))
        channel.setblocking(False)
        sent_bytes = 0
        deadline = time.monotonic() + PATIENCE_S
        while not dropped(plain):
            assert time.monotonic() < deadline, f"{sent_bytes} bytes were taken"
            with suppress(BlockingIOError, ConnectionError):
                # From the middle of a frame on, the rest of the noise is one too.
                sent_bytes += channel.send(noise[sent_bytes % len(noise) :])
            assert plain.poll(0, {})[0] == []
        assert dropped(plain) == {"a message without an end": 1}
        until(lambda: is_hung_up(channel), plain)


def test_long_backlog_of_a_member_is_no_message_without_an_end(
    host: ControlPlane, friend: ControlPlane
) -> None:
    """Far more than the bound waits, but in messages that are complete."""
    filler = bytes(limits.MAX_CONTROL_FRAME_BYTES)
    sent = 0
    while friend.send("host", [b"%d" % sent, *[filler] * 8]):
        sent += 1
    assert sent * 8 * len(filler) > 2 * limits.MAX_UNDELIVERED_BYTES
    got = receive(host, sent)
    assert [message.frames[0] for message in got] == [b"%d" % n for n in range(sent)]
    assert not dropped(host)


def test_one_poll_hands_over_few_of_the_largest_messages(
    host: ControlPlane, friend: ControlPlane
) -> None:
    """Others who wait for the loop have their turn between them."""
    largest = bytes(limits.MAX_CONTROL_FRAME_BYTES)
    most = bounds.MAX_CONTROL_BYTES_PER_POLL // len(largest)
    count = 3 * most
    for _ in range(count):
        assert friend.send("host", [largest])
    got, deadline = 0, time.monotonic() + PATIENCE_S
    while got < count:
        assert time.monotonic() < deadline
        arrivals, _ = host.poll(0.05, {})
        assert len(arrivals) <= most
        got += len(arrivals)


def test_half_open_connections_are_bounded_and_block_nobody(
    host: ControlPlane, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "MAX_HALF_OPEN_PER_SOURCE", 8)
    place = (host.address.host, host.address.port)
    with ExitStack() as stack:
        channels = [
            stack.enter_context(socket.create_connection(place)) for _ in range(20)
        ]
        until(lambda: sum(map(is_hung_up, channels)) >= 12, host)
        assert dropped(host) == {"too many silent connections of one source": 12}
        assert sum(map(is_hung_up, channels)) == 12
    with closing(open_plane("friend")) as friend:
        friend.connect("host", host.address, keys_of("host").public)
        hears(host, friend)


def test_who_is_let_in_and_says_nothing_is_cut_off(
    host: ControlPlane, others: Clients, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = others.of(host, "host", "friend")
    until(lambda: zmq.EVENT_HANDSHAKE_SUCCEEDED in dict(client.events()), host)
    monkeypatch.setattr(limits, "FIRST_MESSAGE_TIMEOUT_S", 0.0)
    until(lambda: zmq.EVENT_DISCONNECTED in dict(client.events()), host)
    assert dropped(host) == {"nothing said": 1}


def test_kicked_sender_is_cut_off_and_may_come_back(
    host: ControlPlane, friend: ControlPlane, others: Clients
) -> None:
    client = others.of(host, "host", "friend")
    client.send([b"one"])
    receive(host, 1)
    list(client.events())
    host.kick("friend")
    until(lambda: zmq.EVENT_DISCONNECTED in dict(client.events()), host)
    until(lambda: zmq.EVENT_HANDSHAKE_SUCCEEDED in dict(client.events()), host)
    client.send([b"two"])
    assert receive(host, 1)[0].frames == (b"two",)


def knocks(
    guest: ControlPlane,
    host: ControlPlane,
    *,
    key: bytes | None = None,
    own: Keys | None = None,
) -> None:
    key = keys_of("host").public if key is None else key
    guest.knock(host.address, [b"hello"], key=key, own=own)


def fails(guest: ControlPlane, host: ControlPlane, reason: str) -> None:
    """Asserts that a knock fails, and that this is told once."""
    told: list[Arrival] = []
    deadline = time.monotonic() + PATIENCE_S
    while not told:
        assert time.monotonic() < deadline
        told += guest.poll(0.01, {})[0]
        assert host.poll(0.01, {})[0] == []
    for _ in range(20):
        told += guest.poll(0.01, {})[0]
        assert host.poll(0.01, {})[0] == []
    assert told == [KnockFailed(host.address, reason)]


def test_knock_with_an_unknown_invitation_is_refused_each_time(
    host: ControlPlane, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "UNKNOWN_KEY_PATIENCE_S", 0.1)
    with closing(open_plane("guest")) as guest:
        for _ in range(2):
            knocks(guest, host, own=INVITED)
            fails(guest, host, "refused")
        host.set_door(guests=[INVITED.public], strangers=False)
        knocks(guest, host, own=INVITED)
        assert receive(host, 1, guest)[0].sender == INVITED_NAME


def test_knock_of_an_expelled_key_is_refused(host: ControlPlane) -> None:
    host.admit("guest", keys_of("guest").public)
    host.expel("guest")
    with closing(open_plane("guest")) as guest:
        knocks(guest, host)
        fails(guest, host, "refused")


def test_knock_that_expects_another_key_fails_each_time(host: ControlPlane) -> None:
    with closing(open_plane("guest")) as guest:
        for _ in range(2):
            knocks(guest, host, key=keys_of("somebody").public)
            fails(guest, host, "wrong-key")


def test_knock_whose_handshake_was_in_vain_tries_again(
    host: ControlPlane, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who lacks room only is not answered, and has not been hung up on."""
    monkeypatch.setattr(bounds, "KNOCK_HANDSHAKE_MS", 300)
    monkeypatch.setattr(limits, "MAX_GUESTS", 0)
    host.set_door(guests=[], strangers=True)
    with closing(open_plane("guest")) as guest:
        knocks(guest, host)
        seen: set[bytes] = set()

        def has_tried_again() -> bool:
            seen.update(handshake.route for handshake in host._door._parked)
            return len(seen) >= 3

        assert until(has_tried_again, host, guest) == []
        host.admit("guest", keys_of("guest").public)
        assert receive(host, 1, guest)[0].sender == "guest"


def test_knock_with_other_keys_replaces_the_one_before(host: ControlPlane) -> None:
    host.set_door(guests=[INVITED.public], strangers=False)
    host.admit("guest", keys_of("guest").public)
    with closing(open_plane("guest")) as guest:
        knocks(guest, host, own=INVITED)
        assert receive(host, 1, guest)[0].sender == INVITED_NAME
        knocks(guest, host)
        assert receive(host, 1, guest)[0].sender == "guest"


def test_knock_is_given_up_after_a_while(
    host: ControlPlane, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bounds, "KNOCK_LIFETIME_S", 0.0)
    with closing(open_plane("guest")) as guest:
        knocks(guest, host)
        assert until(lambda: not guest._knocks, guest) == []


@pytest.mark.parametrize("key", [b"", bytes(31), bytes(33)])
def test_key_of_another_length_is_a_bug(host: ControlPlane, key: bytes) -> None:
    with pytest.raises(LocalProtocolError):
        host.admit("peer", key)
    with pytest.raises(LocalProtocolError):
        host.connect("peer", host.address, key)
    with pytest.raises(LocalProtocolError):
        host.knock(host.address, [b"hello"], key=key)
    with pytest.raises(LocalProtocolError):
        knocks(host, host, own=Keys(key, key))
    with pytest.raises(LocalProtocolError):
        ControlPlane("peer", host.address, Keys(key, key), host._traffic)


def test_key_that_no_curve_has_harms_nobody(
    host: ControlPlane, friend: ControlPlane
) -> None:
    host.connect("nobody", friend.address, bytes(32))
    host.knock(friend.address, [b"hello"], key=bytes(32))
    hears(host, friend)


def test_changed_key_replaces_the_line(host: ControlPlane) -> None:
    with closing(open_plane("friend")) as friend:
        friend.connect("host", host.address, keys_of("another").public)
        assert friend.send("host", [b"lost"])
        friend.connect("host", host.address, keys_of("host").public)
        assert friend.send("host", [b"word"])
        assert receive(host, 1, friend)[0].frames == (b"word",)


def test_failed_listening_leaves_nothing(host: ControlPlane) -> None:
    process = psutil.Process()
    for _ in range(2):
        before = process.num_fds()
        with pytest.raises(ConflictError):
            open_plane("another", host.address)
    assert process.num_fds() == before


def test_library_without_encryption_is_a_config_error(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(zeromq, "LEAST_VERSION", (99, 0, 0))
    with pytest.raises(zeromq.ConfigError) as raised:
        open_plane("host")
    assert "encrypt" in raised.value.message and raised.value.hint
    open_plane("host", plain=True).close()
