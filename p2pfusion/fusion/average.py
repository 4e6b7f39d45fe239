"""The weighted mean of contributions: the divisor of an element is the total weight of
what reached it.

A holder that dies mid-stream still counts, exactly for the elements that arrived.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from p2pfusion.fusion.sums import LARGEST, Floats, Partial, StreamingSum


class StreamingMean(StreamingSum):
    """Sums per element while open; after ``close`` their mean, in float32."""

    def _allows(self, weight: float) -> bool:
        return weight > 0

    def _finish(
        self, sums: NDArray[np.float64], start: int, partial: Partial
    ) -> NDArray[np.float64]:
        return np.divide(sums, self._divisors(start, start + len(sums), partial), sums)

    def _divisors(
        self, start: int, stop: int, partial: Partial
    ) -> NDArray[np.float64] | float:
        """The total weight of each element from ``start`` to ``stop``, or of all of
        them; 1 where none."""
        first = int(np.searchsorted(self._starts, start, side="right")) - 1
        last = int(np.searchsorted(self._starts, stop, side="left"))
        if last - first == 1 and not partial:
            return float(self._weights[first]) or 1.0
        borders = np.clip(self._starts[first : last + 1], start, stop)
        divisors = np.repeat(self._weights[first:last], np.diff(borders))
        for begin, end, weight in partial:
            if begin < stop and end > start:
                divisors[max(begin - start, 0) : end - start] += weight
        divisors[divisors == 0] = 1.0
        return divisors


class MeanChange(StreamingMean):
    """Sums of changes while open; after ``close`` the old values and the mean change.

    A range without old values has no new ones, whatever changes came (``absent``).
    """

    def __init__(self, range_sizes: ArrayLike) -> None:
        super().__init__(range_sizes)
        self._old = np.zeros(0, np.float32)
        self._begun = np.zeros(0, np.int64)

    def begin(self, positions: NDArray[np.int64], old: Floats) -> None:
        """Before ``close``, once: the old values of some ranges, one after the other,
        to which the mean of their changes is added."""
        self._begun, self._old = positions, old

    def close(self) -> None:
        """Take the result; rounded to float32 as a change, and again as a value."""
        super().close()
        start = 0
        with np.errstate(over="ignore"):
            for first, last in self.spans(self._begun):
                self.result[first:last] += self._old[start : start + last - first]
                start += last - first
        np.clip(self.result, -LARGEST, LARGEST, self.result)
        self._old = np.zeros(0, np.float32)

    @property
    def absent(self) -> NDArray[np.bool_]:
        """Per range: whether nothing came whole, or its old values are not known."""
        unknown = np.ones(len(self._sizes), np.bool_)
        unknown[self._begun] = False
        return super().absent | (unknown & ~self._kept)
