"""Splits and segments: who has which rectangle of which parameter.

A **split** gives every axis of a layout an index set; it is one peer's share of the
model in one round. A **segment** is a rectangle of one parameter: an index set for each
of its dimensions. The part of the model that a split holds is one segment per
parameter, and what two peers share is the intersection of two segments. That is all the
geometry there is: nothing here knows a method, a tensor or a socket.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache

from p2pfusion.errors import LayoutError
from p2pfusion.split.indices import IndexSet
from p2pfusion.split.layout import Axis, Layout

REMEMBERED_SPLITS = 64
"""Those of some rounds of a small swarm."""

FROZEN = "frozen"
"""Marks the gate of a layer that is held and not trained, in plain data."""


@dataclass(frozen=True)
class Segment:
    """A rectangle of one parameter: ``sets[d]`` are its positions in dimension d."""

    parameter: int
    sets: tuple[IndexSet, ...]

    @cached_property
    def _hash(self) -> int:
        return hash((self.parameter, self.sets))

    def __hash__(self) -> int:
        return self._hash  # kept, as that of an index set

    @cached_property
    def shape(self) -> tuple[int, ...]:
        """Shape of the dense array of its values."""
        return tuple(len(indices) for indices in self.sets)

    @cached_property
    def size(self) -> int:
        """Number of elements."""
        product = 1
        for indices in self.sets:
            product *= len(indices)
        return product

    @cached_property
    def ends(self) -> tuple[int, ...]:
        """The position behind its last, in every dimension."""
        return tuple(s.ranges[-1][1] if s.ranges else 0 for s in self.sets)

    @cached_property
    def slices(self) -> tuple[slice, ...] | None:
        """What reaches it, if that is a single box."""
        if any(len(indices.ranges) != 1 for indices in self.sets):
            return None
        return tuple(slice(*indices.ranges[0]) for indices in self.sets)

    @cached_property
    def box_count(self) -> int:
        """Of how many boxes, products of ranges, it consists."""
        return math.prod(len(indices.ranges) for indices in self.sets)

    def __and__(self, other: Segment) -> Segment:
        if self.parameter != other.parameter:
            raise ValueError("segments of different parameters do not intersect")
        return Segment(
            self.parameter,
            tuple(a & b for a, b in zip(self.sets, other.sets, strict=True)),
        )

    def positions(self, inner: Segment) -> tuple[IndexSet, ...]:
        """Where ``inner``, which lies inside, stands in this segment's dense array."""
        return tuple(a.positions(b) for a, b in zip(self.sets, inner.sets, strict=True))


@dataclass(frozen=True)
class Split:
    """One index set per axis, in the layout's order of axes.

    ``frozen``: gates of layers that the peer holds and does not train (``depth.py``).
    """

    sets: tuple[tuple[str, IndexSet], ...]
    frozen: frozenset[str] = frozenset()

    @classmethod
    def of(cls, sets: Mapping[str, IndexSet]) -> Split:
        """The split with these sets (order as given: use the layout's)."""
        return _shared(tuple(sets.items()), frozenset())

    @classmethod
    def full(cls, layout: Layout) -> Split:
        """Everything."""
        return cls(tuple((a.name, IndexSet.span(0, a.size)) for a in layout.axes))

    @cached_property
    def _by_axis(self) -> dict[str, IndexSet]:
        return dict(self.sets)

    def __getitem__(self, axis: str) -> IndexSet:
        return self._by_axis[axis]

    @cached_property
    def trained(self) -> Split:
        """What of this split its peer trains, and has to offer after a round."""
        if not self.frozen:
            return self
        return Split(
            tuple(
                (axis, IndexSet() if axis in self.frozen else indices)
                for axis, indices in self.sets
            )
        )

    def sizes(self) -> dict[str, int]:
        """Number of indices per axis: the widths of the dense sub-model."""
        return {axis: len(indices) for axis, indices in self.sets}

    def segment(self, layout: Layout, parameter: int) -> Segment:
        """What this split holds of one parameter."""
        return Segment(
            parameter,
            tuple(
                d.expand(
                    None if d.axis is None else self[d.axis],
                    0 if d.axis is None else layout.axis(d.axis).size,
                )
                for d in layout.parameters[parameter].dimensions
            ),
        )

    def segments(self, layout: Layout) -> Iterator[Segment]:
        """What this split holds of every parameter, in the layout's order."""
        return iter(self._found(layout)[0])

    def size(self, layout: Layout) -> int:
        """Number of elements that this split holds: parameters of the sub-model."""
        return self._found(layout)[1]

    def _found(self, layout: Layout) -> tuple[tuple[Segment, ...], int]:
        """Segments and size in the layout that was asked for last."""
        if not self._last or self._last[0][0] is not layout:
            count = len(layout.parameters)
            found = tuple(self.segment(layout, number) for number in range(count))
            self._last[:] = [(layout, found, sum(each.size for each in found))]
        return self._last[0][1:]

    @cached_property
    def _last(self) -> list[tuple[Layout, tuple[Segment, ...], int]]:
        return []

    @cached_property
    def digest(self) -> bytes:
        """Sixteen bytes that name this split."""
        text = json.dumps(self.to_data(), separators=(",", ":"))
        return hashlib.sha256(text.encode()).digest()[:16]

    def to_data(self) -> list[list[object]]:
        """Plain lists: ``[[axis, [[start, stop], ...]], ...]``, and ``FROZEN`` behind
        the set of a frozen gate."""
        return [
            [axis, s.to_data(), *([FROZEN] if axis in self.frozen else [])]
            for axis, s in self.sets
        ]

    @classmethod
    def from_data(cls, data: object, layout: Layout) -> Split:
        """The split that ``to_data`` described; ``LayoutError`` if it does not fit.

        A set that does not consist of grid cells does not fit either. This also bounds
        the ranges that anybody can make us expand.
        """
        if not isinstance(data, (list, tuple)) or len(data) != len(layout.axes):
            raise LayoutError("a split names every axis of its layout, in order")
        pairs = list(zip(data, layout.axes, strict=True))
        return _shared(
            tuple((axis.name, _indices(row, axis)) for row, axis in pairs),
            frozenset(axis.name for row, axis in pairs if list(row[2:]) == [FROZEN]),
        )


# Windows move in a circle: what follows from a split is found out once.
@lru_cache(maxsize=REMEMBERED_SPLITS)
def _shared(sets: tuple[tuple[str, IndexSet], ...], frozen: frozenset[str]) -> Split:
    return Split(sets, frozen)


def _indices(row: object, axis: Axis) -> IndexSet:
    if not isinstance(row, (list, tuple)) or len(row) < 2 or row[0] != axis.name:
        raise LayoutError("a split names every axis of its layout, in order")
    allowed = ([], [FROZEN]) if axis.is_gate else ([],)
    if list(row[2:]) not in allowed:
        raise LayoutError(f"malformed split of axis {axis.name!r}")
    try:
        indices = IndexSet.from_data(row[1])
    except ValueError as error:
        raise LayoutError(f"malformed split of axis {axis.name!r}: {error}") from None
    return axis.cells(axis.cells_in(indices))


def overlap(layout: Layout, one: Split, other: Split) -> tuple[Segment, ...]:
    """The segments that both splits hold, without the empty ones."""
    pairs = zip(one.segments(layout), other.segments(layout), strict=True)
    common = (a & b for a, b in pairs)
    return tuple(segment for segment in common if segment.size)
