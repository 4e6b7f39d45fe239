"""A daemon under siege, and visited by everybody who has no business there.

What is promised: the daemon answers its user, its rounds and its members go on, what
strangers cost is bounded, and who is not let in hears nothing and changes nothing.
"""

from __future__ import annotations

import os
import selectors
import socket
import struct
import time
from collections.abc import Iterator, Mapping

import pytest

from p2pfusion import limits
from p2pfusion.transport.connection import PREFIX
from tests.end_to_end import besiegers
from tests.end_to_end.besiegers import besieged
from tests.end_to_end.callers import (
    HUNG_UP_ON,
    LET_IN,
    SENT_AWAY,
    Caller,
    caller,
    new_keys,
)
from tests.end_to_end.inspection import (
    accepted,
    assert_goes_on,
    identity,
    keys,
    number_of_round,
    ports,
    refused,
    resident_bytes,
    states,
)
from tests.end_to_end.swarm import Daemon, Swarm, swarms

pytestmark = [pytest.mark.slow, pytest.mark.alone, pytest.mark.soak]

PATIENCE_S = 240.0
ENDLESS = 100_000
"""Rounds of a swarm that ends with the test."""

PATIENT_S = 15.0
"""How long a daemon waits for another before it goes on without: longer than a busy
machine keeps anybody waiting."""

ANSWER_S = 1.0
"""Within which a besieged daemon answers its user. The other tests do not run then."""

KIB, MIB = 1 << 10, 1 << 20

CONTROL_CONNECTION_BYTES = 32 * KIB
DATA_CONNECTION_BYTES = 8 * KIB
HANDSHAKE_BYTES = 64 * KIB
"""What a stranger's connection may cost, and one that waits to know if it is let in.
ZeroMQ's buffers are the most of it, twice 8 KiB; the kernel's memory does not count."""

BUDGET_BYTES = (besiegers.SILENT + besiegers.SLOW) * (
    CONTROL_CONNECTION_BYTES + DATA_CONNECTION_BYTES
) + min(besiegers.KNOCKERS, limits.MAX_PARKED_HANDSHAKES) * HANDSHAKE_BYTES
"""What all besiegers together may cost. There is no receive buffer of the data plane
(``DATA_BUFFERS`` of ``CHUNK_BYTES``) in it: a stranger never gets one."""


@pytest.fixture(scope="module")
def swarm() -> Iterator[Swarm]:
    """Two daemons that train without end, and room for more."""
    with swarms() as made:
        made.start(2, method="msfusion", rounds=ENDLESS, deadline_min_s=PATIENT_S)
        yield made


@pytest.fixture
def pair(swarm: Swarm) -> list[Daemon]:
    """The two of them."""
    return swarm.daemons[:2]


# --- A siege -------------------------------------------------------------------------


def test_a_besieged_daemon_answers_trains_and_grows_within_its_budget(
    swarm: Swarm, pair: list[Daemon]
) -> None:
    founder = pair[0]
    founder.wait("round=3")
    control, data = ports(founder)
    before_bytes = resident_bytes(founder)
    since = number_of_round(founder)
    most_bytes = stood = 0
    deadline = time.monotonic() + PATIENCE_S
    with besieged(control, identity(founder).transport_key) as told:
        # Until every silent one at the data port has been sent away once.
        while refused(founder, "a silent connection") < besiegers.SILENT:
            assert time.monotonic() < deadline, "they were never sent away"
            founder.client.call("status", timeout_s=ANSWER_S)
            most_bytes = max(most_bytes, resident_bytes(founder))
            both = accepted(founder, control), accepted(founder, data)
            stood = max(stood, min(both))
            assert states(founder) == ["self", "online"]
            founder.wait(f"round={number_of_round(founder) + 1}")
        assert_goes_on(pair, since, rounds=10)
    assert stood > besiegers.SILENT
    assert told["calls"] > 4 * besiegers.SILENT
    # All that anybody heard is how ZeroMQ introduces itself, and nothing from us.
    assert told["control_bytes"] == len(besiegers.GREETING)
    assert told["data_bytes"] == told["messages"] == 0
    assert most_bytes - before_bytes < BUDGET_BYTES

    late = swarm.add(data={"kind": "digits"})
    late.start("--join", founder.ticket())
    founder.until(lambda: "p2" in str(founder.rounds()[-1]["contributors"]))


# --- Strangers -----------------------------------------------------------------------

HUGE = b"\x02" + struct.pack(">Q", (1 << 63) - 1)
"""Begins a frame of ZeroMQ that no memory has room for."""

