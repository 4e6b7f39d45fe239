"""What a guard does about connections, which are real ones here."""

from __future__ import annotations

import os
import socket
import sys
import time
from collections import Counter
from collections.abc import Iterator

import pytest

from p2pfusion import limits
from p2pfusion.transport import guard as guard_module
from p2pfusion.transport.base import GUEST
from p2pfusion.transport.guard import Guard
from tests.transport.strangers import PATIENCE_S, is_hung_up

pytestmark = pytest.mark.skipif(
    sys.platform != "linux", reason="only Linux tells what a connection has received"
)


class Gate:
    """A guarded port, and who calls there."""

    def __init__(self, *, keyless: bool = False) -> None:
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.dropped: Counter[str] = Counter()
        port = self.listener.getsockname()[1]
        self.guard = Guard(port, self.dropped, keyless=keyless)
        self.now = 100.0
        self.callers: list[socket.socket] = []
        self.accepted: list[socket.socket] = []

    def call(self, host: str = "127.0.0.1") -> int:
        """Connects from an address; the descriptor that was accepted."""
        where = self.listener.getsockname()
        caller = socket.create_connection(where, source_address=(host, 0))
        self.callers.append(caller)
        self.accepted.append(self.listener.accept()[0])
        descriptor = self.accepted[-1].fileno()
        self.guard.begin(descriptor, self.now)
        return descriptor

    def say(self, caller: int, size_bytes: int) -> None:
        """Lets a caller send bytes, and waits until they have come."""
        self.callers[caller].setblocking(True)
        while size_bytes:
            piece = bytes(min(size_bytes, 65_536))
            size_bytes -= len(piece)
            self.callers[caller].sendall(piece)
            self.accepted[caller].recv(len(piece), socket.MSG_WAITALL)

    def look(self, *, turns: int = 1) -> None:
        """Lets time pass, everybody have their turns, and the guard look."""
        for _ in range(turns):
            self.now += limits.GUARD_IDLE_S
            self.guard.received(0, all_of_them=True)
            self.guard.look(self.now)

    def cut(self) -> list[int]:
        """Which callers were hung up on; the kernel may need a moment."""
        return [n for n, caller in enumerate(self.callers) if is_hung_up(caller)]

    def close(self) -> None:
        for channel in (self.listener, *self.callers, *self.accepted):
            channel.close()


@pytest.fixture
def gate() -> Iterator[Gate]:
    made = Gate()
    yield made
    made.close()


