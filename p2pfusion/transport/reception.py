"""The data plane's listening side: who may connect, for how long, and what arrives.

A connection is *half-open* until its first prefix has named a session. Those are
strangers: they have little time, and where there are too many the oldest gives way, so
that a member that connects meanwhile gets in. A session has one connection: a new one,
once its first prefix has come, ends the old one, which its peer has given up. Messages
of one session thus stay in order.
"""

from __future__ import annotations

import ipaddress
import logging
import socket
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from p2pfusion import limits
from p2pfusion.errors import RemoteProtocolError
from p2pfusion.transport import bounds
from p2pfusion.transport.base import Incoming, Plane, Traffic, size_bytes
from p2pfusion.transport.connection import BufferPool, Frames, Receiver, prepare
from p2pfusion.transport.watch import READ, Budget, Watch

LOG = logging.getLogger(__name__)


@dataclass
class _Origin:
    """What comes from one address of the network."""

    count: int = 0
    half_open: dict[_Accepted, None] = field(default_factory=dict)  # the oldest first


class _Accepted:
    """A connection; what it does is decided in ``Reception``."""

    def __init__(
        self, channel: socket.socket, origin: str, reception: Reception
    ) -> None:
        self.channel = channel
        self.origin = origin
        self.receiver = Receiver(channel, reception.knows)
        self.half_open = True
        self.timed = False
        """Whether the end of the message at hand has a deadline."""
        self._reception = reception

    def ready(self, events: int, budget: Budget) -> bool:
        """Reads one message at most."""
        return self._reception.read(self, budget)

    def overdue(self) -> None:
        """Too slow, or silent."""
        reason = "a silent connection" if self.half_open else "a message too slow"
        self._reception.drop(self, reason)


