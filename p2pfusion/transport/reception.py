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
from p2pfusion.transport.base import Incoming, Moving, Plane, Traffic, size_bytes
from p2pfusion.transport.budget import most_connections
from p2pfusion.transport.cap import Cap
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
        """Whether the message at hand has to have grown by some instant."""
        self.timed_from = 0
        """How many bytes had come when that was looked at last."""
        self.told_at = 0.0
        """When the message at hand began, or somebody was last told that it comes."""
        self._reception = reception

    def ready(self, events: int, budget: Budget) -> bool:
        """Reads one message at most."""
        return self._reception.read(self, budget)

    def go(self, most: int) -> None:
        """Its turn has come, under the cap."""
        self._reception.go_on(self, most)

    def overdue(self) -> None:
        """Perhaps too slow, or silent."""
        self._reception.judge(self)


class Reception:
    """Accepts connections and reads messages. Owns the listening socket."""

    def __init__(
        self,
        listener: socket.socket,
        *,
        watch: Watch,
        traffic: Traffic,
        peer_of: Callable[[bytes], str | None],
        cap: Cap,
        passage: Callable[[socket.socket, bytes, int, int], bool],
    ) -> None:
        """``peer_of``: the peer whose messages begin with a token. ``cap``: what all
        connections together may bring. ``passage``: takes over what is no connection
        of this plane, or does not."""
        self.banner = b""
        """What everybody who connects is told, in the form of ``asking``."""
        self._listener = listener
        self._watch = watch
        self._traffic = traffic
        self._peer_of = peer_of
        self._cap = cap
        self._passage = passage
        self._pool = BufferPool()
        self._origins: dict[str, _Origin] = {}
        self._connections: set[_Accepted] = set()
        self._half_open: dict[_Accepted, None] = {}  # the oldest first
        self._sessions: dict[bytes, _Accepted] = {}
        self._hungry: deque[_Accepted] = deque()
        self._messages: list[Incoming | Moving] = []
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

    def take(self) -> list[Incoming | Moving]:
        """What has arrived since; the frames are valid until ``begin``."""
        for waits in self._cap.line:
            if isinstance(waits, _Accepted):  # else it is a part of a circuit
                self._tell(waits)
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
            self._welcome(channel, _origin(str(place[0])), self.banner)
        return False

    def adopt(self, channel: socket.socket) -> None:
        """Takes in a connection that this side has dialled, as if it had come."""
        try:
            name = _origin(str(channel.getpeername()[0]))
        except OSError:
            channel.close()  # gone already
            return
        self._welcome(channel, name, b"")

    def overdue(self) -> None:
        """Accepts again."""
        self._listen(True)

    def _listen(self, wanted: bool) -> None:
        self._watch.set(self, self._listener, READ if wanted else 0)
        self._watch.remind(self, None if wanted else limits.ACCEPT_PAUSE_MS / 1_000)

    def _welcome(self, channel: socket.socket, name: str, banner: bytes) -> None:
        if not self._make_room(self._origins.get(name, _Origin())):
            self._traffic.dropped["too many connections"] += 1
            channel.close()
            return
        try:
            prepare(channel)
            if banner:
                channel.send(banner)  # an empty buffer has room for it
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
        elif len(self._connections) >= most_connections():
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
        most = self._cap.ask(accepted)
        if not most:
            # Not read before its turn: meanwhile TCP holds the sender back.
            self._watch.set(accepted, accepted.channel, 0)
            return False
        return self._read(accepted, budget, most)

    def go_on(self, accepted: _Accepted, most: int) -> None:
        """Up to so many bytes of a connection that had to wait for its turn."""
        self._watch.set(accepted, accepted.channel, READ)
        self._read(accepted, Budget(most, messages_left=1), most)

    def _read(self, accepted: _Accepted, budget: Budget, most: int) -> bool:
        receiver = accepted.receiver
        came, step = receiver.come_bytes, Budget(min(most, budget.bytes_left), 1)
        try:
            frames = receiver.receive(step)
            if receiver.hungry and not self._hungry:
                receiver.buffer = self._pool.take()
                frames = receiver.receive(step)
        except RemoteProtocolError as error:
            self.drop(accepted, str(error))
            return False
        came = receiver.come_bytes - came
        self._cap.spend(came)
        budget.bytes_left -= came
        if receiver.wish is not None:
            self._pass_on(accepted, *receiver.wish)
            return False
        if accepted.half_open and receiver.token is not None:
            self._know(accepted, receiver.token)
        if frames is not None:
            self._hand_over(accepted, frames)
            budget.messages_left -= 1
        elif came and accepted.timed:
            self._tell(accepted)
        if receiver.ended:
            self._close(accepted)
        elif receiver.hungry:
            self._starve(accepted)
        else:
            self._time(accepted)
        return frames is not None

    def _pass_on(
        self, accepted: _Accepted, token: bytes, wish: int, length: int
    ) -> None:
        """It is to become a passage."""
        self._forget(accepted)
        if not self._passage(accepted.channel, token, wish, length):
            self._traffic.dropped["no passage"] += 1
            accepted.channel.close()

    def _tell(self, accepted: _Accepted) -> None:
        """Bytes come, or lie here unread: now and then somebody should know."""
        now, token = self._watch.clock(), accepted.receiver.token
        if token is None or now - accepted.told_at < bounds.DATA_SIGN_MS / 1_000:
            return
        accepted.told_at = now
        peer = self._peer_of(token)
        if peer is not None:
            self._messages.append(Moving(peer))

    def judge(self, accepted: _Accepted) -> None:
        """A connection had its time. It may go on if enough has come in it, or if what
        has come is only not read yet."""
        receiver = accepted.receiver
        if accepted.half_open:
            self.drop(accepted, "a silent connection")
            return
        grown = receiver.come_bytes - accepted.timed_from
        if grown < limits.DATA_FRAME_GROWTH_BYTES and not receiver.is_behind:
            self.drop(accepted, "a message too slow")
            return
        accepted.timed_from = receiver.come_bytes
        self._watch.remind(accepted, limits.DATA_FRAME_TIMEOUT_S)

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
        """A message that has begun must grow in time."""
        begun = accepted.receiver.begun
        if accepted.half_open or begun == accepted.timed:
            return
        accepted.timed, accepted.timed_from = begun, accepted.receiver.come_bytes
        accepted.told_at = self._watch.clock()
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
        self._forget(accepted)
        accepted.channel.close()

    def _forget(self, accepted: _Accepted) -> None:
        """The connection concerns nobody here any more."""
        receiver = accepted.receiver
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
        self._cap.leave(accepted)
        self._watch.set(accepted, accepted.channel, 0)
        self._watch.remind(accepted, None)


def _origin(host: str) -> str:
    """What counts as one source: an IPv4 address, or a network of IPv6, in which one
    machine has as many addresses as it likes."""
    number = ipaddress.ip_address(host.partition("%")[0])
    if isinstance(number, ipaddress.IPv4Address):
        return str(number)
    if number.ipv4_mapped is not None:
        return str(number.ipv4_mapped)
    return str(ipaddress.IPv6Network((number, 64), strict=False))