GREETING = besiegers.GREETING
PLAIN_GREETING = GREETING.replace(b"CURVE", b"NULL\0").replace(b"\x03\x01", b"\x03\0")
HTTP = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"
UNKNOWN_TOKEN = PREFIX.pack(b"whatever", 100, 0)
AT_THE_CONTROL_PORT = {
    "nothing": b"",
    "http": HTTP,
    "random": b"\x00" + os.urandom(4_095),
    "an old version": b"\x01\x00" + bytes(200),
    "plain": PLAIN_GREETING + b"\x04\x06\x05READY" + b"\x00\x05hello",
    "huge and plain": PLAIN_GREETING + HUGE,
    "huge and encrypted": GREETING + HUGE,
    "no handshake": GREETING + b"\x04\xc8\x05HELLO" + os.urandom(194),
}
AT_THE_DATA_PORT = {
    "nothing": b"",
    "http": HTTP,
    "random": os.urandom(4_096),
    "an unknown token": UNKNOWN_TOKEN,
    "huge": PREFIX.pack(bytes(8), (1 << 32) - 1, (1 << 32) - 1),
}


def answers(words: Mapping[tuple[int, str], bytes]) -> dict[tuple[int, str], bytes]:
    """What strangers hear who come to a port with these words, until each of them is
    hung up on."""
    heard = dict.fromkeys(words, b"")
    deadline = time.monotonic() + PATIENCE_S
    with selectors.DefaultSelector() as selector:
        for who, said in words.items():
            channel = socket.create_connection(("127.0.0.1", who[0]))
            channel.sendall(said)
            selector.register(channel, selectors.EVENT_READ, who)
        while selector.get_map():
            assert time.monotonic() < deadline, "a stranger was never sent away"
            for key, _ in selector.select(1.0):
                channel = key.fileobj  # type: ignore[assignment]
                try:
                    said = channel.recv(4_096)
                except ConnectionResetError:
                    said = b""
                heard[key.data] += said
                if not said:
                    selector.unregister(channel)
                    channel.close()
    return heard


def test_strangers_hear_nothing_and_are_counted(pair: list[Daemon]) -> None:
    founder = pair[0]
    control, data = ports(founder)
    since, unknown = number_of_round(founder), refused(founder, "an unknown token")
    silent = refused(founder, "a silent connection")
    heard = answers(
        {(control, name): words for name, words in AT_THE_CONTROL_PORT.items()}
        | {(data, name): words for name, words in AT_THE_DATA_PORT.items()}
    )
    for name in AT_THE_CONTROL_PORT:
        assert_is_no_more_than_a_greeting(heard[control, name])
    for name in AT_THE_DATA_PORT:
        assert heard[data, name] == b""
    assert refused(founder, "an unknown token") == unknown + len(AT_THE_DATA_PORT) - 1
    assert refused(founder, "a silent connection") == silent + 1
    assert_goes_on(pair, since)


def assert_is_no_more_than_a_greeting(heard: bytes) -> None:
    """At most the beginning of what ZeroMQ says before it knows anything."""
    assert len(heard) <= len(GREETING)
    assert heard[:1] in (b"", b"\xff") and heard[9:10] in (b"", b"\x7f")
    assert b"CURVE".ljust(20, b"\0").startswith(heard[12:32])


@pytest.mark.parametrize("who", ["no keys", "own keys", "a wrong key for the daemon"])
def test_strangers_with_zeromq_are_never_let_in(pair: list[Daemon], who: str) -> None:
    right, wrong = identity(pair[0]).transport_key, new_keys().public
    own = None if who == "no keys" else new_keys()
    key = wrong if who.startswith("a wrong") else right
    since = number_of_round(pair[0])
    with caller(ports(pair[0])[0], own) as stranger:
        stranger.call([b"hello"], key=None if own is None else key)
        assert not stranger.until(SENT_AWAY) & LET_IN
    assert_goes_on(pair, since)


# --- A member's key in other hands ---------------------------------------------------


@pytest.fixture
def member(pair: list[Daemon]) -> Iterator[Caller]:
    """Somebody who has the keys of the second daemon, and may call the first."""
    with caller(ports(pair[0])[0], keys(pair[1])) as made:
        yield made


def test_a_huge_frame_of_a_member_ends_its_connection(
    pair: list[Daemon], member: Caller
) -> None:
    since = number_of_round(pair[0])
    member.call([bytes(MIB)], key=identity(pair[0]).transport_key)
    assert member.until(HUNG_UP_ON) & LET_IN
    assert_goes_on(pair, since)


def test_an_endless_message_of_a_member_ends_its_connection(
    pair: list[Daemon], member: Caller
) -> None:
    founder = pair[0]
    before_bytes = resident_bytes(founder)
    since = number_of_round(founder)
    count = refused(founder, "a message without an end")
    frames = [bytes(limits.MAX_CONTROL_FRAME_BYTES)] * 8_192  # 512 MiB of it
    member.call(frames, key=identity(founder).transport_key)
    assert member.until(HUNG_UP_ON) & LET_IN
    founder.until(lambda: refused(founder, "a message without an end") == count + 1)
    assert resident_bytes(founder) - before_bytes < 128 * MIB
    assert_goes_on(pair, since)
