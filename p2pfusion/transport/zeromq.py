"""The sockets of the control plane: ZeroMQ over TCP. The only file that imports pyzmq.

A peer has one ``Listener`` (a PULL socket), which only receives, and one ``Outgoing``
(a PUSH socket) per remote peer, which only sends. With keys, every connection is
encrypted and authenticated by CURVE, and the listener asks about each key that was
proven to it. Without ("plain" mode, for loopback) a message's first frame says whose it
is. Not ROUTER and DEALER: a ROUTER numbers its connections, everybody can foretell the
next number and name a connection of its own so, and libzmq ends the process when it
finds the name taken.

What becomes of connections is told by monitors, whose queues have no bound, because a
full one would block all connections; they are short, because they are read whenever the
loop turns. Every socket is made in ``_socket``, with all its bounds. Hosts that must be
looked up have an I/O thread of their own, because the look-up blocks it. libzmq refuses
frames over ``MAXMSGSIZE`` by closing the connection before it allocates them.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import math
import socket as system
import struct
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from enum import Enum
from itertools import count

import zmq

from p2pfusion import limits
from p2pfusion.errors import ConfigError, ConflictError, ResourceError
from p2pfusion.transport import bounds
from p2pfusion.transport.base import Address, Frame, Keys
from p2pfusion.transport.zap import DOMAIN

LOG = logging.getLogger(__name__)

Context = zmq.Context[zmq.Socket[bytes]]
Socket = zmq.Socket[bytes]
Ready = Collection[object]
"""Sockets that have something to read."""

LEAST_VERSION = (4, 3, 2)
"""Earlier versions of libzmq let strangers write where they should not."""

READ = int(zmq.POLLIN)

IO_THREAD = 0b01
NAMES_IO_THREAD = 0b10

ZAP_ENDPOINT = "inproc://zeromq.zap.01"

_EVENT = struct.Struct("=Hi")
_numbers = count()


class Event(Enum):
    """What becomes of a connection. With the first two comes a descriptor."""

    BEGUN = zmq.EVENT_ACCEPTED
    ENDED = zmq.EVENT_DISCONNECTED
    CONNECTED = zmq.EVENT_CONNECTED
    RETRIED = zmq.EVENT_CONNECT_RETRIED
    READY = zmq.EVENT_HANDSHAKE_SUCCEEDED
    REFUSED = zmq.EVENT_HANDSHAKE_FAILED_AUTH
    UNFINISHED = zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL
    """The handshake broke off; with an error number."""


def open_context() -> Context:
    """Where the sockets of one control plane live; ``term`` it after the last one."""
    context: Context = zmq.Context(io_threads=2)
    context.set(zmq.MAX_SOCKETS, 4 * limits.MAX_ROSTER)
    return context


def check_library() -> None:
    """``ConfigError`` unless the installed libzmq can encrypt and is safe to use."""
    if zmq.has("curve") and zmq.zmq_version_info() >= LEAST_VERSION:
        return
    raise ConfigError(
        f"libzmq {zmq.zmq_version()} here cannot encrypt connections safely",
        hint="install pyzmq from a wheel, or build it with libsodium and newer libzmq",
    )


class Message:
    """A message that arrived, and what the library knows about its connection."""

    def __init__(self, parts: Sequence[zmq.Frame]) -> None:
        self._first = parts[0]
        self.frames = tuple(memoryview(part.buffer) for part in parts)
        """The frames, in ZeroMQ's memory."""

    @property
    def descriptor(self) -> int:
        """Its connection, which may be closed by now; -1 if unknown."""
        with contextlib.suppress(zmq.ZMQError):
            return int(self._first.get(zmq.SRCFD))
        return -1

    @property
    def user(self) -> str:
        """The user id under which its connection was let in; empty without."""
        return self._property("User-Id")

    @property
    def host(self) -> str:
        """Where it came from; empty if unknown."""
        return self._property("Peer-Address")

    def _property(self, name: str) -> str:
        with contextlib.suppress(zmq.ZMQError):
            return str(self._first.get(name))
        return ""


