"""How long to wait for the others: the adaptive deadline.

A round's deadline is the median of how late other peers' offers came after the own one
in recent rounds, plus some median absolute deviations, between a minimum and a maximum.
For fused values it is the same of how long they took to come. Nothing but the monotonic
clock enters.
"""

from __future__ import annotations

import statistics
from collections import deque
from dataclasses import dataclass
from functools import cached_property

from p2pfusion.protocol.manifest import Manifest
from p2pfusion.protocol.stragglers import Stragglers
from p2pfusion.split.forms import Wire

HISTORY = 64
"""Offers remembered: some rounds of a small swarm, one of a large one."""


class Lateness:
    """Recent delays between the own offer and others', in seconds."""

    def __init__(self, *, minimum_s: float, maximum_s: float, mads: float) -> None:
        self.minimum_s = minimum_s
        self.maximum_s = maximum_s
        self._mads = mads
        self._recent: deque[float] = deque(maxlen=HISTORY)
        self._wait_s: float | None = maximum_s
        self._measured: tuple[float, float, int] | None = None

    def alike(self) -> Lateness:
        """Another one of the same bounds, which remembers nothing yet."""
        return Lateness(
            minimum_s=self.minimum_s, maximum_s=self.maximum_s, mads=self._mads
        )

    def note(self, delay_s: float) -> None:
        """One offer came so long after the own one; earlier ones count as 0."""
        self._recent.append(delay_s if delay_s > 0.0 else 0.0)
        self._wait_s = self._measured = None

    def measured(self) -> tuple[float, float, int] | None:
        """Median and median absolute deviation, of how many; None if of none."""
        if self._measured is None and self._recent:
            median = statistics.median(self._recent)
            mad = statistics.median([abs(delay - median) for delay in self._recent])
            self._measured = median, mad, len(self._recent)
        return self._measured

    def wait_s(self) -> float:
        """How long after the own offer a missing one is still waited for."""
        if self._wait_s is None:
            median, mad, _ = self.measured() or (self.maximum_s, 0.0, 0)
            wait = median + self._mads * mad
            self._wait_s = min(self.maximum_s, max(self.minimum_s, wait))
        return self._wait_s


@dataclass(frozen=True)
class Pace:
    """What the manifest says of waiting and of sizes on the wire."""

    lateness: Lateness
    wire: Wire
    weigh_by_samples: bool
    settling_s: float
    """How long after a silence it is acted upon."""
    stragglers: Stragglers

    @classmethod
    def of(cls, manifest: Manifest, settling_s: float) -> Pace:
        """What a manifest says."""
        lateness = Lateness(
            minimum_s=manifest.deadline_min_s,
            maximum_s=manifest.deadline_max_s,
            mads=manifest.deadline_mads,
        )
        by_samples = manifest.weighting == "samples"
        staleness, minimum_s = manifest.max_staleness, manifest.deadline_min_s
        stragglers = Stragglers(staleness, manifest.rounds, minimum_s)
        return cls(lateness, manifest.wire, by_samples, settling_s, stragglers)

    @cached_property
    def fusing(self) -> Lateness:
        """How long after its offer all that a reducer has fused was here: on a slow
        line, transfers take longer than offers differ."""
        return self.lateness.alike()

    def weight(self, samples: int, rounds_late: int = 0) -> float:
        """Weight of a contribution in the mean; the older its base, the less."""
        full = float(samples) if self.weigh_by_samples else 1.0
        return full / (1 + rounds_late)
