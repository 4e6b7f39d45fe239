"""The transport's contract inside one process, for tests.

A ``Hub`` is the network: it knows who listens where and holds what is on its way. A
message waits with its sender's link until the listener polls, so a link fills up
exactly when nobody reads at the other end, whether the listener is dead, slow or not
yet born. A listener is woken through a socket pair, so that it can wait for
descriptors as well.
"""

from __future__ import annotations

import contextlib
import selectors
import socket
import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from p2pfusion import limits
from p2pfusion.errors import ConflictError
from p2pfusion.transport.base import (
    Address,
    Frame,
    Incoming,
    Plane,
    Traffic,
    bounded_wait_s,
    check_outgoing,
    check_peer_id,
    is_peer_id,
    refusal,
    size_bytes,
)

FIRST_PORT = 49_152
"""Ports that are handed out for port 0: the range that nobody may register."""

SEND_QUEUE = {
    Plane.CONTROL: limits.CONTROL_SEND_QUEUE_MESSAGES,
    Plane.DATA: limits.DATA_SEND_QUEUE_MESSAGES,
}
PER_POLL = {
    Plane.CONTROL: limits.MAX_CONTROL_MESSAGES_PER_POLL,
    Plane.DATA: limits.MAX_DATA_MESSAGES_PER_POLL,
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
        self._next_port = FIRST_PORT

    def listen(self, address: Address, wake: Callable[[], None]) -> Address:
        """Calls ``wake`` whenever a message for ``address`` is on its way."""
        with self._lock:
            if address.port == 0:
                address = Address(address.host, self._next_port)
                self._next_port += 1
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

    def __init__(self, hub: Hub, peer: str, *, control: Address, data: Address) -> None:
        check_peer_id(peer)
        self.traffic = Traffic()
        self._hub = hub
        self._peer = peer
        self._bell, self._button = socket.socketpair()
        self._bell.setblocking(False)
        self._button.setblocking(False)
        self._links: dict[str, dict[Plane, Link]] = {}
        self._knocks: dict[Address, Link] = {}
        self._addresses: dict[Plane, Address] = {}
        try:
            self._addresses[Plane.CONTROL] = hub.listen(control, self._wake)
            self._addresses[Plane.DATA] = hub.listen(data, self._wake)
        except Exception:
            self.close()
            raise

    @property
    def addresses(self) -> Mapping[Plane, Address]:
        """Where this peer listens, with the port that was really bound."""
        return self._addresses

    def connect(self, peer: str, *, control: Address, data: Address) -> None:
        """Makes ``peer`` known; see ``Transport``."""
        check_peer_id(peer)
        addresses = {Plane.CONTROL: control, Plane.DATA: data}
        links = self._links.get(peer, {})
        if {plane: link.target for plane, link in links.items()} == addresses:
            return
        self._drop_links(peer, deliver=False)
        self._links[peer] = {
            plane: self._hub.open(self._peer, address, SEND_QUEUE[plane])
            for plane, address in addresses.items()
        }

    def disconnect(self, peer: str) -> None:
        """Forgets ``peer``; what waits for it still leaves if it can at once."""
        self._drop_links(peer, deliver=True)

    def knock(self, address: Address, frames: Sequence[Frame]) -> None:
        """Sends a control message to whoever listens there; see ``Transport``."""
        check_outgoing(Plane.CONTROL, frames)
        link = self._knocks.pop(address, None)
        if link is None:
            if len(self._knocks) == limits.MAX_KNOCKS:
                oldest = self._knocks.pop(next(iter(self._knocks)))
                self._hub.shut(oldest, deliver=False)
            queue = limits.KNOCK_QUEUE_MESSAGES
            link = self._hub.open(self._peer, address, queue)
        self._knocks[address] = link
        self._send(link, str(address), Plane.CONTROL, frames)

    def send(self, peer: str, plane: Plane, frames: Sequence[Frame]) -> bool:
        """Queues a message, or returns False; see ``Transport``."""
        check_outgoing(plane, frames)
        links = self._links.get(peer)
        if links is None:
            self.traffic.dropped["unknown peer"] += 1
            return False
        return self._send(links[plane], peer, plane, frames)

    def poll(
        self, timeout_s: float | None, descriptors: Mapping[int, int]
    ) -> tuple[list[Incoming], list[int]]:
        """Waits for messages or descriptors; see ``Transport``."""
        wait_s = bounded_wait_s(timeout_s)
        with selectors.PollSelector() as selector:
            selector.register(self._bell, selectors.EVENT_READ)
            for descriptor, interest in descriptors.items():
                selector.register(descriptor, interest)
            ready = {key.fd for key, _ in selector.select(wait_s)}
        with contextlib.suppress(BlockingIOError):
            self._bell.recv(4_096)
        incoming = [
            message
            for plane, address in self._addresses.items()
            for message in self._receive(plane, address)
        ]
        return incoming, [number for number in descriptors if number in ready]

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

    def _send(
        self, link: Link, peer: str, plane: Plane, frames: Sequence[Frame]
    ) -> bool:
        parts = tuple(bytes(frame) for frame in frames)
        if not self._hub.post(link, parts):
            self.traffic.dropped["queue full"] += 1
            return False
        self.traffic.count_sent(plane, peer, size_bytes(parts))
        return True

    def _receive(self, plane: Plane, address: Address) -> list[Incoming]:
        taken = self._hub.take(address, PER_POLL[plane])
        if len(taken) == PER_POLL[plane]:
            self._wake()
        messages = (self._accept(sender, plane, parts) for sender, parts in taken)
        return [message for message in messages if message is not None]

    def _accept(self, sender: str, plane: Plane, parts: Parts) -> Incoming | None:
        reason = refusal(plane, parts)
        if not is_peer_id(sender):
            reason = "a sender without a proper id"
        if reason is not None:
            self.traffic.dropped[reason] += 1
            return None
        self.traffic.count_received(plane, sender, size_bytes(parts))
        frames: tuple[Frame, ...] = parts
        if plane is Plane.DATA:
            frames = tuple(memoryview(part) for part in parts)
        return Incoming(sender, plane, frames)

    def _drop_links(self, peer: str, *, deliver: bool) -> None:
        for link in self._links.pop(peer, {}).values():
            self._hub.shut(link, deliver=deliver)
