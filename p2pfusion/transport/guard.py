"""Bounds what accepted control connections cost, whatever ZeroMQ lets them do.

ZeroMQ accepts everybody, holds connections that say nothing for ever, and collects the
frames of a message until its last one, however many there are. A ``Guard`` is told
which descriptors were accepted and closed and what was delivered over them, asks the
kernel how many bytes each has received, and shuts down those that are too many, too
silent, or in the middle of a message without an end.

Descriptors belong to ZeroMQ and may be closed, and be somebody else's, at any moment.
They are only looked at and shut down, never read, written or closed, and shut down only
while they are connections to the guarded port: the worst mistake is a reconnect.

What a connection has received can only be asked on Linux. Elsewhere its number of bytes
is not bounded, only the number of connections and their silence.
"""

from __future__ import annotations

import contextlib
import logging
import socket
import sys
from collections import Counter
from dataclasses import dataclass

from p2pfusion import limits
from p2pfusion.transport.base import GUEST
from p2pfusion.transport.budget import most_connections, source_of

LOG = logging.getLogger(__name__)

MEASURES = sys.platform == "linux"
"""Whether the kernel tells how much a connection has received."""

_INFO_BYTES = 136
_RECEIVED_OFFSET = 128
"""Where ``tcpi_bytes_received`` is in ``struct tcp_info``, whose layout is for ever."""


@dataclass(eq=False)
class Connection:
    """One accepted connection, as far as it is known."""

    source: str
    since: float
    sender: str | None = None
    """Who delivered over it; None if nobody yet."""
    heard: float = 0.0
    has_delivered: bool = False
    """Whether a message was completed since the last look."""
    base_bytes: int = 0
    """What it had received when a message was completed."""
    suspect_turn: int | None = None
    """The turn in which it was first seen with too many bytes and no message."""
    is_cut: bool = False

    @property
    def is_guest(self) -> bool:
        """Whether it has shown whose it is, and that is no member."""
        return self.sender is not None and self.sender.startswith(GUEST)


