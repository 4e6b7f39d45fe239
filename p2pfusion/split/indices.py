"""Index sets: which positions along one axis somebody has.

An ``IndexSet`` is a sorted tuple of disjoint, non-touching half-open ranges. It is a
value: frozen, hashable, and the same set always has the same ranges, so equality is
equality of sets and a digest of the ranges is a digest of the set. All operations are
linear in the number of ranges (a sort apart), never in the number of indices; only
iteration visits them one by one.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property

Span = tuple[int, int]


@dataclass(frozen=True)
class IndexSet:
    """A set of non-negative integers as sorted, disjoint, half-open ranges."""

    ranges: tuple[Span, ...] = ()

    def __post_init__(self) -> None:
        previous_stop = -1
        for start, stop in self.ranges:
            if not previous_stop < start < stop:
                raise ValueError("ranges are not sorted, disjoint and non-negative")
            previous_stop = stop

    @classmethod
    def span(cls, start: int, stop: int) -> IndexSet:
        """The indices from ``start`` up to, not including, ``stop``."""
        return cls(((start, stop),) if start < stop else ())

    @classmethod
    def from_ranges(cls, ranges: Iterable[Span]) -> IndexSet:
        """The union of any ranges, in any order, overlapping or not."""
        joined: list[Span] = []
        for start, stop in sorted(span for span in ranges if span[0] < span[1]):
            if joined and start <= joined[-1][1]:
                joined[-1] = (joined[-1][0], max(joined[-1][1], stop))
            else:
                joined.append((start, stop))
        return cls(tuple(joined))

    @classmethod
    def from_indices(cls, indices: Iterable[int]) -> IndexSet:
        """The set of the given integers."""
        return cls.from_ranges((index, index + 1) for index in indices)

    @classmethod
    def cyclic(cls, start: int, length: int, size: int) -> IndexSet:
        """``length`` indices from ``start`` on, modulo ``size``."""
        if length >= size:
            return cls.span(0, size)
        start %= size
        stop = start + length
        return cls.from_ranges([(start, min(stop, size)), (0, max(0, stop - size))])

    @classmethod
    def from_data(cls, data: object) -> IndexSet:
        """The set that ``to_data`` described; ``ValueError`` for anything else."""
        if not isinstance(data, (list, tuple)):
            raise ValueError("an index set is a list of ranges")
        return cls(tuple(_span(item) for item in data))

    def to_data(self) -> list[list[int]]:
        """Plain lists: ``[[start, stop], ...]``."""
        return [[start, stop] for start, stop in self.ranges]

    @cached_property
    def _hash(self) -> int:
        return hash(self.ranges)

    def __hash__(self) -> int:
        # Kept: a round looks up the same few sets a thousand times.
        return self._hash

    @cached_property
    def _count(self) -> int:
        return sum(stop - start for start, stop in self.ranges)

    def __len__(self) -> int:
        return self._count

    def __bool__(self) -> bool:
        return bool(self.ranges)

    def __iter__(self) -> Iterator[int]:
        for start, stop in self.ranges:
            yield from range(start, stop)

    def __contains__(self, index: object) -> bool:
        return isinstance(index, int) and any(
            start <= index < stop for start, stop in self.ranges
        )

    def __and__(self, other: IndexSet) -> IndexSet:
        common: list[Span] = []
        mine, theirs = 0, 0
        while mine < len(self.ranges) and theirs < len(other.ranges):
            start = max(self.ranges[mine][0], other.ranges[theirs][0])
            stop = min(self.ranges[mine][1], other.ranges[theirs][1])
            if start < stop:
                common.append((start, stop))
            if self.ranges[mine][1] < other.ranges[theirs][1]:
                mine += 1
            else:
                theirs += 1
        return IndexSet(tuple(common))

    def __or__(self, other: IndexSet) -> IndexSet:
        return IndexSet.from_ranges(self.ranges + other.ranges)

    def __sub__(self, other: IndexSet) -> IndexSet:
        if not self:
            return self
        return self & other.complement(self.ranges[-1][1])

    def __le__(self, other: IndexSet) -> bool:
        return (self & other) == self

    def complement(self, size: int) -> IndexSet:
        """The indices below ``size`` that are not in this set."""
        gaps: list[Span] = []
        position = 0
        for start, stop in self.ranges:
            gaps.append((position, min(start, size)))
            position = stop
        gaps.append((position, size))
        return IndexSet.from_ranges(gaps)

    def positions(self, subset: IndexSet) -> IndexSet:
        """Where the members of ``subset`` stand in this set's sorted order.

        ``subset`` must lie inside this set; otherwise ``ValueError``.
        """
        if not subset <= self:
            raise ValueError("positions() needs a subset")
        found: list[Span] = []
        offset, current = 0, 0
        for first, last in subset.ranges:
            while self.ranges[current][1] < last:
                offset += self.ranges[current][1] - self.ranges[current][0]
                current += 1
            start = self.ranges[current][0]
            found.append((offset + first - start, offset + last - start))
        return IndexSet.from_ranges(found)


def _span(item: object) -> Span:
    if not isinstance(item, (list, tuple)) or len(item) != 2:
        raise ValueError("a range is a pair of integers")
    start, stop = item
    for bound in (start, stop):
        if isinstance(bound, bool) or not isinstance(bound, int):
            raise ValueError("a range is a pair of integers")
    return start, stop
