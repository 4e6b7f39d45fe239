"""Two connections joined to one: what comes in at either end goes out at the other.

Nothing is looked at, and little is held: an end is read only while what came from it
before has left, so a slow reader holds the writer back by TCP, through whatever lies
between. All splices together stay under the caps, in equal shares.
"""

from __future__ import annotations

import socket
from collections.abc import Callable

from p2pfusion.transport import bounds
from p2pfusion.transport.cap import Cap
from p2pfusion.transport.passage import hear
from p2pfusion.transport.watch import READ, WRITE, Budget, Watch


class Splice:
    """Owns both connections from now on, and closes them together."""

    def __init__(
        self,
        first: socket.socket,
        second: socket.socket,
        *,
        watch: Watch,
        up: Cap,
        down: Cap,
        moved: Callable[[int], None],
        closed: Callable[[Splice], None],
    ) -> None:
        """``moved`` is told of bytes that have gone through, ``closed`` of the end."""
        self.watch = watch
        self.up = up
        self.down = down
        self.moved = moved
        self._closed = closed
        self._ends = (_End(self, first), _End(self, second))
        for end, other in zip(self._ends, reversed(self._ends), strict=True):
            end.other = other
            end.look()

    def close(self) -> None:
        """Ends both connections; what has not left is lost. Once is enough."""
        if self._ends[0].is_closed:
            return
        for end in self._ends:
            end.close()
        self._closed(self)


class _End:
    """One of the connections: what comes from it, and what waits to leave by it."""

    other: _End

    def __init__(self, splice: Splice, channel: socket.socket) -> None:
        self.is_closed = False
        self._splice = splice
        self._channel = channel
        self._writer = _Writer(self)
        self._waiting = memoryview(b"")
        self._waits_to_read = self._waits_to_write = False

    def look(self) -> None:
        """Waits for what this end can do now."""
        reads = not self.other._waiting and not self._waits_to_read
        writes = bool(self._waiting) and not self._waits_to_write
        events = (READ if reads else 0) | (WRITE if writes else 0)
        self._splice.watch.set(self, self._channel, events)

    def ready(self, events: int, budget: Budget) -> bool:
        """Moves some of what waits here, or has come."""
        if events & WRITE and self._waiting:
            self.write()
        if events & READ and not self.is_closed and not self.other._waiting:
            budget.bytes_left -= self.read()
        return False

    def overdue(self) -> None:
        """Nothing is ever due."""

    def go(self, most: int) -> None:
        """Its turn to read has come, under the cap."""
        self._waits_to_read = False
        self._read(most)

    def read(self) -> int:
        """Takes in what has come, if there are tokens; how many bytes."""
        most = self._splice.down.ask(self)
        if not most:
            self._waits_to_read = True
            self.look()
            return 0
        return self._read(most)

    def _read(self, most: int) -> int:
        came = hear(self._channel, min(most, bounds.SPLICE_BYTES))
        if came is None:
            self.look()
            return 0
        if not came:
            # What has come before has left: nothing is read while anything waits.
            self._splice.close()
            return 0
        self._splice.down.spend(len(came))
        self.other._waiting = memoryview(came)
        self.other.write()
        return len(came)

    def write(self) -> None:
        """Lets out what waits, if there are tokens."""
        most = self._splice.up.ask(self._writer)
        if not most:
            self._waits_to_write = True
            self._both_look()
            return
        self.let_out(most)

    def let_out(self, most: int) -> None:
        """Lets out up to so many bytes."""
        self._waits_to_write = False
        try:
            count = self._channel.send(self._waiting[:most])
        except BlockingIOError:
            count = 0
        except OSError:
            self._splice.close()
            return
        self._splice.up.spend(count)
        self._waiting = self._waiting[count:]
        self._splice.moved(count)
        self._both_look()

    def _both_look(self) -> None:
        self.look()
        self.other.look()

    def close(self) -> None:
        self.is_closed = True
        self._splice.down.leave(self)
        self._splice.up.leave(self._writer)
        self._splice.watch.set(self, self._channel, 0)
        self._channel.close()


class _Writer:
    """An end in the line of those who wait to send."""

    def __init__(self, end: _End) -> None:
        self._end = end

    def go(self, most: int) -> None:
        """Its turn has come."""
        self._end.let_out(most)
