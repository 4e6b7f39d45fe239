"""Strangers who keep a daemon busy, as a process of their own beside the daemons.

    python -m tests.end_to_end.besiegers PORT KEY

They come to the control port PORT, whose owner has the public key KEY, and to the data
port above it, from several addresses of loopback: a crowd that connects and says
nothing, slow ones that say one byte at a time, knockers who prove keys that nobody has
admitted, and a flood that connects and hangs up. Whoever is sent away comes again. The
first line on standard output tells that they are all there; when standard input ends,
or they have come and gone often enough, they leave, and the last line tells what they
heard.
"""

from __future__ import annotations

import contextlib
import errno
import json
import resource
import select
import socket
import subprocess
import sys
import time
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import zmq

ROOT = Path(__file__).resolve().parents[2]
TARGET = "127.0.0.1"

LONGEST_S = 60.0
MOST_PASSES = 2_000
MOST_CALLS = 40_000
"""Bounds of a siege that nobody ends."""

PASS_S = 0.02
"""The pause between two passes, and between two bytes of the slow ones."""

SILENT = 500
"""Silent ones at each port."""

SLOW = 50
"""Slow ones at each port."""

KNOCKERS = 64
"""At the control port."""

WAVE = 20
"""So many of the silent and the slow ones come to each port in one pass. More would not
fit the kernel's queue of who waits to be accepted, and be no burden to the daemon."""

FLOOD = 10
"""Connections that come and go at each port in one pass."""

CROWD_SOURCES = [f"127.0.0.{number}" for number in range(2, 10)]
"""So many that no bound for one source keeps the crowd small."""

MEMBER_SOURCE = "127.0.0.1"
"""Where the swarm's members come from, and the slow ones and the flood as well."""

GREETING = b"\xff" + bytes(8) + b"\x7f\x03\x01" + b"CURVE".ljust(20, b"\0") + bytes(32)
"""How a connection of the control plane begins: 64 bytes."""

PREFIX = bytes(16)
"""What begins a message of the data plane, here of a session that does not exist."""


@dataclass(eq=False)
class Besieger:
    """One connection, made again whenever it ends."""

    port: int
    source: str
    says: bytes = b""
    channel: socket.socket | None = None
    calls: int = 0
    heard_bytes: int = 0
    """What was said to this connection."""
    _said: int = 0

    @property
    def stands(self) -> bool:
        """Whether there is a connection."""
        try:
            return self.channel is not None and bool(self.channel.getpeername())
        except OSError:
            return False

    def come(self) -> None:
        """Connects."""
        self.channel = call(self.source, self.port)
        self.calls += 1
        self.heard_bytes = self._said = 0

    def say_a_byte(self) -> None:
        """The next byte of what there is to say; the last one never comes."""
        if self.channel is not None and self._said + 1 < len(self.says):
            with contextlib.suppress(OSError):
                said = self.says[self._said : self._said + 1]
                self._said += self.channel.send(said)

    def listen(self) -> None:
        """Counts what was said, and notices when the other side has hung up."""
        assert self.channel is not None
        try:
            heard = self.channel.recv(4_096)
        except BlockingIOError:
            return
        except OSError:
            heard = b""
        self.heard_bytes += len(heard)
        if not heard:
            self.leave()

    def leave(self) -> None:
        """Hangs up."""
        if self.channel is not None:
            self.channel.close()
            self.channel = None


def call(source: str, port: int) -> socket.socket | None:
    """A connection on its way from this address; None if that cannot be."""
    channel = socket.socket()
    try:
        channel.setblocking(False)
        channel.bind((source, 0))
        if channel.connect_ex((TARGET, port)) in (0, errno.EINPROGRESS):
            return channel
    except OSError:
        pass
    channel.close()
    return None


@dataclass
class Knockers:
    """Strangers with proper keys, of which nobody knows any."""

    port: int
    key: bytes
    calls: int = 0
    messages_heard: int = 0
    _context: zmq.Context[zmq.Socket[bytes]] = field(default_factory=zmq.Context)
    _dealers: deque[zmq.Socket[bytes]] = field(default_factory=deque)

    def turn(self) -> None:
        """One more knocks; one that has knocked for long gives up."""
        for dealer in self._dealers:
            self.messages_heard += bool(dealer.poll(0))
        if len(self._dealers) == KNOCKERS:
            self._dealers.popleft().close(linger=0)
        self.calls += 1
        dealer = self._context.socket(zmq.DEALER)
        dealer.set(zmq.CURVE_SERVERKEY, self.key)
        public, secret = self.keys()
        dealer.set(zmq.CURVE_PUBLICKEY, public)
        dealer.set(zmq.CURVE_SECRETKEY, secret)
        source = CROWD_SOURCES[self.calls % len(CROWD_SOURCES)]
        dealer.connect(f"tcp://{source}:0;{TARGET}:{self.port}")
        dealer.send(b"let me in", zmq.DONTWAIT)
        self._dealers.append(dealer)

    def keys(self) -> tuple[bytes, bytes]:
        """The keys of the next one."""
        return zmq.curve_keypair()

    def leave(self) -> None:
        """Everybody gives up."""
        for dealer in self._dealers:
            dealer.close(linger=0)
        self._context.term()


