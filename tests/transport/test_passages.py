"""Passages: peers that cannot be dialled, reached at whom they dial."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from p2pfusion.limits import CHUNK_BYTES, HANDSHAKE_BURST
from p2pfusion.transport import bounds
from p2pfusion.transport.base import (
    Address,
    Caps,
    Incoming,
    Plane,
    Remote,
    Traffic,
)
from p2pfusion.transport.cap import Cap
from p2pfusion.transport.circuits import Circuits
from p2pfusion.transport.connection import PREFIX, WISHES
from p2pfusion.transport.network import NetworkTransport
from p2pfusion.transport.passage import Wish
from p2pfusion.transport.watch import Watch
from tests.transport.strangers import keys_of

ANYWHERE = Address("127.0.0.1", 0)
PATIENCE_S = 20.0
CAP_BYTES_PER_S = 1_000_000.0
STILL_TURNS = 200
"""Turns without a byte, after which nothing more moves."""


class Crew:
    """Transports of one thread, polled together."""

    def __init__(self, stack: ExitStack) -> None:
        stack.callback(self._close)
        self._open: dict[str, NetworkTransport] = {}
        self.made: dict[str, NetworkTransport] = {}
        self.heard: dict[str, list[tuple[str, Plane, bytes]]] = {}

    def add(
        self,
        name: str,
        *,
        relays: bool = True,
        caps: Caps | None = None,
        listen: Address = ANYWHERE,
    ) -> None:
        made = NetworkTransport(
            name, listen, keys_of(name), relays=relays, caps=caps or Caps()
        )
        self._open[name] = made
        self.made[name] = made
        self.heard[name] = []

    def end(self, name: str) -> None:
        self.made.pop(name)
        self._open.pop(name).close()

    def _close(self) -> None:
        for name in list(self._open):
            self._open.pop(name).close()

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
    assert crew.made["r"].traffic.relayed_for("a") >= len(b"to cto a")


# --- Who may, and how much -----------------------------------------------------------


def through(crew: Crew, *, relays: bool = True, caps: Caps | None = None) -> None:
    """a and c only dial out; r is between them."""
    crew.add("r", relays=relays, caps=caps)
    for name in "ac":
        crew.add(name)
    crew.introduce()
    for name in "ac":
        crew.stand_by(name, "r")
    crew.connect("a", "c", relay="r", at="r")
    crew.connect("c", "a", relay="r", at="r")


def large(crew: Crew, name: str) -> int:
    """How many whole chunks a transport has heard."""
    return sum(len(data) > CHUNK_BYTES for _, _, data in crew.heard[name])


def test_one_that_does_not_relay_is_still_spoken_to_and_passes_nothing_on(
    crew: Crew,
) -> None:
    through(crew, relays=False)
    crew.tell("r", "a", Plane.DATA, b"for a")
    crew.made["a"].send("c", Plane.DATA, [b"for c"])
    crew.until(lambda: crew.made["r"].traffic.dropped["no passage"])
    assert crew.made["r"].traffic.relayed_bytes == 0 and crew.heard["c"] == []


def test_what_is_passed_on_is_held_back_by_the_cap(crew: Crew) -> None:
    through(crew, caps=Caps(up=CAP_BYTES_PER_S, down=None))
    crew.tell("a", "c", Plane.DATA, b"the circuit is there")
    began = time.monotonic()
    crew.made["a"].send("c", Plane.DATA, [b"head", bytes(CHUNK_BYTES)])
    crew.until(lambda: large(crew, "c") == 1)
    took_s = time.monotonic() - began
    # A burst goes at once; the rest cannot come faster than the cap lets it through.
    burst = CAP_BYTES_PER_S * bounds.CAP_BURST_MS / 1_000
    assert took_s > (CHUNK_BYTES - burst) / CAP_BYTES_PER_S * 0.9


def test_two_that_are_passed_on_get_equal_shares(crew: Crew) -> None:
    crew.add("b")
    through(crew, caps=Caps(up=CAP_BYTES_PER_S, down=CAP_BYTES_PER_S))
    crew.stand_by("b", "r")
    crew.connect("b", "c", relay="r", at="r")
    traffic = crew.made["r"].traffic
    chunk = bytes(CHUNK_BYTES)

    def busy() -> bool:
        for name, count in (("a", 4), ("b", 1)):
            while crew.made[name].waiting("c") < count:
                if not crew.made[name].send("c", Plane.DATA, [b"head", chunk]):
                    break
        return traffic.relayed_bytes > 2 * CHUNK_BYTES

    crew.until(busy)
    shares = sorted(traffic.relayed_for(name) for name in "ab")
    assert shares[1] < 1.5 * shares[0], "whoever has more to send gets no more"


def test_who_reads_nothing_holds_the_sender_back_and_costs_the_relay_little(
    crew: Crew,
) -> None:
    through(crew)
    crew.tell("a", "c", Plane.DATA, b"the circuit is there")
    silent = crew.made.pop("c")  # polled no more
    chunk, sent = bytes(CHUNK_BYTES), 0
    relayed, still = -1, 0
    while still < STILL_TURNS:
        sent += crew.made["a"].send("c", Plane.DATA, [b"head", chunk])
        crew.turn()
        now = crew.made["r"].traffic.relayed_bytes
        still, relayed = (still + 1, now) if now == relayed else (0, now)
    assert crew.made["a"].waiting("c") > 0, "held back"
    assert sent * CHUNK_BYTES > relayed
    crew.made["c"] = silent
    crew.until(lambda: large(crew, "c") == sent)


# --- What goes wrong -----------------------------------------------------------------


def test_another_relay_takes_over(crew: Crew) -> None:
    through(crew)
    crew.add("s")
    crew.introduce()
    for name in "ac":
        crew.stand_by(name, "s")
    for plane in PLANES:
        crew.tell("a", "c", plane, b"by r")
    crew.end("r")
    crew.connect("a", "c", relay="s", at="s")
    for plane in PLANES:
        crew.tell("a", "c", plane, b"by s")


def test_one_that_is_put_out_is_reached_through_nobody(crew: Crew) -> None:
    through(crew)
    crew.tell("a", "c", Plane.DATA, b"before")
    crew.made["r"].expel("c")
    crew.made["a"].send("c", Plane.DATA, [b"after"])
    crew.until(lambda: crew.made["r"].traffic.dropped["no circuit"])
    assert b"after" not in [data for _, _, data in crew.heard["c"]]


def test_a_stranger_is_answered_once_and_then_forgotten(crew: Crew) -> None:
    crew.add("r")
    crew.add("a")
    crew.introduce()
    crew.dial("a", "r")
    crew.made["a"].stand_by("r", crew.made["r"].addresses[Plane.DATA])
    crew.connect("r", "a", relay="r", at="r")
    crew.made["r"].send("a", Plane.CONTROL, [b"no"])
    crew.made["r"].disconnect("a")
    crew.until(lambda: crew.heard["a"])
    crew.until(lambda: crew.made["r"].traffic.dropped["no passage"])
    assert crew.heard["a"] == [("r", Plane.CONTROL, b"no")]


def test_one_that_has_started_again_is_found_again(crew: Crew) -> None:
    through(crew)
    crew.tell("r", "a", Plane.CONTROL, b"before")
    address = crew.made["r"].addresses[Plane.CONTROL]
    crew.end("r")
    crew.add("r", listen=address)
    for name in "ac":
        crew.know(crew.made["r"], "r", name)
        crew.connect("r", name, relay="r", at="r")
    crew.tell("r", "a", Plane.CONTROL, b"after")
    crew.tell("a", "c", Plane.DATA, b"through")


BEGINNINGS = st.tuples(
    st.sampled_from([b"a-r", b"nobody"]),
    st.integers(WISHES.start - 1, WISHES.stop),
    st.integers(0, 0xFFFF_FFFF),
    st.binary(max_size=80),
)


@settings(max_examples=25, deadline=None)
@given(st.lists(BEGINNINGS, min_size=1, max_size=6))
def test_whatever_comes_as_a_passage_does_no_harm(
    beginnings: list[tuple[bytes, int, int, bytes]],
) -> None:
    with ExitStack() as stack:
        crew = Crew(stack)
        through(crew)
        place = crew.made["r"].addresses[Plane.DATA]
        for name, wish, length, more in beginnings:
            channel = socket.create_connection((place.host, place.port))
            stack.callback(channel.close)
            begin = PREFIX.pack(name.ljust(8, b"t")[:8], wish, length)
            channel.sendall(begin + more)
            crew.turn()
        crew.tell("a", "c", Plane.CONTROL, b"still there")


def test_who_asks_again_and_again_is_not_heard_for_a_while() -> None:
    watch = Watch(clock=lambda: 0.0)
    free = Cap(watch, None)
    circuits = Circuits(watch, Traffic(), up=free, down=free, relays=True)
    for name in "ab":
        circuits.know(name, token(name, "r"))

    def asks(name: str) -> bool:
        channel, _ = socket.socketpair()
        taken = circuits.take(channel, token(name, "r"), Wish.DATA, 1)
        if not taken:
            channel.close()
        return taken

    assert all(asks("a") for _ in range(HANDSHAKE_BURST))
    assert not asks("a") and asks("b"), "others are heard"
    circuits.close()
    watch.close()
