"""The data plane's way to one peer: a queue, and a connection when one is needed.

A link connects when something is to be sent. A connection that breaks takes with it
what the kernel had, and the message of which a part had left; the rest of the queue
goes out over the next one. Between attempts the link rests, longer each time, until a
connection has held for as long as the longest rest: one that is accepted only to be
closed, as by a peer that does not know the session yet, is no success.
"""

from __future__ import annotations

import random
import socket
from collections.abc import Sequence

from p2pfusion import limits
from p2pfusion.transport import bounds
from p2pfusion.transport.asking import BANNER_LIMIT_BYTES
from p2pfusion.transport.base import Address, Frame, Traffic
from p2pfusion.transport.cap import Cap
from p2pfusion.transport.connection import SendQueue, abort, unacknowledged_bytes
from p2pfusion.transport.dialing import Dial, Resolver
from p2pfusion.transport.gate import Way
from p2pfusion.transport.passage import Opening
from p2pfusion.transport.watch import READ, WRITE, Budget, Watch


class Link:
    """Sends to one peer at one address."""

    def __init__(
        self,
        address: Address,
        *,
        watch: Watch,
        resolver: Resolver,
        traffic: Traffic,
        cap: Cap,
        relay: str = "",
        way: Way | None = None,
    ) -> None:
        """``cap``: what all links together may send. ``way``: how it gets connections,
        through the peer ``relay``; else it dials the address."""
        self.place = (address, relay)
        self._way = way
        self._cap = cap
        self._watch = watch
        self._resolver = resolver
        self._traffic = traffic
        self._queue = SendQueue()
        self._dial: Opening | None = None
        self._channel: socket.socket | None = None
        self._connected_at = 0.0
        self._banner_bytes = 0
        self._resting = False
        self._rest_ms = bounds.RECONNECT_INTERVAL_MS

    @property
    def is_leaving(self) -> bool:
        """Whether something waits that may leave soon."""
        return bool(self._queue) and not self._resting

    @property
    def waiting(self) -> int:
        """How many messages have not left for the kernel, or not whole."""
        return len(self._queue)

    @property
    def under_way(self) -> int:
        """How many messages wait, or are not acknowledged by the peer's kernel."""
        channel = self._channel
        has_not = 0 if channel is None else unacknowledged_bytes(channel)
        return self._queue.under_way(has_not)

    def post(self, token: bytes, frames: Sequence[Frame]) -> bool:
        """Queues a message and sends what can leave at once; False if full."""
        if self._queue.is_full:
            return False
        was_empty = not self._queue
        self._queue.add(token, frames)
        if self._channel is None:
            self._call()
        elif was_empty:  # otherwise the kernel had no room a moment ago
            self._write(self._channel)
        return True

    def ready(self, events: int, budget: Budget) -> bool:
        """Notices that the peer has hung up, and sends what waits."""
        if events & READ and self._channel is not None:
            self._listen(self._channel)
        if events & WRITE and self._channel is not None:
            budget.bytes_left -= self._write(self._channel)
        return False

    def go(self, most: int) -> None:
        """Its turn has come, under the cap."""
        if self._channel is not None and self._queue:
            self._hand_over(self._channel, most)

    def overdue(self) -> None:
        """Rested enough."""
        self._resting = False
        if self._queue:
            self._call()

    def restart(self) -> None:
        """Drops the connection and what waits, and would connect again at once."""
        self._hang_up()
        self._queue.clear()
        self._resting = False
        self._rest_ms = bounds.RECONNECT_INTERVAL_MS
        self._watch.remind(self, None)

    def close(self, *, deliver: bool) -> None:
        """Ends it. ``deliver``: what the kernel takes at once still leaves; otherwise
        not even what it has."""
        if deliver and self._channel is not None:
            # What is unread when a socket closes makes the kernel drop what is unsent.
            self._listen(self._channel)
        while deliver and self._channel is not None and self._write(self._channel):
            pass
        self._hang_up(at_once=not deliver)
        self._queue.clear()
        self._watch.remind(self, None)

    def _call(self) -> None:
        if self._dial is None and not self._resting:
            self._dial = self._opening()
            self._dial.start()

    def _opening(self) -> Opening:
        if self._way is not None:
            return self._way(self._connected, self._rest)
        return Dial(
            self.place[0],
            watch=self._watch,
            resolver=self._resolver,
            connected=self._connected,
            failed=self._rest,
        )

    def _connected(self, channel: socket.socket) -> None:
        self._dial = None
        self._channel = channel
        self._connected_at = self._watch.clock()
        self._banner_bytes = 0
        self._write(channel)

    def _listen(self, channel: socket.socket) -> None:
        """The other side says nothing here but a banner, which is of no interest."""
        try:
            count = len(channel.recv(BANNER_LIMIT_BYTES + 1))
        except BlockingIOError:
            return
        except OSError:
            count = 0
        self._banner_bytes += count
        if not count or self._banner_bytes > BANNER_LIMIT_BYTES:
            self._lose()

    def _write(self, channel: socket.socket) -> int:
        """Sends what may leave now; how many bytes."""
        most = self._cap.ask(self) if self._queue else 0
        if not most:
            # Nothing waits, or it waits for its turn: that the kernel has room is no
            # news then.
            self._watch.set(self, channel, READ)
            return 0
        return self._hand_over(channel, most)

    def _hand_over(self, channel: socket.socket, most: int) -> int:
        try:
            count = self._queue.write(channel, min(most, limits.DATA_WRITE_BYTES))
        except OSError:
            self._lose()
            return 0
        self._cap.spend(count)
        self._watch.set(self, channel, READ | WRITE if self._queue else READ)
        return count

    def _lose(self) -> None:
        held_s = self._watch.clock() - self._connected_at
        if held_s * 1_000 >= bounds.RECONNECT_CEILING_MS:
            self._rest_ms = bounds.RECONNECT_INTERVAL_MS
        self._hang_up()
        self._rest()

    def _rest(self) -> None:
        self._dial = None
        self._resting = True
        # Not to the millisecond, or all peers of one that is back come at once.
        self._watch.remind(self, self._rest_ms * random.uniform(0.5, 1.0) / 1_000)
        self._rest_ms = min(2 * self._rest_ms, bounds.RECONNECT_CEILING_MS)

    def _hang_up(self, *, at_once: bool = False) -> None:
        self._cap.leave(self)
        if self._dial is not None:
            self._dial.cancel()
            self._dial = None
        if self._channel is not None:
            self._watch.set(self, self._channel, 0)
            if at_once:
                abort(self._channel)
            else:
                self._channel.close()
            self._channel = None
        if self._queue.cut():
            self._traffic.dropped["cut off"] += 1
