"""How long to wait for the others: the adaptive deadline.

A round's deadline is the median of how late other peers' offers came after the own one
in recent rounds, plus some median absolute deviations, between a minimum and a maximum.
Nothing but the monotonic clock enters.
"""

from __future__ import annotations

import statistics
from collections import deque
from dataclasses import dataclass

HISTORY = 64
"""Offers remembered: some rounds of a small swarm, one of a large one."""


class Lateness:
    """Recent delays between the own offer and others', in seconds."""

    def __init__(self, *, minimum_s: float, maximum_s: float, mads: float) -> None:
        self._minimum_s = minimum_s
        self.maximum_s = maximum_s
        self._mads = mads
        self._recent: deque[float] = deque(maxlen=HISTORY)

    def note(self, delay_s: float) -> None:
        """One offer came so long after the own one; earlier ones count as 0."""
        self._recent.append(max(0.0, delay_s))

    def wait_s(self) -> float:
        """How long after the own offer a missing one is still waited for."""
        if not self._recent:
            return self.maximum_s
        median = statistics.median(self._recent)
        mad = statistics.median(abs(delay - median) for delay in self._recent)
        wait = median + self._mads * mad
        return min(self.maximum_s, max(self._minimum_s, wait))


@dataclass(frozen=True)
class Pace:
    """What the manifest says of waiting and of sizes on the wire."""

    lateness: Lateness
    bytes_per_element: int
    weigh_by_samples: bool

    def weight(self, samples: int) -> float:
        """Weight of a contribution in the mean."""
        return float(samples) if self.weigh_by_samples else 1.0