class Siege:
    """All of them, and what they have seen."""

    def __init__(self, port: int, key: bytes) -> None:
        self.ports = {"control": port, "data": port + 1}
        self.slow = [
            Besieger(port, MEMBER_SOURCE, says)
            for port, says in zip(self.ports.values(), (GREETING, PREFIX), strict=True)
            for _ in range(SLOW)
        ]
        crowd = [
            Besieger(port, CROWD_SOURCES[number % len(CROWD_SOURCES)])
            for port in self.ports.values()
            for number in range(SILENT)
        ]
        self.everybody = [*self.slow, *crowd]
        self.knockers = Knockers(port, key)
        self.flooded = 0
        self.most_heard = dict.fromkeys(self.ports.values(), 0)

    def begin(self) -> None:
        """Everybody connects for the first time."""
        deadline = time.monotonic() + LONGEST_S
        while not all(each.stands for each in self.everybody):
            assert time.monotonic() < deadline, "they could not all connect"
            self.turn()
            self.pause()

    def pause(self) -> bool:
        """Until the next pass; whether nobody wants another one."""
        return bool(select.select([sys.stdin], [], [], PASS_S)[0])

    def turn(self) -> None:
        """One pass: listen, come again, say a byte, knock, come and go."""
        self._listen()
        for each in self.slow:
            each.say_a_byte()
        if self.calls < MOST_CALLS:
            for port in self.ports.values():
                away = [e for e in self.everybody if e.port == port and not e.channel]
                for each in away[:WAVE]:
                    each.come()
                self._flood(port)
            self.knockers.turn()

    def _listen(self) -> None:
        poll = select.poll()
        there = {e.channel.fileno(): e for e in self.everybody if e.channel is not None}
        for number in there:
            poll.register(number, select.POLLIN)
        for number, _ in poll.poll(0):
            each = there[number]
            each.listen()
            most = max(self.most_heard[each.port], each.heard_bytes)
            self.most_heard[each.port] = most

    def _flood(self, port: int) -> None:
        for _ in range(FLOOD):
            channel = call(MEMBER_SOURCE, port)
            if channel is not None:
                self.flooded += 1
                channel.close()

    @property
    def calls(self) -> int:
        """Connections that were made so far."""
        calls = sum(each.calls for each in self.everybody)
        return self.flooded + self.knockers.calls + calls

    def leave(self) -> None:
        """Everybody hangs up."""
        for each in self.everybody:
            each.leave()
        self.knockers.leave()

    def told(self) -> dict[str, int]:
        """What they have done, and the most that any of them heard."""
        return {
            "calls": self.calls,
            "control_bytes": self.most_heard[self.ports["control"]],
            "data_bytes": self.most_heard[self.ports["data"]],
            "messages": self.knockers.messages_heard,
        }


@contextlib.contextmanager
def running(words: Sequence[str], longest_s: float) -> Iterator[dict[str, int]]:
    """A module that attacks, with its arguments, from when it is ready to the end of
    the block; then the mapping has what it tells at last."""
    process = subprocess.Popen(
        [sys.executable, "-m", *words],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    told: dict[str, int] = {}
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        yield told
        out, _ = process.communicate("", timeout=longest_s)
        told.update(json.loads(out))
    finally:
        process.kill()
        process.communicate()


@contextlib.contextmanager
def besieged(port: int, key: bytes) -> Iterator[dict[str, int]]:
    """A siege of this control port, whose owner has this key, for as long as the block
    lasts; afterwards the mapping says what the besiegers have done and heard."""
    words = ("tests.end_to_end.besiegers", str(port), key.hex())
    with running(words, LONGEST_S) as told:
        yield told


def main(port: int, key: bytes) -> None:
    """Besieges until standard input ends."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    siege = Siege(port, key)
    end = time.monotonic() + LONGEST_S
    siege.begin()
    print("ready", flush=True)
    for _ in range(MOST_PASSES):
        if siege.pause() or time.monotonic() > end:
            break
        siege.turn()
    siege.leave()
    print(json.dumps(siege.told()))


if __name__ == "__main__":
    main(int(sys.argv[1]), bytes.fromhex(sys.argv[2]))
