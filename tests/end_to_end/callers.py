"""ZeroMQ sockets that call a daemon's control port, with whatever keys."""

from __future__ import annotations

import struct
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import zmq
from zmq.utils import z85

from p2pfusion.transport import Keys

PATIENCE_S = 240.0

LET_IN = zmq.EVENT_HANDSHAKE_SUCCEEDED
HUNG_UP_ON = zmq.EVENT_DISCONNECTED
SENT_AWAY = (
    zmq.EVENT_HANDSHAKE_FAILED_AUTH
    | zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL
    | zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL
)


class Caller:
    """A connection, and what becomes of it."""

    def __init__(
        self, context: zmq.Context[zmq.Socket[bytes]], port: int, *, keys: Keys | None
    ) -> None:
        self._socket = context.socket(zmq.PUSH)
        self._socket.set(zmq.LINGER, 0)
        if keys is not None:
            self._socket.set(zmq.CURVE_PUBLICKEY, keys.public)
            self._socket.set(zmq.CURVE_SECRETKEY, keys.secret)
        self._monitor = self._socket.get_monitor_socket()
        self._address = f"tcp://127.0.0.1:{port}"

    def call(self, frames: Sequence[bytes], *, key: bytes | None) -> None:
        """Connects to who must prove ``key`` (None: nothing), to send a message."""
        if key is not None:
            self._socket.set(zmq.CURVE_SERVERKEY, key)
        self._socket.connect(self._address)
        # Without a copy, so that a message may be longer than there is memory for.
        self._socket.send_multipart(frames, zmq.DONTWAIT, copy=False)

    def until(self, wanted: int) -> int:
        """Waits for one of these events; all that have come."""
        seen = 0
        deadline = time.monotonic() + PATIENCE_S
        while not seen & wanted:
            assert time.monotonic() < deadline, f"only {seen:b} happened"
            if self._monitor.poll(1_000):
                (number,) = struct.unpack_from("=H", self._monitor.recv_multipart()[0])
                seen |= number
        return seen

    def close(self) -> None:
        """Hangs up."""
        self._socket.disable_monitor()
        self._monitor.close(linger=0)
        self._socket.close(linger=0)


@contextmanager
def caller(port: int, keys: Keys | None) -> Iterator[Caller]:
    """Somebody with these keys, or none, who has not called yet."""
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    made = Caller(context, port, keys=keys)
    try:
        yield made
    finally:
        made.close()
        context.term()


def new_keys() -> Keys:
    """Keys that nobody knows."""
    public, secret = map(z85.decode, zmq.curve_keypair())
    return Keys(public, secret)
