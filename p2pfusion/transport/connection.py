"""One connection of the data plane: messages in a stream of bytes, both directions.

A message is a prefix (``PREFIX``: the session's token, the lengths of head and payload)
and the two frames. The receiving side looks at the prefix before anything else: an
unknown token or a length out of bounds ends the connection, and only then is a buffer
needed. It never reads beyond the message at hand, so what is left shows as a readable
socket. The sending side gathers frames from where they lie. No payload is copied here.
"""

from __future__ import annotations

import fcntl
import socket
import struct
import sys
import termios
from bisect import bisect_right
from collections import deque
from collections.abc import Callable, Iterator, Sequence

from p2pfusion import limits
from p2pfusion.errors import RemoteProtocolError
from p2pfusion.transport import bounds
from p2pfusion.transport.base import FRAME_LIMITS_BYTES, TOKEN_BYTES, Frame, Plane
from p2pfusion.transport.watch import Budget

PREFIX = struct.Struct(f"<{TOKEN_BYTES}sII")
"""Token, bytes of the head, bytes of the payload or 0."""

_COUNT = struct.Struct("i")

WISHES = range(0xFFFF_FFF0, 0xFFFF_FFF3)
"""Lengths of a head that are none, but say what a passage is wanted for."""

HEAD_LIMIT_BYTES, PAYLOAD_LIMIT_BYTES = FRAME_LIMITS_BYTES[Plane.DATA]

Frames = tuple[memoryview, ...]


def prepare(channel: socket.socket) -> None:
    """Options of every connection. Buffer sizes are the kernel's: it adapts them to the
    line."""
    channel.setblocking(False)
    channel.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    channel.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    idle_s = bounds.KEEPALIVE_IDLE_S
    if sys.platform == "linux":
        channel.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, idle_s)
        channel.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, idle_s)
        silence_ms = bounds.PEER_SILENCE_MS
        channel.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, silence_ms)


def unacknowledged_bytes(channel: socket.socket) -> int:
    """Of what the kernel has taken, how much the other side's has not acknowledged; 0
    where this kernel does not say."""
    room = bytearray(_COUNT.size)
    try:
        fcntl.ioctl(channel, termios.TIOCOUTQ, room)
    except OSError:
        return 0
    return int(_COUNT.unpack(room)[0])


def abort(channel: socket.socket) -> None:
    """Closes at once: what the kernel still holds does not leave any more."""
    now = struct.pack("ii", 1, 0)
    channel.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, now)
    channel.close()


class BufferPool:
    """Receive buffers for one message each; made when first needed, then reused.

    What was handed over is lent until the next ``reclaim``. The buffer that came back
    last goes out first: the processor may still have it in its cache.
    """

    def __init__(self) -> None:
        self._free: list[memoryview] = []
        self._lent: list[memoryview] = []
        self._made = 0

    @property
    def has_any(self) -> bool:
        """Whether a buffer is free, or will be after the next ``reclaim``."""
        return bool(self._free or self._lent)

    def take(self) -> memoryview | None:
        """A buffer with room for the largest message, or None if all are in use."""
        if self._free:
            return self._free.pop()
        if self._made == limits.DATA_BUFFERS:
            return None
        self._made += 1
        return memoryview(bytearray(HEAD_LIMIT_BYTES + PAYLOAD_LIMIT_BYTES))

    def give(self, buffer: memoryview) -> None:
        """Takes a buffer back."""
        self._free.append(buffer)

    def lend(self, buffer: memoryview) -> None:
        """Takes a buffer back with the next ``reclaim``."""
        self._lent.append(buffer)

    def reclaim(self) -> None:
        """Ends the validity of what was lent."""
        self._free += self._lent
        self._lent.clear()


