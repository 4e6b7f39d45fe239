"""The weighted mean of contributions: the divisor of an element is the total weight of
what reached it.

A holder that dies mid-stream still counts, exactly for the elements that arrived.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from p2pfusion.fusion.sums import Partial, StreamingSum


class StreamingMean(StreamingSum):
    """Sums per element while open; after ``close`` their mean, in float32."""

    def _allows(self, weight: float) -> bool:
        return weight > 0

    def _finish(
        self, sums: NDArray[np.float64], start: int, partial: Partial
    ) -> NDArray[np.float64]:
        np.divide(sums, self._divisors(start, start + len(sums), partial), sums)
        return sums

    def _divisors(self, start: int, stop: int, partial: Partial) -> NDArray[np.float64]:
        """The total weight of each element from ``start`` to ``stop``; 1 where none."""
        first = int(np.searchsorted(self._starts, start, side="right")) - 1
        last = int(np.searchsorted(self._starts, stop, side="left"))
        borders = np.clip(self._starts[first : last + 1], start, stop)
        divisors = np.repeat(self._weights[first:last], np.diff(borders))
        for begin, end, weight in partial:
            if begin < stop and end > start:
                divisors[max(begin - start, 0) : end - start] += weight
        divisors[divisors == 0] = 1.0
        return divisors
