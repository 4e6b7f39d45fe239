"""Names and numbers, and connections that do not come about."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator

import pytest

from p2pfusion import limits
from p2pfusion.transport import bounds, dialing
from p2pfusion.transport.base import Address
from p2pfusion.transport.dialing import Dial, Resolver, Target, targets
from p2pfusion.transport.watch import Budget, Watch
from tests.transport.planes import PATIENCE_S, Clock, refusing_socket

LOCAL = "127.0.0.1"


class Desk:
    """A watch with a resolver, and what came out of dials."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.watch = Watch(self.clock)
        self.resolver = Resolver(self.watch)
        self.channels: list[socket.socket] = []
        self.failures = 0

    def dial(self, address: Address) -> Dial:
        dial = Dial(
            address,
            watch=self.watch,
            resolver=self.resolver,
            connected=self.channels.append,
            failed=self.failed,
        )
        dial.start()
        return dial

    def failed(self) -> None:
        self.failures += 1

    def turn(self, timeout_s: float = PATIENCE_S) -> None:
        self.watch.turn(Budget(1, 1), timeout_s)

    def close(self) -> None:
        for channel in self.channels:
            channel.close()
        self.resolver.close()
        self.watch.close()


@pytest.fixture
def desk() -> Iterator[Desk]:
    made = Desk()
    yield made
    made.close()


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.create_server((LOCAL, 0)) as made:
        yield made


def port(listener: socket.socket) -> int:
    return int(listener.getsockname()[1])


@pytest.fixture
def refusing() -> Iterator[socket.socket]:
    with refusing_socket() as made:
        yield made


@pytest.mark.parametrize("host", [LOCAL, "localhost"])
def test_numbers_and_names_are_reached(
    desk: Desk, listener: socket.socket, host: str
) -> None:
    """The name may have several addresses, of which one listens."""
    desk.dial(Address(host, port(listener)))
    while not desk.channels:
        desk.turn()
    assert desk.channels[0].getpeername() == listener.getsockname()
    assert desk.failures == 0
    assert desk.watch.deadline() is None


@pytest.mark.parametrize("host", [LOCAL, "localhost", "nobody.invalid", "a" * 80])
def test_what_is_not_there_fails_once(
    desk: Desk, refusing: socket.socket, host: str
) -> None:
    desk.dial(Address(host, port(refusing)))
    while not desk.failures:
        desk.turn()
    desk.turn(0.0)
    assert (desk.failures, desk.channels) == (1, [])
    assert desk.watch.deadline() is None


def test_addresses_are_tried_in_turn(
    desk: Desk,
    listener: socket.socket,
    refusing: socket.socket,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    refused, good = port(refusing), port(listener)

    def found(address: Address) -> list[Target]:
        family = socket.AF_INET
        odd = (family, ("255.255.255.255", 1))  # no stream goes there
        return [odd, (family, (LOCAL, refused)), (family, (LOCAL, good))]

    monkeypatch.setattr(dialing, "targets", found)
    desk.dial(Address("several.example", 1))
    while not desk.channels:
        desk.turn()
    assert desk.failures == 0


def test_silence_ends_an_attempt(desk: Desk) -> None:
    """A full backlog: the kernel of the other side ignores who comes then."""
    with socket.create_server((LOCAL, 0), backlog=0) as full:
        address = Address(LOCAL, port(full))
        while not desk.channels or len(desk.channels) < 10:
            before = len(desk.channels)
            dial = desk.dial(address)
            desk.turn(0.2)
            if len(desk.channels) == before:
                break
        assert desk.failures == 0
        assert desk.watch.deadline() is not None
        desk.clock.advance(bounds.CONNECT_TIMEOUT_MS / 1_000)
        desk.turn(0.0)
        assert desk.failures == 1
        assert desk.watch.deadline() is None
        dial.cancel()


def test_cancelled_attempts_say_nothing(
    desk: Desk, listener: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk.dial(Address(LOCAL, port(listener))).cancel()
    looked_up = threading.Event()

    def found(address: Address) -> list[Target]:
        looked_up.set()
        return targets(Address(LOCAL, port(listener)))

    monkeypatch.setattr(dialing, "targets", found)
    desk.dial(Address("name.example", 1)).cancel()
    assert looked_up.wait(PATIENCE_S)
    desk.turn()
    desk.turn(0.0)
    assert (desk.failures, desk.channels) == (0, [])


def test_socket_that_met_itself_is_no_connection(desk: Desk) -> None:
    with socket.socket() as lonely:
        lonely.bind((LOCAL, 0))
        lonely.connect(lonely.getsockname())
        assert dialing._is_own(lonely)
    with socket.socket() as unconnected:
        assert dialing._is_own(unconnected)


def test_slow_names_hold_up_nobody_who_has_a_thread(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    release = threading.Event()
    asked: list[str] = []
    most = threading.Semaphore(0)

    def found(address: Address) -> list[Target]:
        asked.append(address.host)
        most.release()
        if address.host != "quick.example":
            assert release.wait(PATIENCE_S)
        return []

    monkeypatch.setattr(dialing, "targets", found)
    answers: list[list[Target]] = []
    for number in range(limits.MAX_LOOKUPS - 1):
        desk.resolver.look_up(Address(f"slow-{number}.example", 1), answers.append)
    desk.resolver.look_up(Address("quick.example", 1), answers.append)
    desk.resolver.look_up(Address("slow-again.example", 1), answers.append)
    desk.resolver.look_up(Address("last.example", 1), answers.append)
    while not answers:
        desk.turn()
    for _ in range(limits.MAX_LOOKUPS + 1):
        assert most.acquire(timeout=PATIENCE_S)
    assert "last.example" not in asked
    release.set()
    while len(answers) < limits.MAX_LOOKUPS + 2:
        desk.turn()
    assert asked[-1] == "last.example"


def test_without_threads_nobody_knows_the_name(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    def start(self: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", start)
    desk.dial(Address("localhost", 1))
    desk.turn()
    assert desk.failures == 1


def test_look_up_that_comes_too_late_disturbs_nobody(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    release = threading.Event()
    threads: list[threading.Thread] = []
    begun = threading.Event()

    def found(address: Address) -> list[Target]:
        threads.append(threading.current_thread())
        begun.set()
        assert release.wait(PATIENCE_S)
        return []

    monkeypatch.setattr(dialing, "targets", found)
    other = Desk()
    other.dial(Address("slow.example", 1))
    assert begun.wait(PATIENCE_S)
    other.close()
    release.set()
    threads[0].join(PATIENCE_S)
    assert not threads[0].is_alive() and other.failures == 0
