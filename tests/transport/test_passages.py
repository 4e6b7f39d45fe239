"""Passages: peers that cannot be dialled, reached at whom they dial."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from p2pfusion.transport.base import (
    Address,
    Caps,
    Incoming,
    Keys,
    Plane,
    Remote,
)
from p2pfusion.transport.network import NetworkTransport
from tests.transport.strangers import keys_of

ANYWHERE = Address("127.0.0.1", 0)
PATIENCE_S = 20.0


class Crew:
    """Transports of one thread, polled together."""

    def __init__(self, stack: ExitStack) -> None:
        self._stack = stack
        self.made: dict[str, NetworkTransport] = {}
        self.heard: dict[str, list[tuple[str, Plane, bytes]]] = {}

    def add(self, name: str, *, relays: bool = True, caps: Caps | None = None) -> None:
        made = NetworkTransport(
            name, ANYWHERE, keys_of(name), relays=relays, caps=caps or Caps()
        )
        self._stack.callback(made.close)
        self.made[name] = made
        self.heard[name] = []

    def introduce(self) -> None:
        """All know each other's keys, tokens and sessions."""
        for name, made in self.made.items():
            for other in self.made:
                if other != name:
                    self.know(made, name, other)

    @staticmethod
    def know(made: NetworkTransport, name: str, other: str) -> None:
        made.admit(other, keys_of(other).public)
        made.know(other, token(name, other))
        made.open_session(
            other, sending=session(name, other), receiving=session(other, name)
        )

    def dial(self, name: str, other: str) -> None:
        self.connect(name, other, relay="", at=other)

    def connect(self, name: str, other: str, *, relay: str, at: str) -> None:
        addresses = self.made[at].addresses
        remote = Remote(
            addresses[Plane.CONTROL],
            addresses[Plane.DATA],
            keys_of(other).public,
            relay=relay,
        )
        self.made[name].connect(other, remote)

    def stand_by(self, name: str, at: str) -> None:
        """``name`` can only dial out, and can be reached at ``at``."""
        self.dial(name, at)
        self.made[name].stand_by(at, self.made[at].addresses[Plane.DATA])
        self.connect(at, name, relay=at, at=at)

    def turn(self) -> None:
        for name, made in self.made.items():
            arrivals, _ = made.poll(0.001, {})
            self.heard[name] += [
                (each.sender, each.plane, b"".join(map(bytes, each.frames)))
                for each in arrivals
                if isinstance(each, Incoming)
            ]

    def until(self, done: Callable[[], object]) -> None:
        end = time.monotonic() + PATIENCE_S
        while not done():
            assert time.monotonic() < end, self.heard
            self.turn()

    def tell(self, name: str, other: str, plane: Plane, data: bytes) -> None:
        """Sends, as often as it takes, until it has come."""
        wanted = (name, plane, data)

        def told() -> bool:
            if wanted not in self.heard[other]:
                self.made[name].send(other, plane, [data])
            return wanted in self.heard[other]

        self.until(told)


def token(name: str, other: str) -> bytes:
    return "-".join(sorted((name, other))).encode().ljust(8, b"t")[:8]


def session(source: str, target: str) -> bytes:
    return f"{source}>{target}".encode().ljust(8, b"s")[:8]


@pytest.fixture
def crew() -> Iterator[Crew]:
    with ExitStack() as stack:
        yield Crew(stack)


PLANES = list(Plane)


@pytest.mark.parametrize("plane", PLANES)
def test_one_that_only_dials_out_is_spoken_to_by_whom_it_dials(
    crew: Crew, plane: Plane
) -> None:
    crew.add("a")
    crew.add("r")
    crew.introduce()
    crew.stand_by("a", "r")
    crew.tell("a", "r", plane, b"from a")
    crew.tell("r", "a", plane, b"to a")


@pytest.mark.parametrize("plane", PLANES)
def test_two_of_them_speak_through_a_third(crew: Crew, plane: Plane) -> None:
    for name in "acr":
        crew.add(name)
    crew.introduce()
    for name in "ac":
        crew.stand_by(name, "r")
    crew.connect("a", "c", relay="r", at="r")
    crew.connect("c", "a", relay="r", at="r")
    crew.tell("a", "c", plane, b"to c")
    crew.tell("c", "a", plane, b"to a")
    assert crew.made["r"].traffic.relayed_for("a") >= len(b"to c" b"to a")
