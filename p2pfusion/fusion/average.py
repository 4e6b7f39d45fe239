"""The weighted mean of contributions that arrive in pieces, in any order.

A reducer has some ranges, laid out one after the other. Every holder of some of them
sends its values for those as one stream, cut into chunks wherever the transport likes.
Memory holds one sum, never one copy per peer. A holder that dies mid-stream still
counts, exactly for the elements that arrived: the divisor of an element is the total
weight of the contributions that reached it.

Sums are float64. The sum of float32 values with whole-number weights is exact, and thus
independent of the order, where ``log2(total weight)`` and the difference between the
largest and the smallest exponent of the values (not counting zeros) make at most 29:
the 53 bits of a sum less the 24 of a value. The values of a hundred peers of weight one
may thus differ by a factor of 2**22. Beyond that, another order changes a sum by at
most ``peers * 2**-53`` of the sum of the magnitudes, which the rounding to float32
nearly always hides, unless the values cancel.

Pure memory: no file, no socket, no clock.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

from p2pfusion.errors import LocalProtocolError

Floats = NDArray[np.float32]

BLOCK_ELEMENTS = 1 << 16
"""Elements multiplied or divided at a time: the scratch stays in the cache."""


class Cursor:
    """One contribution on its way in; made by ``StreamingMean.open``."""

    def __init__(
        self,
        mean: StreamingMean,
        positions: NDArray[np.int64],
        weight: float,
        absent: NDArray[np.bool_],
    ) -> None:
        self._mean = mean
        self.positions = positions
        self.absent = absent
        """Which of these ranges have no values: their bytes are passed over."""
        self.weight = weight
        self._spans, self._counts = _runs(mean, positions, absent)
        self._next_span = 0
        self._used_of_span = 0
        self.expected_count = sum(stop - start for start, stop in self._spans)
        self.received_count = 0

    def add(self, values: Floats) -> None:
        """Add the next values of the stream to the sum."""
        if self._mean.closed:
            raise LocalProtocolError("a contribution goes on after the mean was taken")
        if self.received_count + values.size > self.expected_count:
            raise LocalProtocolError(
                f"a contribution of {self.expected_count} values goes on beyond its end"
            )
        taken = 0
        while taken < values.size:
            start, stop = self._spans[self._next_span]
            start += self._used_of_span
            count = min(stop - start, values.size - taken)
            if self._counts[self._next_span]:
                self._mean.accumulate(start, values[taken : taken + count], self.weight)
            taken += count
            self._used_of_span += count
            if start + count == stop:
                self._next_span, self._used_of_span = self._next_span + 1, 0
        self.received_count += taken


class StreamingMean:
    """Sums per element while open; after ``close`` their mean, in float32."""

    def __init__(self, range_sizes: ArrayLike) -> None:
        self._sizes = np.asarray(range_sizes, np.int64)
        self._starts = np.concatenate([[0], np.cumsum(self._sizes)])
        self._sums = np.zeros(int(self._starts[-1]), np.float64)
        self._scratch = np.empty(BLOCK_ELEMENTS, np.float64)
        self._cursors: list[Cursor] = []
        self._weights = np.zeros(len(self._sizes), np.float64)
        self._kept = np.zeros(len(self._sizes), np.bool_)
        self._result: Floats | None = None

    def open(
        self,
        range_positions: ArrayLike,
        weight: float,
        *,
        absent: NDArray[np.bool_] | None = None,
    ) -> Cursor:
        """Begin a contribution of these ranges, by position, in its stream's order.

        ``absent`` marks those that it has no values for.
        """
        positions = np.asarray(range_positions, np.int64)
        absent = np.zeros(len(positions), np.bool_) if absent is None else absent
        if self.closed:
            raise LocalProtocolError("a contribution begins after the mean was taken")
        if not (math.isfinite(weight) and weight > 0):
            raise LocalProtocolError(f"a contribution has the weight {weight}")
        if len(np.unique(positions)) != len(positions):
            raise LocalProtocolError("a contribution contains a range twice")
        if len(positions) and not 0 <= positions.min() <= positions.max() < len(
            self._sizes
        ):
            raise LocalProtocolError("a contribution contains a range that is not ours")
        cursor = Cursor(self, positions, float(weight), absent)
        self._cursors.append(cursor)
        return cursor

    def close(self) -> None:
        """Take the mean of what has arrived; the sums' memory is given back."""
        if self.closed:
            raise LocalProtocolError("the mean was already taken")
        partial = self._count_weights()
        count = len(self._sums)
        scratch, self._scratch = self._scratch, np.empty(0)
        floats = self._sums.view(np.float32)
        # Element i of the means lies where sum i // 2 was: going upwards, no sum is
        # overwritten before it is divided.
        for start in range(0, count, BLOCK_ELEMENTS):
            stop = min(start + BLOCK_ELEMENTS, count)
            mean = scratch[: stop - start]
            np.divide(
                self._sums[start:stop], self._divisors(start, stop, partial), mean
            )
            floats[start:stop] = mean
        del floats
        # No view of the sums is left, so half of their memory can go.
        self._sums.resize((count + 1) // 2, refcheck=False)
        self._result = self._sums.view(np.float32)[:count]

    @property
    def closed(self) -> bool:
        """Whether the mean was taken."""
        return self._result is not None

    @property
    def result(self) -> Floats:
        """The means of all ranges, one after the other; 0 where nothing arrived."""
        if self._result is None:
            raise LocalProtocolError("the mean was not yet taken")
        return self._result

    @property
    def absent(self) -> NDArray[np.bool_]:
        """Per range: whether some element of it got no value; after ``close``."""
        # What came in part lacks the end, so only a whole contribution covers a range.
        return (self._weights == 0) & ~self._kept

    def keep(self, positions: NDArray[np.int64], values: Floats) -> None:
        """After ``close``: these older values stand in for ranges that got none."""
        start = 0
        for position in positions.tolist():
            first, last = self._starts[position], self._starts[position + 1]
            self.result[first:last] = values[start : start + int(last - first)]
            start += int(last - first)
        self._kept[positions] = True

    @property
    def weights(self) -> NDArray[np.float64]:
        """Per range: the weight of what came whole; after ``close``."""
        return self._weights

    def spans(self, positions: NDArray[np.int64]) -> list[tuple[int, int]]:
        """Where ranges lie in the sum, neighbours joined."""
        breaks = np.flatnonzero(np.diff(positions) != 1) + 1
        runs = np.split(positions, breaks) if len(positions) else []
        return [
            (int(self._starts[run[0]]), int(self._starts[run[-1] + 1])) for run in runs
        ]

    def accumulate(self, start: int, values: Floats, weight: float) -> None:
        """Add weighted values to the sum from element ``start`` on."""
        for first in range(0, values.size, BLOCK_ELEMENTS):
            part = values[first : first + BLOCK_ELEMENTS]
            scaled = self._scratch[: part.size]
            np.multiply(part, weight, out=scaled, dtype=np.float64)
            self._sums[start + first : start + first + part.size] += scaled

    def _count_weights(self) -> list[tuple[int, int, float]]:
        """Sum the weights of whole ranges; the rest as (start, stop, weight)."""
        partial = []
        for cursor in self._cursors:
            ends = np.cumsum(self._sizes[cursor.positions])
            whole = int(np.searchsorted(ends, cursor.received_count, side="right"))
            counted = cursor.positions[:whole][~cursor.absent[:whole]]
            self._weights[counted] += cursor.weight
            arrived = cursor.received_count - (int(ends[whole - 1]) if whole else 0)
            if arrived and not cursor.absent[whole]:
                start = int(self._starts[cursor.positions[whole]])
                partial.append((start, start + arrived, cursor.weight))
        return partial

    def _divisors(
        self, start: int, stop: int, partial: list[tuple[int, int, float]]
    ) -> NDArray[np.float64]:
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


def _runs(
    mean: StreamingMean, positions: NDArray[np.int64], absent: NDArray[np.bool_]
) -> tuple[list[tuple[int, int]], list[bool]]:
    """Where the values of a contribution belong, and which of these spans count."""
    breaks = np.flatnonzero(np.diff(absent)) + 1
    spans: list[tuple[int, int]] = []
    counts: list[bool] = []
    parts = zip(np.split(positions, breaks), np.split(absent, breaks), strict=True)
    for part, lacking in parts:
        found = mean.spans(part)
        spans += found
        counts += [not lacking.any()] * len(found)
    return spans, counts