class Receiver:
    """The receiving end: messages of one session from one socket."""

    def __init__(self, channel: socket.socket, known: Callable[[bytes], bool]) -> None:
        """``known``: whether a token names a session."""
        self.token: bytes | None = None
        """The session, once the first prefix has named it."""
        self.wish: tuple[bytes, int, int] | None = None
        """Token, wish and length of what follows, if this is to become a passage."""
        self.ended = False
        """Whether the other side has hung up."""
        self.buffer: memoryview | None = None
        """Where the message at hand is read to; set it when ``hungry``."""
        self._channel = channel
        self._known = known
        self._prefix = memoryview(bytearray(PREFIX.size))
        self._sizes: tuple[int, int] | None = None
        self._filled = 0
        self.come_bytes = 0
        """All that has ever come."""

    @property
    def begun(self) -> bool:
        """Whether a part of a message has arrived."""
        return self._filled > 0 or self._sizes is not None

    @property
    def hungry(self) -> bool:
        """Whether a message cannot go on without a buffer."""
        return self._sizes is not None and self.buffer is None

    def receive(self, budget: Budget) -> Frames | None:
        """The next message, as views of ``buffer``, which is the caller's from then on;
        None if it cannot be had now.

        ``RemoteProtocolError`` if the stream cannot be continued.
        """
        if self._sizes is None:
            self._filled = self._fill(self._prefix, self._filled, budget)
            if self._filled < PREFIX.size:
                return None
            self._filled, self._sizes = 0, self._read_prefix()
            if self._sizes is None:
                return None
        if self.buffer is None:
            return None
        head_bytes, payload_bytes = self._sizes
        # The head ends where every payload begins, so that payloads are aligned.
        first = HEAD_LIMIT_BYTES - head_bytes
        body = self.buffer[first : HEAD_LIMIT_BYTES + payload_bytes]
        self._filled = self._fill(body, self._filled, budget)
        if self._filled < len(body):
            return None
        self._sizes, self._filled = None, 0
        head = body[:head_bytes]
        return (head, body[head_bytes:]) if payload_bytes else (head,)

    def _read_prefix(self) -> tuple[int, int] | None:
        """The lengths of head and payload; None where a passage begins."""
        token, head_bytes, payload_bytes = PREFIX.unpack(self._prefix)
        if self.token is None:
            if head_bytes in WISHES:
                self.wish = (token, head_bytes, payload_bytes)
                return None
            if not self._known(token):
                raise RemoteProtocolError("an unknown token")
            self.token = token
        elif token != self.token:
            raise RemoteProtocolError("another session's token")
        if head_bytes > HEAD_LIMIT_BYTES or payload_bytes > PAYLOAD_LIMIT_BYTES:
            raise RemoteProtocolError("an oversized frame")
        return head_bytes, payload_bytes

    def _fill(self, view: memoryview, filled: int, budget: Budget) -> int:
        """Reads until ``view`` is full, nothing is there, or the budget's bytes are
        spent; how much it now has."""
        size = len(view)
        while filled < size and budget.bytes_left > 0:
            try:
                end = filled + budget.bytes_left
                count = self._channel.recv_into(view[filled:end])
            except BlockingIOError:
                break
            except OSError:
                count = 0
            if not count:
                self.ended = True
                break
            filled += count
            self.come_bytes += count
            budget.bytes_left -= count
        return filled

    @property
    def is_behind(self) -> bool:
        """Whether bytes lie in the kernel that nobody here has read."""
        try:
            return bool(self._channel.recv(1, socket.MSG_PEEK))
        except OSError:
            return False


class SendQueue:
    """The sending end: messages that wait, and how far the first of them has left."""

    def __init__(self) -> None:
        self._messages: deque[list[memoryview]] = deque()
        self._waiting_bytes = 0
        self._first_has_begun = False
        self._left_bytes = 0
        """All that the present connection has taken."""
        self._ends: deque[int] = deque(maxlen=bounds.REMEMBERED_MESSAGES)
        """Where in it the last whole messages end."""

    def __len__(self) -> int:
        return len(self._messages)

    @property
    def is_full(self) -> bool:
        """Whether another message has to wait outside. The last one may be longer than
        the room that there was."""
        return (
            len(self._messages) >= bounds.DATA_SEND_QUEUE_MESSAGES
            or self._waiting_bytes >= limits.DATA_SEND_BYTES
        )

    def add(self, token: bytes, frames: Sequence[Frame]) -> None:
        """Appends a message of one or two frames, which must not change from now on."""
        parts = [memoryview(frame).cast("B") for frame in frames]
        sizes = [len(part) for part in parts]
        prefix = PREFIX.pack(token, sizes[0], sum(sizes[1:]))
        self._messages.append([memoryview(prefix), *(part for part in parts if part)])
        self._waiting_bytes += len(prefix) + sum(sizes)

    def under_way(self, unacknowledged: int) -> int:
        """How many messages wait, or have left and are among the last so many bytes."""
        here = self._left_bytes - unacknowledged
        return len(self) + len(self._ends) - bisect_right(self._ends, here)

    def write(self, channel: socket.socket, most: int = limits.DATA_WRITE_BYTES) -> int:
        """Hands to the kernel what it takes now, up to so many bytes; how many.

        ``OSError`` if the connection is broken.
        """
        parts = list(self._first(most))
        try:
            count = channel.sendmsg(parts)
        except BlockingIOError:
            return 0
        self._leave(count)
        return count

    def _first(self, most: int) -> Iterator[memoryview]:
        """The first bytes that wait, from where they lie."""
        for message in self._messages:
            for part in message:
                yield part[:most]
                most -= min(most, len(part))
                if not most:
                    return

    def cut(self) -> bool:
        """The connection is gone, and with it what was under way. Drops the first
        message if a part of it has left: on the next one the rest would be noise.
        Whether there was one."""
        self._left_bytes = 0
        self._ends.clear()
        was_cut = self._first_has_begun
        if was_cut:
            self._waiting_bytes -= sum(map(len, self._messages.popleft()))
            self._first_has_begun = False
        return was_cut

    def clear(self) -> None:
        """Drops everything."""
        self._messages.clear()
        self._waiting_bytes = 0
        self._first_has_begun = False

    def _leave(self, count: int) -> None:
        self._waiting_bytes -= count
        end = self._left_bytes = self._left_bytes + count
        while count:
            message = self._messages[0]
            part = message[0]
            if count < len(part):
                message[0] = part[count:]
                self._first_has_begun = True
                return
            count -= len(part)
            del message[0]
            self._first_has_begun = bool(message)
            if not message:
                self._messages.popleft()
                self._ends.append(end - count)
