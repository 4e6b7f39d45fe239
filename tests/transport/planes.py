"""Data planes under test, and sockets that behave as no data plane would."""

from __future__ import annotations

import select
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from p2pfusion.transport.base import Address, Arrival, Caps, Incoming, Traffic
from p2pfusion.transport.connection import PREFIX
from p2pfusion.transport.tcp import NO_CAPS, DataPlane

PATIENCE_S = 20.0
ANY_PORT = Address("127.0.0.1", 0)


class Clock:
    """Time that passes when a test says so."""

    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now

    def advance(self, seconds: float) -> None:
        self.now += seconds


class Bench:
    """Planes and plain sockets of one test, served together and closed at its end."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.planes: list[DataPlane] = []
        self.traffic: dict[DataPlane, Traffic] = {}
        self.sockets: list[socket.socket] = []
        self.arrived: dict[DataPlane, list[Arrival]] = {}

    def plane(self, listen: Address = ANY_PORT, *, caps: Caps = NO_CAPS) -> DataPlane:
        traffic = Traffic()
        plane = DataPlane(listen, traffic, caps=caps, clock=self.clock)
        self.planes.append(plane)
        self.traffic[plane] = traffic
        self.arrived[plane] = []
        return plane

    def pair(self) -> tuple[DataPlane, DataPlane]:
        """Two planes that know each other as ``a`` and ``b``, with sessions."""
        a, b = self.plane(), self.plane()
        meet(a, b)
        return a, b

    def shut(self, plane: DataPlane) -> Address:
        """Closes one, and says where it was."""
        self.planes.remove(plane)
        plane.close()
        return plane.address

    def visitor(self, plane: DataPlane, source: str = "127.0.0.1") -> socket.socket:
        """A socket that has connected to a plane; what it does is up to the test."""
        visitor = socket.create_connection(
            (plane.address.host, plane.address.port), PATIENCE_S, (source, 0)
        )
        self.sockets.append(visitor)
        return visitor

    def listener(self) -> tuple[socket.socket, Address]:
        """A socket that listens; what it does then is up to the test."""
        listener = socket.create_server(("127.0.0.1", 0))
        listener.settimeout(PATIENCE_S)
        self.sockets.append(listener)
        return listener, Address(*listener.getsockname())

    def refusing(self) -> tuple[socket.socket, Address]:
        """A socket that refuses who connects, until the test lets it listen. The port
        stays taken, or another program might answer there."""
        refusing = refusing_socket()
        self.sockets.append(refusing)
        return refusing, Address(*refusing.getsockname())

    def accepted(self, listener: socket.socket) -> socket.socket:
        """The next connection of a listener, while the planes go on."""
        listener.setblocking(False)
        found: list[socket.socket] = []

        def accept() -> bool:
            try:
                found.append(listener.accept()[0])
            except BlockingIOError:
                return False
            return True

        self.until(accept)
        found[0].settimeout(PATIENCE_S)
        self.sockets.append(found[0])
        return found[0]

    def turn(self) -> None:
        """Every plane takes once; frames are kept as bytes."""
        for plane in self.planes:
            self.arrived[plane] += [_kept(arrival) for arrival in plane.take()]

    def until(self, condition: Callable[[], object]) -> None:
        """Turns until a condition holds; fails if it does not in time."""
        deadline = time.monotonic() + PATIENCE_S
        while not condition():
            assert time.monotonic() < deadline, "waited in vain"
            wait(*self.planes)
            self.turn()

    def messages(self, plane: DataPlane) -> list[Incoming]:
        """What has arrived from peers."""
        return [a for a in self.arrived[plane] if isinstance(a, Incoming)]

    def words(self, plane: DataPlane) -> list[bytes]:
        """The heads of what has arrived from peers."""
        return [bytes(message.frames[0]) for message in self.messages(plane)]

    def dropped(self, plane: DataPlane) -> dict[str, int]:
        """What a plane counted as lost."""
        return dict(self.traffic[plane].dropped)

    def hung_up(self, visitor: socket.socket) -> bool:
        """Whether the other side has closed this connection."""
        visitor.setblocking(False)
        try:
            return visitor.recv(1 << 20) == b""
        except BlockingIOError:
            return False
        except OSError:
            return True

    def settle(self) -> None:
        """Turns until no plane has anything to do."""
        self.until(lambda: not any(map(self.has_work, self.planes)))

    def has_work(self, plane: DataPlane) -> bool:
        """Whether a loop would call this plane now."""
        due = plane.deadline()
        return is_readable(plane) or (due is not None and due <= self.clock.now)

    def close(self) -> None:
        for plane in self.planes:
            plane.close()
        for opened in self.sockets:
            opened.close()


@contextmanager
def benches() -> Iterator[Bench]:
    """A bench that is cleared away."""
    bench = Bench()
    try:
        yield bench
    finally:
        bench.close()


def meet(a: DataPlane, b: DataPlane) -> None:
    """Peers a and b, each connected to the other, with a session."""
    a.connect("b", b.address)
    b.connect("a", a.address)
    a.open_session("b", sending=b"a-to-b--", receiving=b"b-to-a--")
    b.open_session("a", sending=b"b-to-a--", receiving=b"a-to-b--")


def refusing_socket() -> socket.socket:
    """Has a port, and does not listen."""
    refusing = socket.socket()
    refusing.bind(("127.0.0.1", 0))
    return refusing


def message(token: bytes, head: bytes, payload: bytes = b"") -> bytes:
    """A message as it is on the wire."""
    return PREFIX.pack(token, len(head), len(payload)) + head + payload


def wait(*planes: DataPlane) -> None:
    """Until one has sockets to serve, or for a moment: time may be a test's own."""
    poller = select.poll()
    for plane in planes:
        poller.register(plane.fileno(), select.POLLIN)
    poller.poll(10)


def is_readable(plane: DataPlane) -> bool:
    """Whether a loop that waits for this plane would wake."""
    poller = select.poll()
    poller.register(plane.fileno(), select.POLLIN)
    return bool(poller.poll(0))


def _kept(arrival: Arrival) -> Arrival:
    if not isinstance(arrival, Incoming):
        return arrival
    frames = tuple(bytes(frame) for frame in arrival.frames)
    return Incoming(arrival.sender, arrival.plane, frames)
