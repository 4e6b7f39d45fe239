"""Somebody in the middle: passes on what goes to a daemon, keeps a copy, and meddles.

A daemon that advertises the relay's address is reached through it. What others send to
its data port is cut into messages, which needs no key: their lengths are in the clear.
The relay can do something else with one of them than pass it on.
"""

from __future__ import annotations

import contextlib
import selectors
import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from p2pfusion.transport.connection import PREFIX

READ_BYTES = 1 << 20
HOST = "127.0.0.1"
TRIES = 100

Twist = Callable[[bytes], bytes]
"""From a whole message of the data plane to what is passed on instead."""

Ports = tuple[socket.socket, socket.socket]


def payload_bytes(message: bytes) -> int:
    """Length of a message's payload, as its prefix says; 0 if it has none."""
    return int(PREFIX.unpack_from(message)[2])


def with_bit_flipped(message: bytes, place: int) -> bytes:
    """The message with one bit changed."""
    changed = bytearray(message)
    changed[place] ^= 0x10
    return bytes(changed)


@dataclass(eq=False)
class _Pipe:
    """One direction of one connection."""

    target: socket.socket
    is_data: bool
    waiting: bytes = b""


@dataclass
class Relay:
    """Two ports, the second one above the first, that lead to those of a daemon."""

    listeners: Ports
    port: int
    recorded: list[bytes] = field(default_factory=list)
    """Messages of the data plane, whole, as they came."""
    _target: int = 0
    _twist: tuple[Twist, threading.Event] | None = None
    _stopping: threading.Event = field(default_factory=threading.Event)
    _selector: selectors.BaseSelector = field(default_factory=selectors.DefaultSelector)

    @property
    def address(self) -> str:
        """What a daemon advertises to be reached through here."""
        return f"{HOST}:{self.port}"

    def lead_to(self, port: int) -> None:
        """From now on connections go on to this control port, and the one above it."""
        self._target = port

    def twist(self, how: Twist) -> threading.Event:
        """Does this to the next piece of a stream; the event tells that it is done."""
        done = threading.Event()
        self._twist = (how, done)
        return done

    def run(self) -> None:
        """Passes on, until told to stop; then ends all connections."""
        for listener in self.listeners:
            self._selector.register(listener, selectors.EVENT_READ, None)
        while not self._stopping.is_set():
            for key, _ in self._selector.select(0.1):
                channel = key.fileobj
                assert isinstance(channel, socket.socket)
                if key.data is None:
                    self._accept(channel)
                elif channel.fileno() >= 0:  # not ended by what came before it
                    self._pass_on(channel, key.data)
        for key in list(self._selector.get_map().values()):
            assert isinstance(key.fileobj, socket.socket)
            key.fileobj.close()
        self._selector.close()

    def stop(self) -> None:
        """Has ``run`` end."""
        self._stopping.set()

    def _accept(self, listener: socket.socket) -> None:
        here, _ = listener.accept()
        there = socket.socket()
        is_data = listener is self.listeners[1]
        try:
            there.connect((HOST, self._target + is_data))
        except OSError:
            here.close()
            there.close()
            return
        for channel in (here, there):
            channel.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._selector.register(here, selectors.EVENT_READ, _Pipe(there, is_data))
        self._selector.register(there, selectors.EVENT_READ, _Pipe(here, False))

    def _pass_on(self, channel: socket.socket, pipe: _Pipe) -> None:
        with contextlib.suppress(OSError):
            said = channel.recv(READ_BYTES)
            if said:
                pipe.target.sendall(self._whole(pipe, said) if pipe.is_data else said)
                return
        for each in (channel, pipe.target):
            self._selector.unregister(each)
            each.close()

    def _whole(self, pipe: _Pipe, said: bytes) -> bytes:
        """The messages that are whole by now, each as it shall go on."""
        pipe.waiting += said
        going = b""
        while len(pipe.waiting) >= PREFIX.size:
            end = PREFIX.size + sum(PREFIX.unpack_from(pipe.waiting)[1:])
            if len(pipe.waiting) < end:
                break
            message, pipe.waiting = pipe.waiting[:end], pipe.waiting[end:]
            self.recorded.append(message)
            going += self._twisted(message)
        return going

    def _twisted(self, message: bytes) -> bytes:
        if self._twist is None or not payload_bytes(message):
            return message
        (how, done), self._twist = self._twist, None
        done.set()
        return how(message)


@contextlib.contextmanager
def relayed() -> Iterator[Relay]:
    """A relay that works in a thread; nothing of it is left afterwards."""
    listeners, port = _listen()
    relay = Relay(listeners, port)
    thread = threading.Thread(target=relay.run)
    thread.start()
    try:
        yield relay
    finally:
        relay.stop()
        thread.join()


def _listen() -> tuple[Ports, int]:
    """Listens on two ports, one above the other."""
    for _ in range(TRIES):
        first, second = socket.socket(), socket.socket()
        try:
            first.bind((HOST, 0))
            port = int(first.getsockname()[1])
            second.bind((HOST, port + 1))
            first.listen()
            second.listen()
            return (first, second), port
        except (OSError, OverflowError):
            first.close()
            second.close()
    raise AssertionError("no two free ports side by side")
