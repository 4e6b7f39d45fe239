"""From an address to a connected socket, without ever blocking the loop.

A number is connected to at once. A name is looked up in a thread of its own first, and
the addresses that it has are tried in turn. A ``Dial`` is one such attempt.
"""

from __future__ import annotations

import contextlib
import errno
import socket
import threading
from collections import deque
from collections.abc import Callable

from p2pfusion import limits
from p2pfusion.transport import bounds
from p2pfusion.transport.base import Address
from p2pfusion.transport.connection import prepare
from p2pfusion.transport.watch import READ, WRITE, Budget, Watch

Target = tuple[socket.AddressFamily, tuple[str, int] | tuple[str, int, int, int]]
"""What a socket can connect or bind to."""

Found = Callable[[list[Target]], None]


def targets(address: Address) -> list[Target]:
    """Where a host is reached; blocks for names. ``OSError`` if nobody knows it."""
    flags = socket.AI_NUMERICHOST if address.is_literal else 0
    # As bytes, because Python refuses some text that is no host name with other errors.
    host = address.host.encode("ascii")
    found = socket.getaddrinfo(
        host,
        address.port,
        type=socket.SOCK_STREAM,
        proto=socket.IPPROTO_TCP,
        flags=flags,
    )
    return [
        (family, (str(target[0]), int(target[1]), *target[2:]))
        for family, _, _, _, target in found
    ]


class Resolver:
    """Looks names up in threads, a few at a time, and calls back in the loop."""

    def __init__(self, watch: Watch) -> None:
        self._bell, self._button = socket.socketpair()
        self._bell.setblocking(False)
        self._button.setblocking(False)
        self._watch = watch
        self._waiting: deque[tuple[Address, Found]] = deque()
        self._done: deque[tuple[Found, list[Target]]] = deque()
        self._running = 0
        watch.set(self, self._bell, READ)

    def look_up(self, address: Address, found: Found) -> None:
        """Calls ``found`` in a later turn, with nothing if the name is unknown."""
        self._waiting.append((address, found))
        self._start()

    def ready(self, events: int, budget: Budget) -> bool:
        """Calls back for what the threads have found."""
        self._bell.recv(4_096)
        while self._done:
            found, places = self._done.popleft()
            self._running -= 1
            found(places)
        self._start()
        return False

    def overdue(self) -> None:
        """Nothing is ever due: a look-up ends when the system gives up."""

    def close(self) -> None:
        """Forgets what is asked. A thread that still waits ends by itself, unheard."""
        self._waiting.clear()
        self._watch.set(self, self._bell, 0)
        self._bell.close()
        self._button.close()

    def _start(self) -> None:
        while self._waiting and self._running < limits.MAX_LOOKUPS:
            address, found = self._waiting.popleft()
            self._running += 1
            thread = threading.Thread(
                target=self._look_up, args=(address, found), daemon=True
            )
            try:
                thread.start()
            except RuntimeError:  # out of threads: for now, nobody knows the name
                self._tell(found, [])

    def _look_up(self, address: Address, found: Found) -> None:
        try:
            self._tell(found, targets(address))
        except OSError:
            self._tell(found, [])

    def _tell(self, found: Found, places: list[Target]) -> None:
        self._done.append((found, places))
        with contextlib.suppress(OSError):  # rung often enough already, or closed
            self._button.send(b"\0")


class Dial:
    """One attempt to connect. Ends with one call of ``connected`` or ``failed``."""

    def __init__(
        self,
        address: Address,
        *,
        watch: Watch,
        resolver: Resolver,
        connected: Callable[[socket.socket], None],
        failed: Callable[[], None],
    ) -> None:
        self._address = address
        self._watch = watch
        self._resolver = resolver
        self._connected = connected
        self._failed = failed
        self._targets: deque[Target] = deque()
        self._channel: socket.socket | None = None
        self._cancelled = False

    def start(self) -> None:
        """Begins; one of the two calls may come before this returns."""
        if self._address.is_literal:
            self._found(targets(self._address))
        else:
            self._resolver.look_up(self._address, self._found)

    def cancel(self) -> None:
        """Ends it without a call."""
        self._cancelled = True
        self._drop()

    def ready(self, events: int, budget: Budget) -> bool:
        """The kernel knows whether the connection stands."""
        channel = self._channel
        assert channel is not None
        if channel.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) or _is_own(channel):
            self._next()
            return False
        self._channel = None
        self._watch.set(self, channel, 0)
        self._watch.remind(self, None)
        self._connected(channel)
        return False

    def overdue(self) -> None:
        """This place takes too long."""
        self._next()

    def _found(self, places: list[Target]) -> None:
        if not self._cancelled:
            self._targets.extend(places)
            self._next()

    def _next(self) -> None:
        self._drop()
        while self._targets:
            family, place = self._targets.popleft()
            channel = _connecting(family, place)
            if channel is not None:
                self._channel = channel
                self._watch.set(self, channel, WRITE)
                self._watch.remind(self, bounds.CONNECT_TIMEOUT_MS / 1_000)
                return
        self._failed()

    def _drop(self) -> None:
        if self._channel is not None:
            self._watch.set(self, self._channel, 0)
            self._watch.remind(self, None)
            self._channel.close()
            self._channel = None


def _connecting(
    family: socket.AddressFamily, place: tuple[str, int] | tuple[str, int, int, int]
) -> socket.socket | None:
    """A socket on its way to ``place``, or None if that is out of the question."""
    try:
        channel = socket.socket(family, socket.SOCK_STREAM)
    except OSError:
        return None
    try:
        prepare(channel)
        if channel.connect_ex(place) in (0, errno.EINPROGRESS):
            return channel
    except OSError:
        pass
    channel.close()
    return None


def _is_own(channel: socket.socket) -> bool:
    """Whether the socket has met itself: while nobody listens at a port of this
    machine, the kernel may choose that very port for who connects to it."""
    try:
        return bool(channel.getsockname() == channel.getpeername())
    except OSError:
        return True  # gone since
