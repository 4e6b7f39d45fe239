"""Who knocks at a control plane without being one: with ZeroMQ, or byte by byte."""

from __future__ import annotations

import functools
import socket
import struct
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import zmq
from zmq.utils import z85

from p2pfusion.transport.base import Address, Arrival, Incoming, Keys, Traffic
from p2pfusion.transport.control import ControlPlane

PATIENCE_S = 20.0
ANY_PORT = Address("127.0.0.1", 0)

GREETING = b"\xff\0\0\0\0\0\0\0\x01\x7f\x03\x00" + b"NULL".ljust(20, b"\0") + bytes(32)
"""How a ZMTP connection without security begins."""

MORE = 0x01
COMMAND = 0x04


@functools.cache
def keys_of(name: str) -> Keys:
    """The same keys whenever they are asked for."""
    public, secret = map(z85.decode, zmq.curve_keypair())
    return Keys(public, secret)


def open_plane(
    name: str, listen: Address = ANY_PORT, *, plain: bool = False
) -> ControlPlane:
    """A control plane with the keys of ``name``."""
    return ControlPlane(name, listen, None if plain else keys_of(name), Traffic())


def dropped(plane: ControlPlane) -> dict[str, int]:
    """What a control plane has counted."""
    return dict(plane._traffic.dropped)


class Client:
    """A ZeroMQ socket that says what it likes, and hears what becomes of it."""

    def __init__(
        self,
        context: zmq.Context[zmq.Socket[bytes]],
        address: Address,
        *,
        own: Keys | None,
        key: bytes = b"",
    ) -> None:
        self.push = context.socket(zmq.PUSH)
        self.push.set(zmq.LINGER, 0)
        self.push.set(zmq.RECONNECT_IVL, 20)
        if own is not None:
            self.push.set(zmq.CURVE_SERVERKEY, key)
            self.push.set(zmq.CURVE_PUBLICKEY, own.public)
            self.push.set(zmq.CURVE_SECRETKEY, own.secret)
        self.monitor = self.push.get_monitor_socket()
        self.push.connect(f"tcp://{address}")

    def send(self, frames: Sequence[bytes]) -> None:
        """Queues a message; large frames are not copied."""
        self.push.send_multipart(frames, zmq.DONTWAIT, copy=False)

    def events(self) -> Iterator[tuple[int, int]]:
        """What became of the connection since the last call."""
        while self.monitor.poll(0):
            yield struct.unpack("=Hi", self.monitor.recv_multipart()[0])

    def close(self) -> None:
        """Hangs up."""
        self.push.disable_monitor()
        self.monitor.close(linger=0)
        self.push.close(linger=0)


class Clients:
    """Makes clients, and closes them at the end."""

    def __init__(self) -> None:
        self.context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self.made: list[Client] = []

    def of(self, plane: ControlPlane, at: str, name: str) -> Client:
        """Somebody with the keys of ``name`` who calls the plane of ``at``."""
        own, key = keys_of(name), keys_of(at).public
        self.made.append(Client(self.context, plane.address, own=own, key=key))
        return self.made[-1]

    def plain(self, plane: ControlPlane) -> Client:
        """Somebody without keys."""
        self.made.append(Client(self.context, plane.address, own=None))
        return self.made[-1]


@contextmanager
def clients() -> Iterator[Clients]:
    """Clients for one test."""
    made = Clients()
    try:
        yield made
    finally:
        for client in made.made:
            client.close()
        made.context.term()


def frame(data: bytes, flags: int = 0) -> bytes:
    """A frame as ZMTP 3 writes it."""
    if len(data) < 256:
        return bytes([flags, len(data)]) + data
    return bytes([flags | 0x02]) + struct.pack(">Q", len(data)) + data


READY = frame(b"\x05READY\x0bSocket-Type\0\0\0\x04PUSH", COMMAND)
"""How a sender without security goes on."""


def shake_hands(channel: socket.socket) -> None:
    """The whole handshake without security; ``channel`` blocks."""
    channel.sendall(GREETING + READY)
    answer = b""
    while not answer.endswith(b"PULL"):
        answer += channel.recv(1)


def until(
    condition: Callable[[], object], *planes: ControlPlane
) -> list[tuple[ControlPlane, Arrival]]:
    """Lets the planes work until a condition holds; what arrived meanwhile."""
    got: list[tuple[ControlPlane, Arrival]] = []
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        for plane in planes:
            got += [(plane, arrival) for arrival in plane.poll(0.01, {})[0]]
    return got


def receive(plane: ControlPlane, count: int, *others: ControlPlane) -> list[Incoming]:
    """The next messages of a plane, while others do their part."""
    got: list[Incoming] = []
    deadline = time.monotonic() + PATIENCE_S
    while len(got) < count:
        assert time.monotonic() < deadline, f"{len(got)} of {count} arrived"
        for other in others:
            other.poll(0, {})
        for arrival in plane.poll(0.01, {})[0]:
            assert isinstance(arrival, Incoming)
            got.append(arrival)
    assert len(got) == count
    return got


def is_hung_up(channel: socket.socket) -> bool:
    """Whether the other side has closed a connection; reads what it said before."""
    channel.setblocking(False)
    try:
        return not channel.recv(65_536)
    except BlockingIOError:
        return False
    except OSError:
        return True
