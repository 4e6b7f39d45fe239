"""Caps: how many bytes per second the data plane moves, in each direction.

A bucket of tokens, one for each byte, fills at the cap's rate. Who finds too few in it
stands in line and is called when its turn comes, with a quantum each time. So all who
have something to move get equal shares, however much each has and however slow its
other side is, and nobody asks again and again.
"""

from __future__ import annotations

from typing import Protocol

from p2pfusion.transport import bounds
from p2pfusion.transport.watch import Budget, Watch

UNCAPPED = 1 << 62
"""Bytes that may move where there is no cap."""

SHORTEST_WAIT_S = 0.001
"""A shorter one could be no time at all, by a clock that has run for long."""


class Bucket:
    """Tokens at a steady rate, up to a burst. Instants are of any one steady clock."""

    def __init__(self, bytes_per_s: float, now: float) -> None:
        """It begins full."""
        share = int(bytes_per_s / bounds.CAP_QUANTA_PER_S)
        self.quantum_bytes = min(
            max(share, bounds.CAP_QUANTUM_BYTES), bounds.CAP_QUANTUM_CEILING_BYTES
        )
        """What moves at once."""
        burst = int(bytes_per_s * bounds.CAP_BURST_MS / 1_000)
        self.burst_bytes = max(burst, 2 * self.quantum_bytes)
        """What moves in a moment after a pause."""
        self._bytes_per_s = bytes_per_s
        self._level = float(self.burst_bytes)
        self._filled_at = now

    def wait_s(self, now: float) -> float:
        """Until there is a quantum, but for less than a byte; 0 if there is one."""
        self._fill(now)
        lacking = self.quantum_bytes - self._level
        return (
            max(lacking / self._bytes_per_s, SHORTEST_WAIT_S) if lacking >= 1 else 0.0
        )

    def take(self, count: int, now: float) -> None:
        """So many bytes have moved."""
        self._fill(now)
        self._level -= count

    def _fill(self, now: float) -> None:
        earned = (now - self._filled_at) * self._bytes_per_s
        self._level = min(self._level + earned, float(self.burst_bytes))
        self._filled_at = now


class User(Protocol):
    """What moves bytes under a cap."""

    def go(self, most: int) -> None:
        """Moves up to so many bytes now, and tells the cap how many they were."""
        ...


class Cap:
    """One direction's cap, and the line of those who wait for tokens."""

    def __init__(self, watch: Watch, bytes_per_s: float | None) -> None:
        """``bytes_per_s`` None: no cap."""
        self._watch = watch
        self._bucket = (
            None if bytes_per_s is None else Bucket(bytes_per_s, watch.clock())
        )
        self._line: dict[User, None] = {}

    @property
    def line(self) -> list[User]:
        """Who waits, the next one first."""
        return list(self._line)

    def ask(self, user: User) -> int:
        """How many bytes it may move now; 0: it waits in line, and ``go`` comes."""
        if self._bucket is None:
            return UNCAPPED
        if not self._line and not self._bucket.wait_s(self._watch.clock()):
            return self._bucket.quantum_bytes
        self._line[user] = None
        self._remind()
        return 0

    def spend(self, count: int) -> None:
        """So many bytes have moved."""
        if self._bucket is not None:
            self._bucket.take(count, self._watch.clock())

    def leave(self, user: User) -> None:
        """It has nothing to move any more."""
        self._line.pop(user, None)

    def ready(self, events: int, budget: Budget) -> bool:
        """There is no socket of its own."""
        return False

    def overdue(self) -> None:
        """There are tokens: who waits has its turn, in order."""
        assert self._bucket is not None
        while self._line and not self._bucket.wait_s(self._watch.clock()):
            user = next(iter(self._line))
            del self._line[user]
            user.go(self._bucket.quantum_bytes)
        self._remind()

    def _remind(self) -> None:
        assert self._bucket is not None
        wait_s = self._bucket.wait_s(self._watch.clock()) if self._line else None
        self._watch.remind(self, wait_s)
