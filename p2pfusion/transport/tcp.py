"""The data plane: bulk between members, over TCP and framing of its own.

A peer listens on one port and connects to every peer that it sends to, so a connection
carries messages in one direction. A message begins with the token of a session that
both sides agreed upon elsewhere; what else is in it, only the layer above can open.
Against libzmq, on which the control plane rests, this bounds what an unfinished message
and a stranger may cost, and receives into buffers that are reused.

``DataPlane`` puts the parts together: ``reception`` listens, a ``link`` for each peer
sends, ``asking`` reads banners, ``cap`` says how much may move, and ``watch`` lets each
of them work in turn.
"""

from __future__ import annotations

import errno
import socket
import time
from collections.abc import Callable, Sequence

from p2pfusion import limits
from p2pfusion.errors import (
    ConfigError,
    ConflictError,
    LocalProtocolError,
    ResourceError,
)
from p2pfusion.transport import bounds
from p2pfusion.transport.asking import Asks, write_banner
from p2pfusion.transport.base import (
    TOKEN_BYTES,
    Address,
    Arrival,
    Caps,
    Frame,
    Plane,
    Traffic,
    check_outgoing,
    check_peer_id,
)
from p2pfusion.transport.cap import Cap
from p2pfusion.transport.dialing import Resolver, targets
from p2pfusion.transport.link import Link
from p2pfusion.transport.passages import Passages
from p2pfusion.transport.reception import Reception
from p2pfusion.transport.watch import Budget, Watch

NO_CAPS = Caps()


class DataPlane:
    """Sends and receives on the data plane. Used from one thread; nothing blocks."""

    def __init__(
        self,
        listen: Address,
        traffic: Traffic,
        *,
        caps: Caps = NO_CAPS,
        clock: Callable[[], float] = time.monotonic,
        me: str = "",
        relays: bool = False,
    ) -> None:
        """Listens at once. ``relays``: whether others reach each other through ``me``.

        ``ConflictError`` if the port is taken, ``ConfigError`` if this machine has no
        such address, ``ResourceError`` if it can open no socket."""
        listener, self.address = _listen(listen)
        self._traffic = traffic
        self._banner = b""
        self._links: dict[str, Link] = {}
        self._sessions: dict[str, tuple[bytes, bytes]] = {}  # sending, receiving
        self._senders: dict[bytes, str] = {}  # whose a receiving token is
        try:
            self._watch = Watch(clock)
            self._resolver = Resolver(self._watch)
        except OSError as error:
            listener.close()
            raise _no_sockets(error) from error
        self._asks = Asks(self._watch, self._resolver)
        self._up, down = Cap(self._watch, caps.up), Cap(self._watch, caps.down)
        self.passages = Passages(
            me,
            watch=self._watch,
            resolver=self._resolver,
            traffic=traffic,
            up=self._up,
            down=down,
            relays=relays,
            adopt=lambda channel: self._reception.adopt(channel),
        )
        self._reception = Reception(
            listener,
            watch=self._watch,
            traffic=traffic,
            peer_of=self._senders.get,
            cap=down,
            passage=self.passages.circuits.take,
        )

    @property
    def banner(self) -> bytes:
        """What everybody who connects is told at once; nothing if empty."""
        return self._banner

    @banner.setter
    def banner(self, data: bytes) -> None:
        """``LocalProtocolError`` if it is too long."""
        self._reception.banner = write_banner(data)
        self._banner = data

    def fileno(self) -> int:
        """A descriptor that is readable while ``take`` has sockets to serve."""
        return self._watch.fileno()

    def deadline(self) -> float | None:
        """The monotonic instant at which ``take`` has work without any socket."""
        return 0.0 if self._reception.can_feed else self._watch.deadline()

    def connect(self, peer: str, address: Address, relay: str = "") -> None:
        """Makes ``peer`` known, or that it is reached through ``relay``, which listens
        there. Repeating it does nothing; another place replaces the connection and what
        waits on it. Whether anybody answers shows later."""
        check_peer_id(peer)
        link = self._links.get(peer)
        if link is not None:
            if link.place == (address, relay):
                return
            link.close(deliver=False)
        way = None
        if relay:
            way = self.passages.way(peer, address, relay, Plane.DATA)
        self._links[peer] = Link(
            address,
            watch=self._watch,
            resolver=self._resolver,
            traffic=self._traffic,
            cap=self._up,
            relay=relay,
            way=way,
        )

    def disconnect(self, peer: str) -> None:
        """Forgets where ``peer`` is; what waits for it leaves if it can at once."""
        link = self._links.pop(peer, None)
        if link is not None:
            link.close(deliver=True)
        self.passages.leave(peer)

    def open_session(self, peer: str, *, sending: bytes, receiving: bytes) -> None:
        """Messages to ``peer`` begin with one token from now on, and messages with the
        other are from it. What belongs to an earlier session is dropped."""
        if not len(sending) == len(receiving) == TOKEN_BYTES:
            raise LocalProtocolError(f"a token that has not {TOKEN_BYTES} bytes")
        before = self._sessions.get(peer, (b"", b""))
        self._sessions[peer] = (sending, receiving)
        if receiving != before[1]:
            self._forget(peer, before[1])
            self._senders[receiving] = peer
        if sending != before[0] and peer in self._links:
            self._links[peer].restart()

    def expel(self, peer: str) -> None:
        """Forgets ``peer`` and its session, and closes its connections at once."""
        link = self._links.pop(peer, None)
        if link is not None:
            link.close(deliver=False)
        _, receiving = self._sessions.pop(peer, (b"", b""))
        self._forget(peer, receiving)
        self.passages.forget(peer)

    def send(self, peer: str, frames: Sequence[Frame]) -> bool:
        """Queues a head and perhaps a payload, which leave from where they lie: do not
        change them afterwards. False: no such peer, no session, or the queue is full.

        A payload without bytes arrives as none. ``LocalProtocolError`` if the message
        breaks the plane's bounds.
        """
        size = check_outgoing(Plane.DATA, frames)
        link, session = self._links.get(peer), self._sessions.get(peer)
        if link is None or session is None:
            self._traffic.dropped["unknown peer" if link is None else "no session"] += 1
            return False
        if not link.post(session[0], frames):
            self._traffic.dropped["queue full"] += 1
            return False
        self._traffic.count_sent(Plane.DATA, peer, size)
        return True

    def waiting(self, peer: str) -> int:
        """How many messages to ``peer`` have not left, or not whole."""
        link = self._links.get(peer)
        return 0 if link is None else link.waiting

    def under_way(self, peer: str) -> int:
        """How many messages to ``peer`` have not reached its kernel, or not whole."""
        link = self._links.get(peer)
        return 0 if link is None else link.under_way

    def ask(self, address: Address) -> None:
        """Fetches the banner of whoever has this *control* address: ``take`` hands over
        a ``Banner`` or a ``KnockFailed``."""
        self._asks.ask(address)

    def take(self) -> list[Arrival]:
        """Does what is ready and due, within bounds; what arrived by that. The frames
        are views that are valid until the next call."""
        self._reception.begin()
        self._watch.turn(_budget())
        return [*self._reception.take(), *self._asks.take()]

    def close(self) -> None:
        """Hangs up. What is queued may leave for a bounded time."""
        self._reception.close()
        self._asks.close()
        end = time.monotonic() + bounds.CLOSE_LINGER_MS / 1_000
        while any(link.is_leaving for link in self._links.values()):
            left_s = end - time.monotonic()
            if left_s <= 0:
                break
            due = self._watch.deadline()
            due_s = left_s if due is None else max(0.0, due - self._watch.clock())
            self._watch.turn(_budget(), min(left_s, due_s))
        for link in self._links.values():
            link.close(deliver=True)
        self._links.clear()
        self.passages.close()
        self._resolver.close()
        self._watch.close()

    def _forget(self, peer: str, receiving: bytes) -> None:
        if self._senders.get(receiving) == peer:
            del self._senders[receiving]
            self._reception.hang_up(receiving)