class Guard:
    """Watches over the connections to one local port."""

    def __init__(self, port: int, dropped: Counter[str], *, keyless: bool) -> None:
        """Counts what it does in ``dropped``, by reason. ``keyless``: nobody proves
        who it is, so all are taken for members."""
        self._port = port
        self._keyless = keyless
        self._dropped = dropped
        self._connections: dict[int, Connection] = {}
        self._sources: Counter[str] = Counter()
        self._unheard: Counter[str] = Counter()
        self._vouched: dict[str, None] = {}
        self._turn = 0
        self._since_turn = 0
        self._looked = 0.0
        self._suspects = False
        if not MEASURES:
            LOG.warning(
                "this system does not tell what a connection has received: "
                "messages without an end are not noticed"
            )

    def __len__(self) -> int:
        return len(self._connections)

    def begin(self, descriptor: int, now: float) -> None:
        """A connection was accepted. Cuts it at once if there are too many."""
        self.end(descriptor)
        host = _remote_host(descriptor, self._port)
        if host is None:
            return
        source = source_of(host)
        connection = Connection(source, now)
        self._connections[descriptor] = connection
        self._sources[source] += 1
        self._unheard[source] += 1
        if len(self) > most_connections():
            self.cut(descriptor, "too many connections")
        elif self._sources[source] > limits.MAX_CONNECTIONS_PER_SOURCE:
            self.cut(descriptor, "too many connections of one source")
        elif self._unheard[source] > limits.MAX_HALF_OPEN_PER_SOURCE:
            self.cut(descriptor, "too many silent connections of one source")

    def end(self, descriptor: int) -> None:
        """A connection was closed."""
        connection = self._connections.pop(descriptor, None)
        if connection is None:
            return
        _lose(self._sources, connection.source)
        if connection.sender is None:
            _lose(self._unheard, connection.source)

    def vouch(self, source: str) -> None:
        """A member has proven its key from there: it may begin with a long message."""
        self._vouched.pop(source, None)
        if len(self._vouched) == limits.MAX_CONNECTIONS:
            del self._vouched[next(iter(self._vouched))]
        self._vouched[source] = None

    def heard(self, descriptor: int, sender: str, now: float) -> bool:
        """A message was completed. False if its sender shall not be listened to."""
        connection = self._connections.get(descriptor)
        if connection is None:
            return not sender.startswith(GUEST)
        if connection.is_cut:
            return False
        connection.heard = now
        connection.has_delivered = True
        if sender == connection.sender:
            return True
        if connection.sender is None:
            _lose(self._unheard, connection.source)
        connection.sender = sender
        if connection.is_guest:
            return self._has_room_for(descriptor, now)
        others = [
            number
            for number, other in self._connections.items()
            if other.sender == sender and not other.is_cut
        ]
        if len(others) > limits.MAX_CONNECTIONS_PER_PEER:
            self.cut(others[0], "too many connections of one peer")
        return True

    def shut(self, sender: str) -> None:
        """Cuts all connections of ``sender``."""
        for descriptor, connection in list(self._connections.items()):
            if connection.sender == sender:
                self.cut(descriptor, None)

    def cut(self, descriptor: int, reason: str | None) -> None:
        """Ends a connection, and counts it if there is a reason to complain about."""
        connection = self._connections.get(descriptor)
        if connection is None or connection.is_cut:
            return
        connection.is_cut = True
        if reason is not None:
            self._dropped[reason] += 1
        if _remote_host(descriptor, self._port) is None:
            self.end(descriptor)  # it is somebody else's by now
        else:
            _shut_down(descriptor)

    def received(self, count: int, *, all_of_them: bool) -> None:
        """So many messages were taken from ZeroMQ, or all that there were.

        It hands over messages of all connections in turn. Who has not delivered one
        when all had their turn has not completed one.
        """
        self._since_turn += count
        if all_of_them or self._since_turn > len(self):
            self._turn += 1
            self._since_turn = 0

    def deadline(self) -> float | None:
        """When to look again even if nothing happens."""
        if not self._connections:
            return None
        pause_s = self._pause_s()
        if not self._suspects:
            pause_s = max(pause_s, limits.GUARD_IDLE_S)
        return self._looked + pause_s

    def look(self, now: float) -> None:
        """Looks for connections that are silent or in a message without an end, but
        not more often than is worth it."""
        if now - self._looked < self._pause_s():
            return
        self._looked = now
        self._suspects = False
        for descriptor, connection in list(self._connections.items()):
            if connection.is_cut:
                continue
            age_s = now - connection.since
            if connection.sender is None and age_s > limits.FIRST_MESSAGE_TIMEOUT_S:
                self.cut(descriptor, "nothing said")
                continue
            received_bytes = _received_bytes(descriptor)
            if received_bytes is None:
                self.end(descriptor)  # its end was not reported
            else:
                self._judge(descriptor, connection, received_bytes)

    def _pause_s(self) -> float:
        share_s = len(self) * limits.GUARD_PER_CONNECTION_S
        return max(limits.GUARD_INTERVAL_S, share_s)

    def _judge(
        self, descriptor: int, connection: Connection, received_bytes: int
    ) -> None:
        if connection.has_delivered:
            connection.has_delivered = False
            connection.base_bytes = received_bytes
            connection.suspect_turn = None
        elif received_bytes - connection.base_bytes <= self._bound_bytes(connection):
            connection.suspect_turn = None
        elif connection.suspect_turn is None:
            # It may have completed messages that only wait for their turn.
            connection.suspect_turn = self._turn
            self._suspects = True
        elif connection.suspect_turn == self._turn:
            self._suspects = True
        else:
            self.cut(descriptor, "a message without an end")

    def _bound_bytes(self, connection: Connection) -> int:
        if connection.sender is not None and not connection.is_guest:
            return limits.MAX_UNDELIVERED_BYTES
        is_trusted = self._keyless or connection.source in self._vouched
        if connection.sender is None and is_trusted:
            return limits.MAX_FIRST_BYTES
        return limits.MAX_GUEST_BYTES

    def _has_room_for(self, newcomer: int, now: float) -> bool:
        """Whether there is a guest's place, or one that its owner does not use."""
        guests = [
            (connection.heard, descriptor)
            for descriptor, connection in self._connections.items()
            if connection.is_guest and not connection.is_cut
        ]
        if len(guests) <= limits.MAX_GUESTS:
            return True
        heard, quietest = min(guests)
        is_used = now - heard <= limits.FIRST_MESSAGE_TIMEOUT_S
        self.cut(newcomer if is_used else quietest, "too many guests")
        return not is_used


def _lose(counter: Counter[str], key: str) -> None:
    counter[key] -= 1
    if not counter[key]:
        del counter[key]


def _remote_host(descriptor: int, port: int) -> str | None:
    """Who is connected to the local ``port`` through this; None if nobody is."""
    try:
        channel = socket.socket(fileno=descriptor)
    except (OSError, ValueError):
        return None
    try:
        if channel.family not in (socket.AF_INET, socket.AF_INET6):
            return None
        if channel.getsockname()[1] != port:
            return None
        return str(channel.getpeername()[0])
    except OSError:
        return None
    finally:
        channel.detach()


def _shut_down(descriptor: int) -> None:
    with contextlib.suppress(OSError):
        channel = socket.socket(fileno=descriptor)
        try:
            channel.shutdown(socket.SHUT_RDWR)
        finally:
            channel.detach()


def _received_bytes(descriptor: int) -> int | None:
    """What the kernel has received for a connection, 0 where it does not tell; None if
    there is no connection."""
    try:
        # The family is not looked up: this has to be quick, and does not depend on it.
        channel = socket.socket(socket.AF_INET, socket.SOCK_STREAM, 0, descriptor)
    except OSError:
        return None
    try:
        if not MEASURES:
            return 0
        level, name = socket.IPPROTO_TCP, socket.TCP_INFO
        info = channel.getsockopt(level, name, _INFO_BYTES)
        return int.from_bytes(info[_RECEIVED_OFFSET:_INFO_BYTES], sys.byteorder)
    except OSError:
        return None
    finally:
        channel.detach()
