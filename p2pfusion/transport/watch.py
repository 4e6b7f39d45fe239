"""What can wake the data plane: its sockets, and instants at which something is due.

A ``Watch`` is a small reactor around one descriptor, the kernel's event queue. That is
readable whenever a watched socket is ready, so a larger loop can wait for it beside its
own. Every ready source gets bounded steps in turn, the one first that has waited
longest, until a budget is spent; the kernel reports the rest again. Nothing is read
ahead into this process, so what is left to do always shows at the descriptor.
"""

from __future__ import annotations

import heapq
import selectors
import socket
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

Key = TypeVar("Key")

READ, WRITE = selectors.EVENT_READ, selectors.EVENT_WRITE


@dataclass
class Budget:
    """Work that one turn may do: bytes moved, and messages handed over."""

    bytes_left: int
    messages_left: int

    @property
    def spent(self) -> bool:
        """Whether the rest has to wait for the next turn."""
        return self.bytes_left <= 0 or self.messages_left <= 0


class Source(Protocol):
    """What a watched socket, or a due instant, belongs to."""

    def ready(self, events: int, budget: Budget) -> bool:
        """Does one bounded step, and says whether another would find work at once."""
        ...

    def overdue(self) -> None:
        """The instant set with ``Watch.remind`` has come."""
        ...


class Deadlines(Generic[Key]):
    """At most one instant for each key; the earliest is found without a search."""

    def __init__(self) -> None:
        self._due: dict[Key, float] = {}
        self._heap: list[tuple[float, int, Key]] = []
        self._serial = 0

    def set(self, key: Key, when: float) -> None:
        """Replaces an earlier instant of ``key``."""
        self._due[key] = when
        # Two keys of one instant must not be compared, nor may they change places.
        self._serial += 1
        heapq.heappush(self._heap, (when, self._serial, key))
        if len(self._heap) > 2 * len(self._due) + 64:
            # Mostly what was replaced or cleared since.
            self._heap = [
                (when, serial, key)
                for serial, (key, when) in enumerate(self._due.items())
            ]
            heapq.heapify(self._heap)

    def clear(self, key: Key) -> None:
        """Nothing is due for ``key`` any more."""
        self._due.pop(key, None)

    def next(self) -> float | None:
        """The earliest instant."""
        while self._heap:
            when, _, key = self._heap[0]
            if self._due.get(key) == when:
                return when
            heapq.heappop(self._heap)
        return None

    def pop(self, now: float) -> Key | None:
        """Takes out the key whose instant came first, if it has come."""
        when = self.next()
        if when is None or when > now:
            return None
        _, _, key = heapq.heappop(self._heap)
        del self._due[key]
        return key


@dataclass(eq=False)
class _Watched:
    source: Source
    events: int
    served: int = 0


class Watch:
    """Sockets and instants, each with the source that it wakes."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.clock = clock
        self._selector = selectors.DefaultSelector()
        self._watched: dict[socket.socket, _Watched] = {}
        self._deadlines: Deadlines[Source] = Deadlines()
        self._turns = 0

    def fileno(self) -> int:
        """Readable while a watched socket is ready."""
        return self._selector.fileno()

    def deadline(self) -> float | None:
        """The earliest instant that ``remind`` has set."""
        return self._deadlines.next()

    def set(self, source: Source, channel: socket.socket, events: int) -> None:
        """From now on ``channel`` wakes ``source`` for these events; for 0, never.

        Repeating it costs nothing. Set 0 before the socket is closed.
        """
        watched = self._watched.get(channel)
        if watched is None:
            if events:
                self._watched[channel] = watched = _Watched(source, events)
                self._selector.register(channel, events, watched)
        elif not events:
            watched.events = 0
            del self._watched[channel]
            self._selector.unregister(channel)
        elif events != watched.events:
            watched.events = events
            self._selector.modify(channel, events, watched)

    def remind(self, source: Source, delay_s: float | None) -> None:
        """``source`` is due then, and not when it was before; for None, never."""
        if delay_s is None:
            self._deadlines.clear(source)
        else:
            self._deadlines.set(source, self.clock() + delay_s)

    def turn(self, budget: Budget, timeout_s: float = 0.0) -> None:
        """Waits that long for a ready source, and lets all of them do their steps."""
        ready = [(key.data, mask) for key, mask in self._selector.select(timeout_s)]
        ready.sort(key=_served)
        line: deque[tuple[_Watched, int]] = deque(ready)
        while line and not budget.spent:
            watched, events = line.popleft()
            events &= watched.events  # another's step may have ended its wait
            if not events:
                continue
            self._turns += 1
            watched.served = self._turns
            if watched.source.ready(events, budget):
                line.append((watched, events))
        now = self.clock()
        # One by one: what one does may call off what is due for another.
        while (source := self._deadlines.pop(now)) is not None:
            source.overdue()

    def close(self) -> None:
        """Frees the descriptor. The sockets belong to their sources."""
        self._selector.close()


def _served(pair: tuple[_Watched, int]) -> int:
    return pair[0].served
