"""Which grid cells a segment lies in, touches or covers.

Pure geometry over one layout. A version belongs to a cell: what is written must be made
of whole cells, what is read may cut through them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from p2pfusion.errors import LocalProtocolError
from p2pfusion.split.indices import IndexSet
from p2pfusion.split.layout import Axis, Dimension, Layout
from p2pfusion.split.segment import Segment
from p2pfusion.store.rectangles import boxes, numbers

STREAMS = 64
"""Lists of segments of which is remembered which cells they cover: the streams of some
rounds of a small swarm."""

SEGMENTS = 1024
"""Segments of which is remembered which cells they touch."""

SPLITS = 256
"""Whole parameters of splits of which is remembered in which cell each position is."""

Mask = NDArray[np.bool_]
Marks = TypeVar("Marks", NDArray[np.bool_], NDArray[np.int32], NDArray[np.float32])
Place = tuple[NDArray[np.int64], ...]


class Cells:
    """The grid of a layout: one array of cells per signature."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self._signature_of = {
            parameter: index
            for index, signature in enumerate(layout.signatures)
            for parameter in signature.parameters
        }
        # Windows move in a circle: the same streams come again.
        self._covered = lru_cache(maxsize=STREAMS)(self._found_covered)
        self._touched = lru_cache(maxsize=SEGMENTS)(self._found_touched)
        self._elements = lru_cache(maxsize=SPLITS)(self._found_elements)

    def signature(self, parameter: int) -> int:
        """The signature that a parameter belongs to."""
        return self._signature_of[parameter]

    def shape(self, signature_index: int) -> tuple[int, ...]:
        """Cells of each axis of a signature."""
        axes = self._layout.signatures[signature_index].axes
        return tuple(self._layout.axis(axis).cell_count for axis in axes)

    def count(self, signature_index: int) -> int:
        """Cells of a signature."""
        return math.prod(self.shape(signature_index))

    def touched(self, segment: Segment) -> Place:
        """Where the cells that a segment lies in stand in its signature's array.

        The arrays are shared: do not change them.
        """
        return self._touched(segment)

    def _found_touched(self, segment: Segment) -> Place:
        cells = (_touched_cells(*pair) for pair in self._followed(segment))
        return np.ix_(*(numbers(indices) for indices in cells))

    def of_elements(self, segment: Segment, marks: Marks) -> Marks:
        """Numbers or marks of cells as those of a segment's dense array.

        Axis by axis, so mostly strides 0.
        """
        place, shape = self._elements(segment)
        return np.broadcast_to(marks[place].reshape(shape), segment.shape)

    def _found_elements(self, segment: Segment) -> tuple[Place, tuple[int, ...]]:
        """The cell of every position that follows an axis, and the shape of what is
        there then, with a length of one for those that follow none."""
        rows = (_cell_numbers(*pair) for pair in self._followed(segment))
        dimensions = self._layout.parameters[segment.parameter].dimensions
        shape = tuple(
            1 if dimension.axis is None else length
            for dimension, length in zip(dimensions, segment.shape, strict=True)
        )
        return np.ix_(*rows), shape

    def covered(self, segments: Sequence[Segment]) -> dict[int, Mask]:
        """Which cells segments cover, per signature.

        ``LocalProtocolError`` unless they cover whole cells, the same in all
        parameters of a signature. The masks are shared: do not change them.
        """
        return self._covered(tuple(segments))

    def _found_covered(self, segments: tuple[Segment, ...]) -> dict[int, Mask]:
        masks: dict[int, Mask] = {}
        for segment in segments:
            if segment.parameter not in masks:
                shape = self.shape(self._signature_of[segment.parameter])
                masks[segment.parameter] = np.zeros(shape, np.bool_)
            for place, _ in boxes(self._whole_cells(segment)):
                masks[segment.parameter][place] = True
        found: dict[int, Mask] = {}
        for index in {self._signature_of[parameter] for parameter in masks}:
            first, *others = self._layout.signatures[index].parameters
            same = all(
                np.array_equal(masks.get(first, False), masks.get(other, False))
                for other in others
            )
            if not same:
                raise LocalProtocolError(
                    f"segments cover other cells of {self._name(first)} than of "
                    "another parameter with the same axes"
                )
            found[index] = masks[first]
        return found

    def _whole_cells(self, segment: Segment) -> tuple[IndexSet, ...]:
        cells = []
        for dimension, axis, indices in self._followed(segment):
            touched = _touched_cells(dimension, axis, indices)
            if not _is_whole(dimension, axis, indices):
                raise LocalProtocolError(
                    f"a segment of {self._name(segment.parameter)} cuts through cells "
                    f"of axis {axis.name!r}"
                )
            cells.append(touched)
        if not self._is_full_elsewhere(segment):
            raise LocalProtocolError(
                f"a segment of {self._name(segment.parameter)} cuts a dimension that "
                "follows no axis"
            )
        return tuple(cells)

    def _is_full_elsewhere(self, segment: Segment) -> bool:
        dimensions = self._layout.parameters[segment.parameter].dimensions
        return all(
            dimension.axis is not None or len(indices) == dimension.size
            for dimension, indices in zip(dimensions, segment.sets, strict=True)
        )

    def _followed(self, segment: Segment) -> list[tuple[Dimension, Axis, IndexSet]]:
        """Dimensions that follow an axis, with the axis and the segment's positions."""
        dimensions = self._layout.parameters[segment.parameter].dimensions
        return [
            (dimension, self._layout.axis(dimension.axis), indices)
            for dimension, indices in zip(dimensions, segment.sets, strict=True)
            if dimension.axis is not None
        ]

    def _name(self, parameter: int) -> str:
        return repr(self._layout.parameters[parameter].name)


# Thousands of segments of one plan are made of the same few index sets.
@lru_cache(maxsize=4096)
def _touched_cells(dimension: Dimension, axis: Axis, indices: IndexSet) -> IndexSet:
    """The cells of an axis that some positions of a dimension lie in."""
    spans: list[tuple[int, int]] = []
    for start, stop in indices.ranges:
        first, last = start // dimension.inner, -(-stop // dimension.inner)
        spans.extend(IndexSet.cyclic(first, last - first, axis.size).ranges)
    size = axis.cell_size
    return IndexSet.from_ranges(
        (start // size, -(-stop // size)) for start, stop in spans
    )


@lru_cache(maxsize=4096)
def _is_whole(dimension: Dimension, axis: Axis, indices: IndexSet) -> bool:
    """Whether positions of a dimension are all those of the cells that they touch."""
    cells = axis.cells(_touched_cells(dimension, axis, indices))
    return dimension.expand(cells, axis.size) == indices


def _cell_numbers(
    dimension: Dimension, axis: Axis, indices: IndexSet
) -> NDArray[np.int64]:
    """The cell of every position."""
    return numbers(indices) // dimension.inner % axis.size // axis.cell_size