class Reception:
    """Accepts connections and reads messages. Owns the listening socket."""

    def __init__(
        self,
        listener: socket.socket,
        *,
        watch: Watch,
        traffic: Traffic,
        peer_of: Callable[[bytes], str | None],
    ) -> None:
        """``peer_of``: the peer whose messages begin with a token."""
        self.banner = b""
        """What everybody who connects is told, in the form of ``asking``."""
        self._listener = listener
        self._watch = watch
        self._traffic = traffic
        self._peer_of = peer_of
        self._pool = BufferPool()
        self._origins: dict[str, _Origin] = {}
        self._connections: set[_Accepted] = set()
        self._half_open: dict[_Accepted, None] = {}  # the oldest first
        self._sessions: dict[bytes, _Accepted] = {}
        self._hungry: deque[_Accepted] = deque()
        self._messages: list[Incoming] = []
        self._has_warned = False
        self._listen(True)

    @property
    def can_feed(self) -> bool:
        """Whether ``begin`` would find a buffer for a connection that waits for one."""
        return bool(self._hungry) and self._pool.has_any

    def knows(self, token: bytes) -> bool:
        """Whether a token names a session."""
        return self._peer_of(token) is not None

    def begin(self) -> None:
        """Ends the validity of what ``take`` handed over."""
        self._pool.reclaim()
        self._feed()

    def take(self) -> list[Incoming]:
        """What has arrived since; the frames are valid until ``begin``."""
        messages, self._messages = self._messages, []
        return messages

    def hang_up(self, token: bytes) -> None:
        """Ends the connection of a session."""
        accepted = self._sessions.get(token)
        if accepted is not None:
            self._close(accepted)

    def close(self) -> None:
        """Hangs up on everyone and leaves the port."""
        for accepted in list(self._connections):
            self._close(accepted)
        self._watch.set(self, self._listener, 0)
        self._watch.remind(self, None)
        self._listener.close()

    # --- Accepting -------------------------------------------------------------------

    def ready(self, events: int, budget: Budget) -> bool:
        """Somebody has connected."""
        for _ in range(limits.MAX_ACCEPTS_PER_POLL):
            try:
                channel, place = self._listener.accept()
            except (BlockingIOError, ConnectionAbortedError):
                break
            except OSError as error:
                # Out of descriptors: who waits would wake the loop without end.
                if not self._has_warned:
                    LOG.warning("cannot accept connections for now: %s", error)
                self._has_warned = True
                self._listen(False)
                break
            self._has_warned = False
            self._welcome(channel, _origin(str(place[0])))
        return False

    def overdue(self) -> None:
        """Accepts again."""
        self._listen(True)

    def _listen(self, wanted: bool) -> None:
        self._watch.set(self, self._listener, READ if wanted else 0)
        self._watch.remind(self, None if wanted else limits.ACCEPT_PAUSE_MS / 1_000)

    def _welcome(self, channel: socket.socket, name: str) -> None:
        if not self._make_room(self._origins.get(name, _Origin())):
            self._traffic.dropped["too many connections"] += 1
            channel.close()
            return
        try:
            prepare(channel)
            if self.banner:
                channel.send(self.banner)  # an empty buffer has room for it
        except OSError:
            channel.close()  # gone already
            return
        accepted = _Accepted(channel, name, self)
        origin = self._origins.setdefault(name, _Origin())
        origin.count += 1
        origin.half_open[accepted] = None
        self._connections.add(accepted)
        self._half_open[accepted] = None
        self._watch.set(accepted, channel, READ)
        self._watch.remind(accepted, bounds.HANDSHAKE_TIMEOUT_MS / 1_000)

    def _make_room(self, origin: _Origin) -> bool:
        """Whether one more may come, after the oldest stranger has left if need be."""
        if (
            origin.count >= limits.MAX_CONNECTIONS_PER_SOURCE
            or len(origin.half_open) >= limits.MAX_HALF_OPEN_PER_SOURCE
        ):
            strangers = origin.half_open
        elif len(self._connections) >= limits.MAX_CONNECTIONS:
            strangers = self._half_open
        else:
            return True
        if not strangers:
            return False
        self.drop(next(iter(strangers)), "too many connections")
        return True

    # --- Reading ---------------------------------------------------------------------

    def read(self, accepted: _Accepted, budget: Budget) -> bool:
        """One message of a connection, if it is there; whether there may be another."""
        receiver = accepted.receiver
        try:
            frames = receiver.receive(budget)
            if receiver.hungry and not self._hungry:
                receiver.buffer = self._pool.take()
                frames = receiver.receive(budget)
        except RemoteProtocolError as error:
            self.drop(accepted, str(error))
            return False
        if accepted.half_open and receiver.token is not None:
            self._know(accepted, receiver.token)
        if frames is not None:
            self._hand_over(accepted, frames)
            budget.messages_left -= 1
        if receiver.ended:
            self._close(accepted)
        elif receiver.hungry:
            self._starve(accepted)
        else:
            self._time(accepted)
        return frames is not None

    def drop(self, accepted: _Accepted, reason: str) -> None:
        """Ends a connection that must not go on, and counts it."""
        self._close(accepted, reason)

    def _know(self, accepted: _Accepted, token: bytes) -> None:
        """The first prefix was right: this is the session's connection now."""
        self.hang_up(token)
        accepted.half_open = False
        del self._half_open[accepted]
        del self._origins[accepted.origin].half_open[accepted]
        self._sessions[token] = accepted
        self._watch.remind(accepted, None)

    def _hand_over(self, accepted: _Accepted, frames: Frames) -> None:
        receiver = accepted.receiver
        assert receiver.token is not None and receiver.buffer is not None
        peer = self._peer_of(receiver.token)
        assert peer is not None, "a session that is forgotten has no connection"
        self._pool.lend(receiver.buffer)
        receiver.buffer = None
        self._traffic.count_received(Plane.DATA, peer, size_bytes(frames))
        self._messages.append(Incoming(peer, Plane.DATA, frames))

    def _time(self, accepted: _Accepted) -> None:
        """A message that has begun must end in time."""
        begun = accepted.receiver.begun
        if accepted.half_open or begun == accepted.timed:
            return
        accepted.timed = begun
        delay_s = limits.DATA_FRAME_TIMEOUT_S if begun else None
        self._watch.remind(accepted, delay_s)

    def _starve(self, accepted: _Accepted) -> None:
        """All buffers are in use: not read, the sender is held back by TCP."""
        self._hungry.append(accepted)
        self._watch.set(accepted, accepted.channel, 0)
        self._watch.remind(accepted, None)
        accepted.timed = False

    def _feed(self) -> None:
        """Gives free buffers to who waits for one, in the order of waiting."""
        while self._hungry and (buffer := self._pool.take()) is not None:
            accepted = self._hungry.popleft()
            accepted.receiver.buffer = buffer
            self._watch.set(accepted, accepted.channel, READ)
            self._time(accepted)

    def _close(self, accepted: _Accepted, reason: str = "") -> None:
        receiver = accepted.receiver
        if not reason and receiver.begun and not accepted.half_open:
            reason = "cut off"
        if reason:
            self._traffic.dropped[reason] += 1
        if receiver.buffer is not None:
            self._pool.give(receiver.buffer)
            receiver.buffer = None
        if accepted in self._hungry:
            self._hungry.remove(accepted)
        if receiver.token is not None and not accepted.half_open:
            del self._sessions[receiver.token]
        origin = self._origins[accepted.origin]
        origin.count -= 1
        origin.half_open.pop(accepted, None)
        if not origin.count:
            del self._origins[accepted.origin]
        self._half_open.pop(accepted, None)
        self._connections.remove(accepted)
        self._watch.set(accepted, accepted.channel, 0)
        self._watch.remind(accepted, None)
        accepted.channel.close()


def _origin(host: str) -> str:
    """What counts as one source: an IPv4 address, or a network of IPv6, in which one
    machine has as many addresses as it likes."""
    number = ipaddress.ip_address(host.partition("%")[0])
    if isinstance(number, ipaddress.IPv4Address):
        return str(number)
    if number.ipv4_mapped is not None:
        return str(number.ipv4_mapped)
    return str(ipaddress.IPv6Network((number, 64), strict=False))
