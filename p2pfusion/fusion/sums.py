"""Sums of contributions that arrive in pieces, in any order: what all rules share.

A reducer has some ranges, laid out one after the other. Every holder of some of them
sends its values for those as one stream, cut into chunks wherever the transport likes.
Memory holds one sum, never one copy per peer. What a sum becomes in the end, the rules
say: ``average.py``, ``delta.py``.

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
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
from numpy.typing import ArrayLike, NDArray

from p2pfusion.errors import LocalProtocolError
from p2pfusion.fusion.agreement import Deviation
from p2pfusion.fusion.memory import zeros

Floats = NDArray[np.float32]
Partial = list[tuple[int, int, float]]
"""Pieces of ranges that came in part: (start, stop, weight)."""

_EDGE = np.ones(1, np.bool_)

LARGEST = float(np.finfo(np.float32).max)
"""Peers' changes may be of any size, but what is passed on must be finite."""

BLOCK_ELEMENTS = 1 << 16
"""Elements multiplied or divided at a time: the scratch stays in the cache."""

WIDENED_ELEMENTS = 1 << 18
"""Elements widened at a time, to be added to many spans: as many as a chunk has, so
that no span is cut but by a chunk."""

BUFFER_ELEMENTS = 1 << 11
"""Elements that numpy widens at a time while it computes with two types. With so few
its buffer stays in the first-level cache; its own choice, four times as many, does not.
"""


@contextmanager
def small_buffer() -> Iterator[None]:
    """Inside, numpy widens few elements at a time (``BUFFER_ELEMENTS``)."""
    before = np.setbufsize(BUFFER_ELEMENTS)
    try:
        yield
    finally:
        np.setbufsize(before)


class Cursor:
    """One contribution on its way in; made by ``StreamingSum.open``."""

    def __init__(
        self,
        total: StreamingSum,
        positions: NDArray[np.int64],
        weight: float,
        absent: NDArray[np.bool_],
        source: str,
    ) -> None:
        self._total = total
        self.source = source
        """Whose it is; empty where that does not matter."""
        self.positions = positions
        self.absent = absent
        """Which of these ranges have no values: their bytes are passed over."""
        self.weight = weight
        self._left = total.counted_spans(positions, absent)[::-1]
        """Where what is still to come belongs; the next is the last."""
        self.expected_count = sum(stop - start for start, stop, _ in self._left)
        self.received_count = 0

    def add(self, values: Floats) -> None:
        """Add the next values of the stream to the sum."""
        if self._total.closed:
            raise LocalProtocolError(
                "a contribution goes on after the result was taken"
            )
        if self.received_count + values.size > self.expected_count:
            raise LocalProtocolError(
                f"a contribution of {self.expected_count} values goes on beyond its end"
            )
        self._take(values)
        self.received_count += values.size

    def _take(self, values: Floats) -> None:
        with small_buffer():
            for first in range(0, values.size, WIDENED_ELEMENTS):
                self._add(values[first : first + WIDENED_ELEMENTS])

    def _add(self, values: Floats) -> None:
        """Values that may lie in many spans; widened first, unless they lie in one."""
        if not values.size:
            return
        start, stop, counts = self._left[-1]
        end = start + values.size
        if self.weight != 1 or end > stop:
            self._scatter(self._total.weighted(values, self.weight))
            return
        if counts:
            self._total.accumulate(start, values)
        self._left[-1] = end, stop, counts
        if end == stop:
            self._left.pop()

    def _scatter(self, values: NDArray[np.float64]) -> None:
        """Over many short spans what counts is how little is done for each."""
        sums, left = self._total.sums, self._left
        taken, size = 0, values.size
        while taken < size:
            start, stop, counts = left.pop()
            end = taken + stop - start
            if end > size:
                cut = start + size - taken
                left.append((cut, stop, counts))
                stop, end = cut, size
            if counts:
                place = sums[start:stop]
                np.add(place, values[taken:end], place)
            taken = end


