"""Strangers who attack a daemon in one way, as a process of their own.

    python -m tests.end_to_end.outsiders ATTACK PORT KEY

They come to the control port PORT, whose owner has the public key KEY, and to the data
port above it, from several addresses of loopback; whoever is sent away comes again. The
first line on standard output tells that they have begun; when standard input ends they
leave, and the last line tells how often they came and how much they heard.
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import struct
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import zmq

from p2pfusion.security import invite_secret_key, transport_public
from p2pfusion.transport.connection import PREFIX
from tests.end_to_end.besiegers import (
    CROWD_SOURCES,
    GREETING,
    PASS_S,
    Besieger,
    Knockers,
    running,
)

LONGEST_S = 300.0
"""A siege that nobody ends."""

CROWD = 600
"""At each port: more than one source may have, and fewer than the port takes."""

WAVE = 40
"""So many come to each port in one pass."""

HUGE = b"\x02" + struct.pack(">Q", (1 << 63) - 1)
"""Begins a frame of ZeroMQ that no memory has room for."""

PLAIN = GREETING.replace(b"CURVE", b"NULL\0").replace(b"\x03\x01", b"\x03\0")
HELLO = GREETING + b"\x04\xc8\x05HELLO\x01\x00"

Words = Callable[[], bytes]


@dataclass
class Crowd:
    """Connections to both ports that each say something at once, or byte by byte."""

    port: int
    control: Words
    data: Words
    is_slow: bool = False
    hangs_up: bool = False
    """Whether nobody waits to hear anything."""
    calls: int = 0
    most_heard: int = 0
    _there: list[Besieger] = field(default_factory=list)

    def turn(self) -> None:
        """Some come, and all say what they have to say."""
        for each in self._there:
            each.listen() if each.channel is not None else None
            self.most_heard = max(self.most_heard, each.heard_bytes)
            if self.is_slow:
                each.say_a_byte()
        self._there = [each for each in self._there if each.channel is not None]
        for port, words in ((self.port, self.control), (self.port + 1, self.data)):
            here = sum(each.port == port for each in self._there)
            for _ in range(min(WAVE, CROWD - here)):
                self._come(port, words())
        if self.hangs_up:
            self.leave()

    def _come(self, port: int, says: bytes) -> None:
        source = CROWD_SOURCES[self.calls % len(CROWD_SOURCES)]
        each = Besieger(port, source, says)
        each.come()
        if each.channel is None:
            return
        self.calls += 1
        self._there.append(each)
        if says and not self.is_slow:
            each.channel.setblocking(True)
            each.channel.settimeout(0.5)
            with contextlib.suppress(OSError):
                each.channel.sendall(says)
            each.channel.setblocking(False)

    def leave(self) -> None:
        """Everybody hangs up."""
        for each in self._there:
            each.leave()
        self._there.clear()


class Guessers(Knockers):
    """They have tickets that they have made up."""

    def keys(self) -> tuple[bytes, bytes]:
        """The keys that the holder of such a ticket would have."""
        secret = invite_secret_key(os.urandom(16))
        return transport_public(secret), secret


def nothing() -> bytes:
    """No words."""
    return b""


ATTACKS: dict[str, Callable[[int, bytes], Crowd | Knockers]] = {
    "crowd": lambda port, _: Crowd(port, nothing, nothing),
    "slow-loris": lambda port, _: Crowd(
        port,
        lambda: HELLO + bytes(190),
        lambda: PREFIX.pack(b"whatever", 100, 0),
        is_slow=True,
    ),
    "half-open": lambda port, _: Crowd(port, lambda: GREETING[:11], lambda: b"p2p"),
    "comers-and-goers": lambda port, _: Crowd(port, nothing, nothing, hangs_up=True),
    "handshakes": lambda port, _: Crowd(
        port, lambda: HELLO + os.urandom(192), lambda: os.urandom(16)
    ),
    "garbage": lambda port, _: Crowd(
        port, lambda: b"\x00" + os.urandom(4_095), lambda: os.urandom(4_096)
    ),
    "giant": lambda port, _: Crowd(
        port, lambda: GREETING + HUGE, lambda: PREFIX.pack(bytes(8), 1 << 31, 1 << 31)
    ),
    "giant-and-plain": lambda port, _: Crowd(
        port, lambda: PLAIN + HUGE, lambda: PREFIX.pack(b"p2pfusio", 100, 1 << 20)
    ),
    "greetings": Knockers,
    "guessers": Guessers,
}
"""What strangers can do."""


@contextlib.contextmanager
def attacked(attack: str, port: int, key: bytes) -> Iterator[dict[str, int]]:
    """An attack on this control port, whose owner has this key, for as long as the
    block lasts; afterwards the mapping says what the attackers have done and heard."""
    words = ("tests.end_to_end.outsiders", attack, str(port), key.hex())
    with running(words, LONGEST_S) as told:
        yield told


def main(attack: str, port: int, key: bytes) -> None:
    """Attacks until standard input ends."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    crowd = ATTACKS[attack](port, key)
    crowd.turn()
    print("ready", flush=True)
    end = time.monotonic() + LONGEST_S
    waits = zmq.Poller()
    waits.register(sys.stdin.fileno(), zmq.POLLIN)
    while not waits.poll(PASS_S * 1_000) and time.monotonic() < end:
        crowd.turn()
    crowd.leave()
    heard = crowd.most_heard if isinstance(crowd, Crowd) else crowd.messages_heard
    print(json.dumps({"calls": crowd.calls, "heard": heard}))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), bytes.fromhex(sys.argv[3]))