def eventually(gate: Gate, wanted: list[int]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while gate.cut() != wanted:
        assert time.monotonic() < deadline, f"{gate.cut()} were cut off"


def test_connections_of_one_source_are_bounded(
    gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "MAX_CONNECTIONS_PER_SOURCE", 2)
    for host in ("127.0.0.2", "127.0.0.2", "127.0.0.2", "127.0.0.3"):
        gate.call(host)
    eventually(gate, [2])
    assert gate.dropped == {"too many connections of one source": 1}
    gate.guard.end(gate.accepted[0].fileno())
    gate.guard.end(gate.accepted[2].fileno())
    gate.call("127.0.0.2")
    assert gate.cut() == [2]


def test_connections_are_bounded(gate: Gate, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "MAX_CONNECTIONS", 2)
    for number in range(3):
        gate.call(f"127.0.0.{2 + number}")
    eventually(gate, [2])
    assert gate.dropped == {"too many connections": 1}


def test_connections_that_said_nothing_are_bounded(
    gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "MAX_HALF_OPEN_PER_SOURCE", 2)
    for number in range(4):
        assert gate.guard.heard(gate.call(), f"peer-{number}", gate.now)
    for _ in range(3):
        gate.call()
    eventually(gate, [6])
    assert gate.dropped == {"too many silent connections of one source": 1}


def test_who_says_nothing_is_cut_off_after_a_while(gate: Gate) -> None:
    talker = gate.call()
    gate.call()
    assert gate.guard.heard(talker, "peer", gate.now)
    gate.now += limits.FIRST_MESSAGE_TIMEOUT_S - 2 * limits.GUARD_IDLE_S
    gate.look()
    assert gate.cut() == []
    gate.look(turns=2)
    eventually(gate, [1])
    assert gate.dropped == {"nothing said": 1}


def test_stranger_s_bytes_are_bounded_until_something_is_delivered(gate: Gate) -> None:
    gate.call()
    gate.say(0, limits.MAX_GUEST_BYTES)
    gate.look(turns=3)
    assert gate.cut() == []
    gate.say(0, 1)
    gate.look(turns=2)
    eventually(gate, [0])
    assert gate.dropped == {"a message without an end": 1}


@pytest.mark.parametrize(
    ("sender", "bound_bytes"),
    [
        ("peer", limits.MAX_UNDELIVERED_BYTES),
        (GUEST + "ab" * 32, limits.MAX_GUEST_BYTES),
    ],
)
def test_undelivered_bytes_count_from_the_last_message(
    gate: Gate, sender: str, bound_bytes: int
) -> None:
    talker = gate.call()
    for _ in range(3):
        gate.say(0, bound_bytes)
        assert gate.guard.heard(talker, sender, gate.now)
        gate.look()
    gate.say(0, bound_bytes)
    gate.look(turns=3)
    assert gate.cut() == []
    gate.say(0, 1)
    gate.look(turns=2)
    eventually(gate, [0])


@pytest.mark.parametrize("keyless", [True, False])
def test_first_message_may_be_long_where_members_come_from(keyless: bool) -> None:
    gate = Gate(keyless=keyless)
    try:
        if not keyless:
            gate.guard.vouch("127.0.0.1")
        gate.call()
        gate.say(0, limits.MAX_FIRST_BYTES)
        gate.look(turns=3)
        assert gate.cut() == []
        gate.say(0, 1)
        gate.look(turns=2)
        eventually(gate, [0])
    finally:
        gate.close()


def test_who_has_not_had_a_turn_is_not_suspected(gate: Gate) -> None:
    """Its messages may be complete and wait behind those of others."""
    late = gate.call()
    others = [gate.call() for _ in range(3)]
    gate.say(0, 2 * limits.MAX_GUEST_BYTES)

    def look_after(count: int) -> None:
        gate.now += limits.GUARD_IDLE_S
        gate.guard.received(count, all_of_them=False)
        gate.guard.look(gate.now)

    for _ in range(4):
        look_after(1)
        assert gate.cut() == []
    assert gate.guard.heard(late, "peer", gate.now)
    look_after(len(others) + 2)
    look_after(len(others) + 2)
    assert gate.cut() == []


def test_connections_of_one_peer_are_bounded_and_the_newest_count(gate: Gate) -> None:
    for _ in range(limits.MAX_CONNECTIONS_PER_PEER + 2):
        assert gate.guard.heard(gate.call(), "peer", gate.now)
    eventually(gate, [0, 1])
    assert gate.dropped == {"too many connections of one peer": 2}


def test_guests_are_bounded_and_a_silent_one_gives_way(
    gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "MAX_GUESTS", 2)
    name = GUEST + "ab" * 32
    first, second, third = gate.call(), gate.call(), gate.call()
    assert gate.guard.heard(first, name, gate.now)
    gate.now += 1.0
    assert gate.guard.heard(second, name, gate.now)
    assert not gate.guard.heard(third, name, gate.now)
    assert not gate.guard.heard(third, name, gate.now)
    eventually(gate, [2])
    assert gate.guard.heard(gate.call(), "peer", gate.now)  # members need no place
    gate.now += limits.FIRST_MESSAGE_TIMEOUT_S
    assert gate.guard.heard(gate.call(), name, gate.now)
    eventually(gate, [0, 2])
    assert gate.dropped == {"too many guests": 2}


def test_guest_that_becomes_a_member_frees_its_place(
    gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "MAX_GUESTS", 1)
    name = GUEST + "ab" * 32
    first = gate.call()
    assert gate.guard.heard(first, name, gate.now)
    assert gate.guard.heard(first, "peer", gate.now)
    assert gate.guard.heard(gate.call(), name, gate.now)
    assert gate.cut() == []


def test_shutting_a_sender_cuts_all_its_connections(gate: Gate) -> None:
    for sender in ("a", "b", "a"):
        assert gate.guard.heard(gate.call(), sender, gate.now)
    gate.guard.shut("a")
    gate.guard.shut("nobody")
    eventually(gate, [0, 2])
    assert not gate.guard.heard(gate.accepted[0].fileno(), "a", gate.now)
    assert not gate.dropped


@pytest.mark.parametrize("kind", [socket.AF_UNIX, socket.AF_INET])
def test_descriptor_that_is_somebody_else_s_by_now_is_left_alone(
    gate: Gate, kind: socket.AddressFamily
) -> None:
    descriptor = gate.call()
    assert gate.guard.heard(descriptor, "a", gate.now)
    if kind is socket.AF_UNIX:
        here, there = socket.socketpair()
    else:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            there = socket.create_connection(listener.getsockname())
            here = listener.accept()[0]
    with here, there:
        os.dup2(here.fileno(), descriptor)  # closes what it was before
        gate.guard.shut("a")
        there.send(b"x")
        assert gate.accepted[0].recv(1) == b"x"
    assert len(gate.guard) == 0


def test_connection_whose_end_was_not_told_is_forgotten(gate: Gate) -> None:
    gate.call()
    gate.accepted[0].close()
    gate.look()
    assert len(gate.guard) == 0
    gate.guard.begin(-1, gate.now)
    gate.guard.begin(gate.listener.fileno(), gate.now)
    assert len(gate.guard) == 0


def test_guard_looks_no_more_often_than_is_worth_it(gate: Gate) -> None:
    assert gate.guard.deadline() is None
    gate.call()
    gate.look()
    assert gate.guard.deadline() == gate.now + limits.GUARD_IDLE_S
    gate.say(0, 2 * limits.MAX_GUEST_BYTES)
    gate.now += limits.GUARD_INTERVAL_S / 2
    gate.guard.look(gate.now)
    assert gate.guard.deadline() == gate.now - limits.GUARD_INTERVAL_S / 2 + (
        limits.GUARD_IDLE_S
    )
    gate.look()
    # Somebody is suspected: the next look is soon.
    assert gate.guard.deadline() == gate.now + limits.GUARD_INTERVAL_S


def test_where_the_kernel_tells_nothing_the_rest_is_still_bounded(
    gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(guard_module, "MEASURES", False)
    gate.call()
    gate.say(0, 2 * limits.MAX_GUEST_BYTES)
    gate.look(turns=5)
    assert gate.cut() == []
    gate.now += limits.FIRST_MESSAGE_TIMEOUT_S
    gate.look()
    eventually(gate, [0])
