"""The transport's contract inside one process, for tests.

A ``Hub`` is the network: it knows who listens where and holds what is on its way. A
message waits with its sender's link until the listener polls, so a link fills up
exactly when nobody reads at the other end, whether the listener is dead, slow or not
yet born. A listener is woken through a socket pair, so that it can wait for
descriptors as well.

Nobody proves anything here, as in plain mode: a sender is who it says it is, and keys
are only names for guests. There are no connections either that could be closed.
"""

from __future__ import annotations

import contextlib
import selectors
import socket
import threading
from collections import deque
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field

from p2pfusion.errors import ConflictError, LocalProtocolError
from p2pfusion.transport import bounds
from p2pfusion.transport.base import (
    TOKEN_BYTES,
    Address,
    Arrival,
    Banner,
    Frame,
    Incoming,
    Keys,
    KnockFailed,
    Plane,
    Remote,
    Traffic,
    bounded_wait_s,
    check_banner,
    check_outgoing,
    check_peer_id,
    refusal,
    size_bytes,
)
from p2pfusion.transport.zap import Door, guest_name, is_sender

FIRST_PORT = 49_152
"""Ports that are handed out for port 0: pairs from the range that nobody may register.
"""

SEND_QUEUE = {
    Plane.CONTROL: bounds.CONTROL_SEND_QUEUE_MESSAGES,
    Plane.DATA: bounds.DATA_SEND_QUEUE_MESSAGES,
}
PER_POLL = {
    Plane.CONTROL: bounds.MAX_CONTROL_MESSAGES_PER_POLL,
    Plane.DATA: bounds.MAX_DATA_MESSAGES_PER_POLL,
}

Parts = tuple[bytes, ...]


@dataclass(eq=False)
class Link:
    """What one sender has on its way to one address."""

    sender: str
    target: Address
    capacity: int
    waiting: deque[Parts] = field(default_factory=deque)
    closed: bool = False


