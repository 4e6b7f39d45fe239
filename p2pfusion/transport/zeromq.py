"""Frames over ZeroMQ and TCP. The only file that imports pyzmq.

A peer binds one ROUTER per plane, which only receives, and owns one DEALER per remote
peer and plane, which only sends. A DEALER's routing id is its owner's peer id; a peer
that restarts takes its old connection over (``ROUTER_HANDOVER``). Every socket is made
in ``_socket``, with all its bounds; keys will be set there. Each plane has an I/O
thread of its own, and hosts that must be looked up have a third, because the look-up
blocks it. libzmq refuses frames over ``MAXMSGSIZE`` by closing the connection before it
allocates them; the sender connects again.
"""

from __future__ import annotations

import errno
import logging
import math
import socket as system
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import zmq

from p2pfusion import limits
from p2pfusion.errors import ConfigError, ConflictError, ResourceError
from p2pfusion.transport.base import (
    FRAME_LIMIT_BYTES,
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

LOG = logging.getLogger(__name__)

Socket = zmq.Socket[bytes]

KNOCK_MARK = " knock"
"""Ends the routing id of a knocking socket. Without it the ROUTER would take a knock
and the same peer's connection for each other's successor and close them in turn."""

SEND_QUEUE = {
    Plane.CONTROL: limits.CONTROL_SEND_QUEUE_MESSAGES,
    Plane.DATA: limits.DATA_SEND_QUEUE_MESSAGES,
}
RECEIVE_QUEUE = {
    Plane.CONTROL: limits.CONTROL_RECEIVE_QUEUE_MESSAGES,
    Plane.DATA: limits.DATA_RECEIVE_QUEUE_MESSAGES,
}
PER_POLL = {
    Plane.CONTROL: limits.MAX_CONTROL_MESSAGES_PER_POLL,
    Plane.DATA: limits.MAX_DATA_MESSAGES_PER_POLL,
}
IO_THREAD = {Plane.CONTROL: 0b001, Plane.DATA: 0b010}
NAMES_IO_THREAD = 0b100


@dataclass(frozen=True)
class _Link:
    """The two outgoing connections to one peer."""

    addresses: Mapping[Plane, Address]
    sockets: dict[Plane, Socket]


class ZeroMQTransport:
    """A ``Transport`` over TCP. ``ConflictError`` if an address is taken."""

    def __init__(self, peer: str, *, control: Address, data: Address) -> None:
        check_peer_id(peer)
        self.traffic = Traffic()
        self._peer = peer
        self._context = zmq.Context(io_threads=3)
        self._context.set(zmq.MAX_SOCKETS, 4 * limits.MAX_ROSTER)
        self._routers: dict[Plane, Socket] = {}
        self._links: dict[str, _Link] = {}
        self._knocks: dict[Address, Socket] = {}
        self._addresses: dict[Plane, Address] = {}
        try:
            self._listen(Plane.CONTROL, control)
            self._listen(Plane.DATA, data)
        except Exception:
            self.close()
            raise

    @property
    def addresses(self) -> Mapping[Plane, Address]:
        """Where this peer listens, with the port that was really bound."""
        return self._addresses

    def connect(self, peer: str, *, control: Address, data: Address) -> None:
        """Makes ``peer`` known; see ``Transport``. ``ResourceError`` if this process
        may open no more descriptors; ``peer`` is unknown then."""
        check_peer_id(peer)
        addresses = {Plane.CONTROL: control, Plane.DATA: data}
        link = self._links.get(peer)
        if link is not None and link.addresses == addresses:
            return
        self._drop_link(peer, linger_ms=0)
        link = self._links[peer] = _Link(addresses, {})
        try:
            for plane, address in addresses.items():
                dealer = self._dealer(plane, address, self._peer, SEND_QUEUE[plane])
                link.sockets[plane] = dealer
        except ResourceError:
            self._drop_link(peer, linger_ms=0)
            raise

    def disconnect(self, peer: str) -> None:
        """Forgets ``peer``; what waits for it still leaves if it can at once."""
        self._drop_link(peer, linger_ms=limits.CLOSE_LINGER_MS)

    def knock(self, address: Address, frames: Sequence[Frame]) -> None:
        """Sends a control message to whoever listens there; see ``Transport``."""
        check_outgoing(Plane.CONTROL, frames)
        knocker = self._knocks.pop(address, None)
        if knocker is None:
            if len(self._knocks) == limits.MAX_KNOCKS:
                self._knocks.pop(next(iter(self._knocks))).close(linger=0)
            name = self._peer + KNOCK_MARK
            queue = limits.KNOCK_QUEUE_MESSAGES
            knocker = self._dealer(Plane.CONTROL, address, name, queue)
        self._knocks[address] = knocker
        self._send(knocker, str(address), Plane.CONTROL, frames)

    def send(self, peer: str, plane: Plane, frames: Sequence[Frame]) -> bool:
        """Queues a message, or returns False; see ``Transport``."""
        check_outgoing(plane, frames)
        link = self._links.get(peer)
        if link is None:
            self.traffic.dropped["unknown peer"] += 1
            return False
        return self._send(link.sockets[plane], peer, plane, frames)

    def poll(
        self, timeout_s: float | None, descriptors: Mapping[int, int]
    ) -> tuple[list[Incoming], list[int]]:
        """Waits for messages or descriptors; see ``Transport``."""
        poller = zmq.Poller()
        for router in self._routers.values():
            poller.register(router, zmq.POLLIN)
        for descriptor, interest in descriptors.items():
            # The selectors module and ZeroMQ number reading and writing alike.
            poller.register(descriptor, interest)
        wait_s = bounded_wait_s(timeout_s)
        wait_ms = None if wait_s is None else math.ceil(wait_s * 1_000)
        ready = dict(poller.poll(wait_ms))
        incoming = [
            message
            for plane, router in self._routers.items()
            if router in ready
            for message in self._receive(plane, router)
        ]
        return incoming, [number for number in descriptors if number in ready]

    def close(self) -> None:
        """Lets the last messages leave for a bounded time and frees everything."""
        for peer in list(self._links):
            self._drop_link(peer, linger_ms=limits.CLOSE_LINGER_MS)
        for knocker in self._knocks.values():
            knocker.close(linger=0)
        for router in self._routers.values():
            router.close(linger=0)
        self._knocks.clear()
        self._routers.clear()
        self._context.term()

    def _listen(self, plane: Plane, address: Address) -> None:
        router = self._routers[plane] = self._socket(zmq.ROUTER, plane)
        router.set(zmq.AFFINITY, IO_THREAD[plane])
        router.set(zmq.RCVHWM, RECEIVE_QUEUE[plane])
        router.set(zmq.SNDHWM, 1)
        router.set(zmq.ROUTER_HANDOVER, 1)
        self._addresses[plane] = _bind(router, address)

    def _dealer(
        self, plane: Plane, address: Address, name: str, queue_messages: int
    ) -> Socket:
        dealer = self._socket(zmq.DEALER, plane)
        thread = IO_THREAD[plane] if address.is_literal else NAMES_IO_THREAD
        dealer.set(zmq.AFFINITY, thread)
        dealer.set(zmq.ROUTING_ID, name.encode())
        dealer.set(zmq.SNDHWM, queue_messages)
        dealer.set(zmq.RCVHWM, 1)
        dealer.set(zmq.IPV6, int(address.is_ipv6))
        try:
            dealer.connect(f"tcp://{address}")
        except zmq.ZMQError as error:
            # Its queue goes nowhere, exactly as with a host that never answers.
            LOG.warning("cannot connect to %s: %s", address, error)
        return dealer

    def _socket(self, kind: int, plane: Plane) -> Socket:
        """A socket with every bound set, whatever it is for."""
        try:
            made = self._context.socket(kind)
        except zmq.ZMQError as error:
            raise ResourceError(
                f"no more connections can be opened: {error}",
                hint="raise the limit of open files (ulimit -n) and start again",
            ) from error
        made.copy_threshold = limits.ZERO_COPY_BYTES
        made.set(zmq.MAXMSGSIZE, FRAME_LIMIT_BYTES[plane])
        made.set(zmq.LINGER, 0)
        made.set(zmq.RECONNECT_IVL, limits.RECONNECT_INTERVAL_MS)
        made.set(zmq.RECONNECT_IVL_MAX, limits.RECONNECT_CEILING_MS)
        made.set(zmq.CONNECT_TIMEOUT, limits.CONNECT_TIMEOUT_MS)
        made.set(zmq.HANDSHAKE_IVL, limits.HANDSHAKE_TIMEOUT_MS)
        made.set(zmq.TCP_KEEPALIVE, 1)
        made.set(zmq.TCP_KEEPALIVE_IDLE, limits.KEEPALIVE_IDLE_S)
        made.set(zmq.TCP_KEEPALIVE_INTVL, limits.KEEPALIVE_IDLE_S)
        made.set(zmq.TCP_MAXRT, limits.PEER_SILENCE_MS)
        if plane is Plane.CONTROL:
            # Not on the data plane: on a slow line the answer would wait behind bulk.
            made.set(zmq.HEARTBEAT_IVL, limits.HEARTBEAT_INTERVAL_MS)
            made.set(zmq.HEARTBEAT_TIMEOUT, limits.HEARTBEAT_TIMEOUT_MS)
        return made

    def _send(
        self, dealer: Socket, peer: str, plane: Plane, frames: Sequence[Frame]
    ) -> bool:
        copy = plane is Plane.CONTROL
        try:
            dealer.send_multipart(frames, zmq.DONTWAIT, copy=copy)
        except zmq.Again:
            # Sending looks for room that was given back only once in a millisecond;
            # polling looks now.
            if not dealer.poll(0, zmq.POLLOUT):
                self.traffic.dropped["queue full"] += 1
                return False
            dealer.send_multipart(frames, zmq.DONTWAIT, copy=copy)
        self.traffic.count_sent(plane, peer, size_bytes(frames))
        return True

    def _receive(self, plane: Plane, router: Socket) -> list[Incoming]:
        messages = []
        for _ in range(PER_POLL[plane]):
            try:
                name, *parts = router.recv_multipart(zmq.DONTWAIT, copy=False)
            except zmq.Again:
                break
            frames = tuple(
                part.buffer if plane is Plane.DATA else part.bytes for part in parts
            )
            message = self._accept(name.bytes, plane, frames)
            if message is not None:
                messages.append(message)
        return messages

    def _accept(
        self, name: bytes, plane: Plane, frames: tuple[Frame, ...]
    ) -> Incoming | None:
        sender = name.decode("ascii", errors="replace").removesuffix(KNOCK_MARK)
        reason = refusal(plane, frames)
        if not is_peer_id(sender):
            reason = "a sender without a proper id"
        if reason is not None:
            self.traffic.dropped[reason] += 1
            return None
        self.traffic.count_received(plane, sender, size_bytes(frames))
        return Incoming(sender, plane, frames)

    def _drop_link(self, peer: str, *, linger_ms: int) -> None:
        link = self._links.pop(peer, None)
        if link is not None:
            for dealer in link.sockets.values():
                dealer.close(linger=linger_ms)


def _bind(router: Socket, address: Address) -> Address:
    """Binds, and returns ``address`` with the real port."""
    number = _numeric(address)
    router.set(zmq.IPV6, int(number.is_ipv6))
    try:
        router.bind(f"tcp://{number}")
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
    endpoint = router.get_string(zmq.LAST_ENDPOINT)
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