class Listener:
    """Accepts connections and receives messages."""

    def __init__(self, context: Context, address: Address, keys: Keys | None) -> None:
        """``ConflictError`` if the address is taken, ``ConfigError`` if it cannot be
        listened on."""
        self._pull = pull = _socket(context, zmq.PULL)
        self._zap: Socket | None = None
        self._accepted: _Monitor | None = None
        try:
            pull.set(zmq.AFFINITY, IO_THREAD)
            pull.set(zmq.RCVHWM, bounds.CONTROL_RECEIVE_QUEUE_MESSAGES)
            pull.set(zmq.RCVBUF, limits.CONTROL_BUFFER_BYTES)
            if keys is not None:
                self._zap = _socket(context, zmq.ROUTER)
                self._zap.bind(ZAP_ENDPOINT)
                pull.set(zmq.CURVE_SERVER, 1)
                pull.set(zmq.CURVE_SECRETKEY, keys.secret)
                pull.set(zmq.ZAP_DOMAIN, DOMAIN)
                pull.set(zmq.ZAP_ENFORCE_DOMAIN, 1)
            self._accepted = _Monitor(context, pull, (Event.BEGUN, Event.ENDED))
            self.address = _bind(pull, address)
        except Exception:
            self.close()
            raise

    @property
    def waits_for(self) -> list[Socket]:
        """Sockets that become readable when there is something to do."""
        monitor = [] if self._accepted is None else [self._accepted.socket]
        return [self._pull, *monitor, *([] if self._zap is None else [self._zap])]

    def has_connections(self, ready: Ready) -> bool:
        """Whether there is news of connections."""
        return self._accepted is not None and self._accepted.socket in ready

    def has_questions(self, ready: Ready) -> bool:
        """Whether the library asks something."""
        return self._zap in ready

    def has_messages(self, ready: Ready) -> bool:
        """Whether something has arrived."""
        return self._pull in ready

    def connections(self) -> Iterator[tuple[Event, int]]:
        """Connections begun and ended, with their descriptors."""
        return iter(()) if self._accepted is None else self._accepted.take()

    def questions(self) -> Iterator[list[bytes]]:
        """What the library asks about proven keys: ZAP requests."""
        for _ in range(bounds.MAX_SOCKET_EVENTS_PER_POLL):
            if self._zap is None or not (frames := _receive(self._zap)):
                return
            yield [frame.bytes for frame in frames]

    def answer(self, frames: Sequence[bytes]) -> None:
        """Answers such a question. Nobody may be waiting for it any more."""
        if self._zap is not None:
            with contextlib.suppress(zmq.Again):
                self._zap.send_multipart(frames, zmq.DONTWAIT)

    def messages(self) -> Iterator[Message]:
        """What has arrived, connections in turn."""
        while frames := _receive(self._pull):
            yield Message(frames)

    def close(self) -> None:
        """Stops listening; what arrived is lost."""
        if self._accepted is not None:
            self._accepted.close()
        self._pull.close(linger=0)
        if self._zap is not None:
            self._zap.close(linger=0)


class Outgoing:
    """A connection that only sends. Repairs itself, except when it was refused."""

    def __init__(
        self,
        context: Context,
        address: Address,
        *,
        key: bytes,
        own: Keys | None,
        queue_messages: int,
        handshake_ms: int,
        events: Iterable[Event],
    ) -> None:
        """``key`` is what the other side must prove, ``own`` what it is proven.

        ``ResourceError`` if there are no descriptors left."""
        self._push = push = _socket(context, zmq.PUSH)
        thread = IO_THREAD if address.is_literal else NAMES_IO_THREAD
        push.set(zmq.AFFINITY, thread)
        push.set(zmq.SNDHWM, queue_messages)
        push.set(zmq.HANDSHAKE_IVL, handshake_ms)
        push.set(zmq.IPV6, int(address.is_ipv6))
        if own is not None:
            push.set(zmq.CURVE_SERVERKEY, key)
            push.set(zmq.CURVE_PUBLICKEY, own.public)
            push.set(zmq.CURVE_SECRETKEY, own.secret)
        try:
            self._monitor = _Monitor(context, push, events)
        except ResourceError:
            push.close()
            raise
        try:
            push.connect(f"tcp://{address}")
        except zmq.ZMQError as error:
            # Its queue goes nowhere, exactly as with a host that never answers.
            LOG.warning("cannot connect to %s: %s", address, error)

    @property
    def waits_for(self) -> list[Socket]:
        """Sockets that become readable when there is something to do."""
        return [self._monitor.socket]

    def events(self) -> Iterator[tuple[Event, int]]:
        """What became of the connection since the last call."""
        return self._monitor.take()

    def send(self, frames: Sequence[Frame]) -> bool:
        """Queues a message, or returns False if the queue is full."""
        try:
            self._push.send_multipart(frames, zmq.DONTWAIT)
        except zmq.Again:
            # Sending looks for room that was given back only once in a millisecond;
            # polling looks now.
            if not self._push.poll(0, zmq.POLLOUT):
                return False
            self._push.send_multipart(frames, zmq.DONTWAIT)
        return True

    def close(self, *, linger_ms: int) -> None:
        """Closes; for so long, what waits may still leave."""
        self._monitor.close()
        self._push.close(linger=linger_ms)