def _budget() -> Budget:
    count = bounds.MAX_DATA_MESSAGES_PER_POLL
    return Budget(bytes_left=count * limits.CHUNK_BYTES, messages_left=count)


def _listen(address: Address) -> tuple[socket.socket, Address]:
    """A listening socket, and ``address`` with the real port."""
    try:
        family, place = targets(address)[0]
    except OSError as error:
        raise ConfigError(
            f"cannot listen on {address}: the name {address.host} is unknown",
            hint="listen on 0.0.0.0 for every interface of this machine",
        ) from error
    try:
        listener = socket.socket(family, socket.SOCK_STREAM)
    except OSError as error:
        raise _no_sockets(error) from error
    try:
        listener.setblocking(False)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            # As on the control plane, :: means every interface, whatever it speaks.
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        listener.bind(place)
        listener.listen(bounds.LISTEN_BACKLOG)
    except OSError as error:
        listener.close()
        if error.errno == errno.EADDRINUSE:
            raise ConflictError(
                f"port {address.port} on {address.host} is in use",
                hint="stop the program that uses it, or choose another with --listen",
            ) from error
        raise ConfigError(
            f"cannot listen on {address}: {error}",
            hint="listen on an address of this machine and a port above 1023",
        ) from error
    return listener, Address(address.host, int(listener.getsockname()[1]))


def _no_sockets(error: OSError) -> ResourceError:
    return ResourceError(
        f"no more connections can be opened: {error}",
        hint="raise the limit of open files (ulimit -n) and start again",
    )