class Hub:
    """The network of one process. Safe to use from several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._listeners: dict[Address, Callable[[], None]] = {}
        self._links: dict[Address, deque[Link]] = {}
        self._banners: dict[Address, bytes] = {}
        self._next_port = FIRST_PORT

    def listen(self, address: Address, wake: Callable[[], None]) -> Address:
        """Calls ``wake`` whenever a message for ``address`` is on its way."""
        with self._lock:
            if address.port == 0:
                address = Address(address.host, self._next_port)
                self._next_port += 2
            if address in self._listeners:
                raise ConflictError(
                    f"port {address.port} on {address.host} is in use",
                    hint="choose another port",
                )
            self._listeners[address] = wake
        wake()
        return address

    def leave(self, address: Address) -> None:
        """Stops listening. What waits for the address waits on."""
        with self._lock:
            del self._listeners[address]
            self._banners.pop(address, None)

    def say(self, address: Address, banner: bytes) -> None:
        """What whoever listens there says to everybody."""
        with self._lock:
            self._banners[address] = banner

    def ask(self, address: Address) -> bytes | None:
        """What is said there; None if nobody listens."""
        with self._lock:
            said = self._banners.get(address, b"")
            return said if address in self._listeners else None

    def open(self, sender: str, target: Address, capacity: int) -> Link:
        """A link to an address, whether or not anybody listens there yet."""
        link = Link(sender, target, capacity)
        with self._lock:
            self._links.setdefault(target, deque()).append(link)
        return link

    def shut(self, link: Link, *, deliver: bool) -> None:
        """Ends a link; what waits on it still arrives if somebody listens."""
        with self._lock:
            link.closed = True
            if not (deliver and link.target in self._listeners):
                link.waiting.clear()
            if not link.waiting:
                self._links[link.target].remove(link)

    def post(self, link: Link, parts: Parts) -> bool:
        """Sends, or returns False if the link is full."""
        with self._lock:
            if len(link.waiting) >= link.capacity:
                return False
            link.waiting.append(parts)
            wake = self._listeners.get(link.target)
        if wake is not None:
            wake()
        return True

    def take(self, address: Address, count: int) -> list[tuple[str, Parts]]:
        """Up to ``count`` messages, the links in turn."""
        taken: list[tuple[str, Parts]] = []
        with self._lock:
            links = self._links.get(address, deque())
            empty = 0
            while links and len(taken) < count and empty < len(links):
                link = links.popleft()
                empty = 0 if link.waiting else empty + 1
                if link.waiting:
                    taken.append((link.sender, link.waiting.popleft()))
                if link.waiting or not link.closed:
                    links.append(link)
        return taken


class MemoryTransport:
    """A ``Transport`` over a hub."""

    def __init__(self, hub: Hub, peer: str, listen: Address) -> None:
        """Listens at once; the data plane one port above the control plane."""
        check_peer_id(peer)
        self.traffic = Traffic()
        self._hub = hub
        self._peer = peer
        self._bell, self._button = socket.socketpair()
        self._bell.setblocking(False)
        self._button.setblocking(False)
        self._door = Door()
        self._links: dict[str, dict[Plane, Link]] = {}
        self._knocks: dict[Address, Link] = {}
        self._sessions: dict[str, tuple[bytes, bytes]] = {}
        self._told: list[Arrival] = []
        self._addresses: dict[Plane, Address] = {}
        try:
            control = self._addresses[Plane.CONTROL] = hub.listen(listen, self._wake)
            data = Address(control.host, control.port + 1)
            self._addresses[Plane.DATA] = hub.listen(data, self._wake)
        except Exception:
            self.close()
            raise

    @property
    def addresses(self) -> Mapping[Plane, Address]:
        """Where this peer listens, with the ports that were really bound."""
        return self._addresses

    def admit(self, name: str, key: bytes) -> None:
        """Listens to ``name`` again if it was expelled; see ``Transport``."""
        check_peer_id(name)
        self._door.admit(name, name.encode())

    def expel(self, name: str) -> None:
        """Listens to ``name`` no more; see ``Transport``."""
        self._door.expel(name)
        self._drop_links(name, deliver=False)
        self._sessions.pop(name, None)

    def set_door(
        self, *, guests: Collection[bytes], strangers: bool, banner: bytes
    ) -> None:
        """Says who else may greet; see ``Transport``."""
        check_banner(banner)
        self._door.set(guests=guests, strangers=strangers)
        self._hub.say(self._addresses[Plane.CONTROL], banner)

    def kick(self, sender: str) -> None:
        """Does nothing: there is no connection to be closed."""

    def connect(self, peer: str, remote: Remote) -> None:
        """Makes ``peer`` known; see ``Transport``."""
        check_peer_id(peer)
        addresses = {Plane.CONTROL: remote.control, Plane.DATA: remote.data}
        links = self._links.get(peer, {})
        if {plane: link.target for plane, link in links.items()} == addresses:
            return
        self._drop_links(peer, deliver=False)
        self._links[peer] = {
            plane: self._hub.open(self._peer, address, SEND_QUEUE[plane])
            for plane, address in addresses.items()
        }

    def know(self, peer: str, token: bytes) -> None:
        """Does nothing: whoever is here can be reached."""

    def stand_by(self, peer: str, data: Address) -> None:
        """Does nothing, as well."""

    def disconnect(self, peer: str) -> None:
        """Forgets ``peer``; what waits for it still leaves if it can at once."""
        self._drop_links(peer, deliver=True)

    def open_session(self, peer: str, *, sending: bytes, receiving: bytes) -> None:
        """Tokens of the data plane; see ``Transport``."""
        if not len(sending) == len(receiving) == TOKEN_BYTES:
            raise LocalProtocolError(f"a token that has not {TOKEN_BYTES} bytes")
        self._sessions[peer] = (sending, receiving)

    def knock(
        self,
        address: Address,
        frames: Sequence[Frame],
        *,
        key: bytes,
        own: Keys | None = None,
    ) -> None:
        """Sends a control message to whoever listens there; see ``Transport``."""
        check_outgoing(Plane.CONTROL, frames)
        name = self._peer if own is None else guest_name(own.public)
        link = self._knocks.pop(address, None)
        if link is not None and link.sender != name:
            self._hub.shut(link, deliver=True)
            link = None
        if link is None:
            if len(self._knocks) == bounds.MAX_KNOCKS:
                oldest = self._knocks.pop(next(iter(self._knocks)))
                self._hub.shut(oldest, deliver=False)
            link = self._hub.open(name, address, bounds.KNOCK_QUEUE_MESSAGES)
        self._knocks[address] = link
        self._post(link, str(address), Plane.CONTROL, frames)

    def ask(self, address: Address) -> None:
        """Fetches the banner of who listens there; see ``Transport``."""
        said = self._hub.ask(address)
        failed = KnockFailed(address, "no-answer" if said is None else "no-banner")
        self._told.append(Banner(address, said) if said else failed)
        self._wake()

    def send(self, peer: str, plane: Plane, frames: Sequence[Frame]) -> bool:
        """Queues a message, or returns False; see ``Transport``."""
        check_outgoing(plane, frames)
        links = self._links.get(peer)
        if links is None:
            self.traffic.dropped["unknown peer"] += 1
            return False
        if plane is Plane.CONTROL:
            return self._post(links[plane], peer, plane, frames)
        if peer not in self._sessions:
            self.traffic.dropped["no session"] += 1
            return False
        token, _ = self._sessions[peer]
        return self._post(links[plane], peer, plane, frames, token)

    def waiting(self, peer: str) -> int:
        """Messages that wait on the data plane; see ``Transport``."""
        links = self._links.get(peer)
        return 0 if links is None else len(links[Plane.DATA].waiting)

    def under_way(self, peer: str) -> int:
        """The same: what has left is there at once."""
        return self.waiting(peer)

    def poll(
        self, timeout_s: float | None, descriptors: Mapping[int, int]
    ) -> tuple[list[Arrival], list[int]]:
        """Waits for messages or descriptors; see ``Transport``."""
        wait_s = bounded_wait_s(timeout_s)
        with selectors.PollSelector() as selector:
            selector.register(self._bell, selectors.EVENT_READ)
            for descriptor, interest in descriptors.items():
                selector.register(descriptor, interest)
            ready = {key.fd for key, _ in selector.select(wait_s)}
        with contextlib.suppress(BlockingIOError):
            self._bell.recv(4_096)
        arrivals, self._told = self._told, []
        for plane, address in self._addresses.items():
            arrivals += self._receive(plane, address)
        return arrivals, [number for number in descriptors if number in ready]

    def close(self) -> None:
        """Lets the last messages leave for a bounded time and frees everything."""
        for peer in list(self._links):
            self._drop_links(peer, deliver=True)
        for link in self._knocks.values():
            self._hub.shut(link, deliver=False)
        for address in self._addresses.values():
            self._hub.leave(address)
        self._knocks.clear()
        self._addresses.clear()
        self._bell.close()
        self._button.close()

    def _wake(self) -> None:
        # A full pair means that the listener has been woken already; a closed one,
        # that it has just left.
        with contextlib.suppress(OSError):
            self._button.send(b"\0")

    def _post(
        self,
        link: Link,
        peer: str,
        plane: Plane,
        frames: Sequence[Frame],
        token: bytes = b"",
    ) -> bool:
        parts = tuple(bytes(frame) for frame in frames)
        if not self._hub.post(link, (token, *parts)):
            self.traffic.dropped["queue full"] += 1
            return False
        self.traffic.count_sent(plane, peer, size_bytes(parts))
        return True

    def _receive(self, plane: Plane, address: Address) -> list[Arrival]:
        taken = self._hub.take(address, PER_POLL[plane])
        if len(taken) == PER_POLL[plane]:
            self._wake()
        arrivals: list[Arrival] = []
        for sender, (token, *parts) in taken:
            reason = refusal(plane, parts) or self._objection(plane, sender, token)
            if reason is not None:
                self.traffic.dropped[reason] += 1
                continue
            self.traffic.count_received(plane, sender, size_bytes(parts))
            frames: tuple[Frame, ...] = tuple(parts)
            if plane is Plane.DATA:
                frames = tuple(memoryview(part) for part in parts)
            arrivals.append(Incoming(sender, plane, frames))
        return arrivals

    def _objection(self, plane: Plane, sender: str, token: bytes) -> str | None:
        if not is_sender(sender):
            return "a sender without a proper id"
        if plane is Plane.DATA:
            _, receiving = self._sessions.get(sender, (b"", b""))
            return None if token == receiving else "an unknown token"
        if self._door.claimed(sender) is None:
            return "a sender that is not admitted"
        return None

    def _drop_links(self, peer: str, *, deliver: bool) -> None:
        for link in self._links.pop(peer, {}).values():
            self._hub.shut(link, deliver=deliver)