class _Monitor:
    """Reads the events of a socket. Close it before the socket."""

    def __init__(
        self, context: Context, watched: Socket, events: Iterable[Event]
    ) -> None:
        self._watched = watched
        self.socket = _socket(context, zmq.PAIR)
        self.socket.set(zmq.RCVHWM, 0)
        endpoint = f"inproc://events-{next(_numbers)}"
        try:
            watched.monitor(endpoint, sum(event.value for event in events))
            self.socket.connect(endpoint)
        except zmq.ZMQError as error:
            self.socket.close()
            raise _no_more(error) from error

    def take(self) -> Iterator[tuple[Event, int]]:
        """Events in their order, with their values."""
        for _ in range(bounds.MAX_SOCKET_EVENTS_PER_POLL):
            if not (frames := _receive(self.socket)):
                return
            number, value = _EVENT.unpack(frames[0].bytes)
            yield Event(number), value

    def close(self) -> None:
        # In this order: an I/O thread would wait for ever for a reader that has gone.
        self._watched.disable_monitor()
        self.socket.close(linger=0)


def wait(
    sockets: Iterable[Socket], descriptors: Mapping[int, int], wait_s: float | None
) -> tuple[Ready, list[int]]:
    """Waits until one is readable or the time is over; the sockets that are, and the
    ready descriptors."""
    # The selectors module and ZeroMQ number reading and writing alike.
    waits_for = [*((socket, READ) for socket in sockets), *descriptors.items()]
    wait_ms = -1 if wait_s is None else math.ceil(wait_s * 1_000)
    # Of descriptors only its documentation knows.
    ready = {one for one, _ in zmq.zmq_poll(waits_for, wait_ms)}  # type: ignore[arg-type]
    numbers = [number for number in descriptors if number in ready]
    return ready.difference(numbers), numbers


def _socket(context: Context, kind: int) -> Socket:
    """A socket with every bound set, whatever it is for."""
    try:
        made = context.socket(kind)
    except zmq.ZMQError as error:
        raise _no_more(error) from error
    # What sealing adds counts; without it, the message is refused when it is read.
    made.set(zmq.MAXMSGSIZE, limits.MAX_CONTROL_FRAME_BYTES + limits.SEAL_BYTES)
    made.set(zmq.LINGER, 0)
    made.set(zmq.RECONNECT_IVL, bounds.RECONNECT_INTERVAL_MS)
    made.set(zmq.RECONNECT_IVL_MAX, bounds.RECONNECT_CEILING_MS)
    made.set(zmq.CONNECT_TIMEOUT, bounds.CONNECT_TIMEOUT_MS)
    made.set(zmq.HANDSHAKE_IVL, bounds.HANDSHAKE_TIMEOUT_MS)
    made.set(zmq.TCP_KEEPALIVE, 1)
    made.set(zmq.TCP_KEEPALIVE_IDLE, bounds.KEEPALIVE_IDLE_S)
    made.set(zmq.TCP_KEEPALIVE_INTVL, bounds.KEEPALIVE_IDLE_S)
    made.set(zmq.TCP_KEEPALIVE_CNT, bounds.KEEPALIVE_PROBES)
    # The kernel asks, not the library (HEARTBEAT_IVL): libzmq ends the process when a
    # heartbeat falls due on a connection that broke while its queue here was full.
    made.set(zmq.TCP_MAXRT, bounds.PEER_SILENCE_MS)
    return made


def _no_more(error: zmq.ZMQError) -> ResourceError:
    return ResourceError(
        f"no more connections can be opened: {error}",
        hint="raise the limit of open files (ulimit -n) and start again",
    )


def _receive(socket: Socket) -> Sequence[zmq.Frame]:
    """The frames of the next message; none if there is no message."""
    # Asked first: the library says so far more cheaply than it raises.
    if not int(socket.get(zmq.EVENTS)) & READ:
        return ()
    try:
        return socket.recv_multipart(zmq.DONTWAIT, copy=False)
    except zmq.Again:
        return ()


def _bind(pull: Socket, address: Address) -> Address:
    """Binds, and returns ``address`` with the real port."""
    number = _numeric(address)
    pull.set(zmq.IPV6, int(number.is_ipv6))
    try:
        pull.bind(f"tcp://{number}")
    except zmq.ZMQError as error:
        if error.errno == errno.EADDRINUSE:
            raise ConflictError(
                f"port {address.port} on {address.host} is in use",
                hint="stop the program that uses it, or choose another with --listen",
            ) from error
        raise ConfigError(
            f"cannot listen on {address}: {error}",
            hint="listen on an address of this machine and a port above 1023",
        ) from error
    endpoint = pull.get_string(zmq.LAST_ENDPOINT)
    return Address(address.host, int(endpoint.rpartition(":")[2].rstrip("\0")))


def _numeric(address: Address) -> Address:
    """ZeroMQ binds to numbers only."""
    if address.is_literal:
        return address
    try:
        found = system.getaddrinfo(address.host, 0, type=system.SOCK_STREAM)
    except OSError as error:
        raise ConfigError(
            f"cannot listen on {address}: the name {address.host} is unknown",
            hint="listen on 0.0.0.0 for every interface of this machine",
        ) from error
    return Address(str(found[0][4][0]), address.port)