class StreamingSum(ABC):
    """Sums per element while open; after ``close`` what they amount to, in float32."""

    _cursor_kind = Cursor

    def __init__(self, range_sizes: ArrayLike) -> None:
        self._sizes = np.asarray(range_sizes, np.int64)
        self._starts = np.concatenate([[0], np.cumsum(self._sizes)])
        self.sums = self._room(int(self._starts[-1]))
        self._scratch = np.empty(0)
        self._cursors: list[Cursor] = []
        self._weights = np.zeros(len(self._sizes), np.float64)
        self._kept = np.zeros(len(self._sizes), np.bool_)
        self._result: Floats | None = None
        self.deviations: dict[str, Deviation] = {}
        """After ``close``, by source: what a rule has found that looks at each."""

    def open(
        self,
        range_positions: ArrayLike,
        weight: float,
        *,
        absent: NDArray[np.bool_] | None = None,
        source: str = "",
    ) -> Cursor:
        """Begin a contribution of these ranges, by position, in its stream's order.

        ``absent`` marks those that it has no values for; ``source`` is whose it is.
        """
        positions = np.asarray(range_positions, np.int64)
        absent = np.zeros(len(positions), np.bool_) if absent is None else absent
        if self.closed:
            raise LocalProtocolError("a contribution begins after the result was taken")
        if not (math.isfinite(weight) and self._allows(weight)):
            raise LocalProtocolError(f"a contribution has the weight {weight}")
        is_sorted = bool((positions[1:] > positions[:-1]).all())
        if not is_sorted and len(np.unique(positions)) != len(positions):
            raise LocalProtocolError("a contribution contains a range twice")
        if len(positions) and not 0 <= positions.min() <= positions.max() < len(
            self._sizes
        ):
            raise LocalProtocolError("a contribution contains a range that is not ours")
        cursor = self._cursor_kind(self, positions, float(weight), absent, source)
        self._cursors.append(cursor)
        return cursor

    def _room(self, count: int) -> NDArray[np.float64]:
        """Where so many elements are summed up."""
        return zeros(count)

    @abstractmethod
    def _allows(self, weight: float) -> bool:
        """Whether a finite weight is one."""

    @abstractmethod
    def _finish(
        self, sums: NDArray[np.float64], start: int, partial: Partial
    ) -> NDArray[np.float64]:
        """What the sums of the elements from ``start`` on become; may be in place."""

    def close(self) -> None:
        """Take the result of what has arrived; it lies where the sums were."""
        if self.closed:
            raise LocalProtocolError("the result was already taken")
        self._result = self._fused(self._count_weights())
        # They point here: without them, this goes when nobody needs it any more.
        self._cursors.clear()

    def _fused(self, partial: Partial) -> Floats:
        """The results, where the sums were."""
        count = len(self.sums)
        self._scratch = np.empty(0)
        floats = self.sums.view(np.float32)
        # Element i of the results lies where sum i // 2 was: going upwards, no sum is
        # overwritten before it is finished. (Where a block and its sums overlap, numpy
        # copies the block first.)
        with small_buffer():
            for start in range(0, count, BLOCK_ELEMENTS):
                stop = min(start + BLOCK_ELEMENTS, count)
                floats[start:stop] = self._finish(self.sums[start:stop], start, partial)
        return floats[:count]

    @property
    def closed(self) -> bool:
        """Whether the result was taken."""
        return self._result is not None

    @property
    def result(self) -> Floats:
        """The values of all ranges, one after the other; 0 where nothing arrived."""
        if self._result is None:
            raise LocalProtocolError("the result was not yet taken")
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

    def values(self, positions: NDArray[np.int64]) -> Floats:
        """After ``close``: the values of some ranges, one after the other; a view of
        the result where they are neighbours."""
        parts = [self.result[start:stop] for start, stop in self.spans(positions)]
        if len(parts) == 1:
            return parts[0]
        return np.concatenate(parts) if parts else np.empty(0, np.float32)

    @property
    def weights(self) -> NDArray[np.float64]:
        """Per range: the weight of what came whole; after ``close``."""
        return self._weights

    def spans(self, positions: NDArray[np.int64]) -> list[tuple[int, int]]:
        """Where ranges lie in the sum, neighbours joined."""
        return self._joined(positions, positions[1:] != positions[:-1] + 1)

    def counted_spans(
        self, positions: NDArray[np.int64], absent: NDArray[np.bool_]
    ) -> list[tuple[int, int, bool]]:
        """Where the values of a contribution belong, and which of these spans count."""
        if not len(positions):
            return []
        breaks = (positions[1:] != positions[:-1] + 1) | (absent[1:] != absent[:-1])
        counts = (~absent[np.concatenate([_EDGE, breaks])]).tolist()
        spans = self._joined(positions, breaks)
        return [(*span, counts) for span, counts in zip(spans, counts, strict=True)]

    def _joined(
        self, positions: NDArray[np.int64], breaks: NDArray[np.bool_]
    ) -> list[tuple[int, int]]:
        """Where runs of ranges lie; ``breaks`` marks the last of each but the last."""
        if not len(positions):
            return []
        firsts = positions[np.concatenate([_EDGE, breaks])]
        lasts = positions[np.concatenate([breaks, _EDGE])]
        starts, stops = self._starts[firsts], self._starts[lasts + 1]
        return list(zip(starts.tolist(), stops.tolist(), strict=True))

    def accumulate(self, start: int, values: Floats) -> None:
        """Add values to the sum from element ``start`` on."""
        place = self.sums[start : start + values.size]
        np.add(place, values, place)

    def weighted(self, values: Floats, weight: float) -> NDArray[np.float64]:
        """At most ``WIDENED_ELEMENTS`` values times a weight, until the next call.

        As wide as the sums: to widen each short span by itself would take longer.
        """
        if self._scratch.size < values.size:
            self._scratch = np.empty(values.size)
        scaled = self._scratch[: values.size]
        if weight == 1:
            np.copyto(scaled, values)
            return scaled
        return np.multiply(values, weight, out=scaled, dtype=np.float64)

    def _count_weights(self) -> Partial:
        """Sum the weights of whole ranges; the rest as (start, stop, weight)."""
        partial: Partial = []
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
