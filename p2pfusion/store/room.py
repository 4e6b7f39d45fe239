"""Room on disk for what will be written in place, taken before it is needed.

The files of parameters are sparse: on a full disk, a write into a hole fails. What is
in the journal has to be applied, whatever happens, so its places get their blocks when
it is put there. On a file system that cannot promise blocks (one that copies on every
write) applying can still fail; the store then holds back what it could not write.
"""

from __future__ import annotations

import math
import os
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from p2pfusion.split.segment import Segment
from p2pfusion.store.files import FLOAT_BYTES, Floats
from p2pfusion.store.places import Places
from p2pfusion.store.rectangles import (
    Part,
    boxes,
    check_inside,
    cut,
    has_narrow_rows,
    runs,
)

PAGE_BYTES = 4096
"""What a file system gives at least: spans that share a page are one span."""

REMEMBERED_SEGMENTS = 1 << 14
"""So many are remembered as having their blocks: what has some keeps them."""

Spans = NDArray[np.int64]


class Room:
    """That of one store's values, which grows as segments come."""

    def __init__(self, places: Places) -> None:
        self._places = places
        self._taken: set[Segment] = set()

    def take(self, segments: Sequence[Segment], values: Floats) -> None:
        """Segments with these flat values have their blocks from now on;
        ``ResourceError`` on a full disk, ``LocalProtocolError`` if one reaches beyond
        its parameter."""
        if self._taken.issuperset(segments):
            return
        parameters = self._places.layout.parameters
        for segment in segments:
            check_inside(parameters[segment.parameter].shape, segment)
        for parameter, parts in cut(segments, values).items():
            with self._places.values[parameter].open() as file:
                reserve(file, parameters[parameter].shape, parts)
        if len(self._taken) > REMEMBERED_SEGMENTS:
            self._taken.clear()
        self._taken.update(segments)


def reserve(file: int, shape: tuple[int, ...], parts: Sequence[Part]) -> None:
    """Gives blocks to every place of an array that writing these parts touches.

    ``OSError`` if the disk is full; what got blocks keeps them.
    """
    size_bytes = math.prod(shape) * FLOAT_BYTES
    for start, stop in spans(shape, parts):
        stop = min(stop, size_bytes)
        if os.lseek(file, start, os.SEEK_HOLE) < stop:
            os.posix_fallocate(file, start, stop - start)


def spans(shape: tuple[int, ...], parts: Sequence[Part]) -> list[tuple[int, int]]:
    """The pages of an array that writing parts touches, in bytes, joined."""
    found: list[Spans] = []
    for segment, _ in parts:
        if has_narrow_rows(shape):
            # Written whole, even where a segment has nothing of them.
            row_bytes = math.prod(shape[1:]) * FLOAT_BYTES
            rows = np.array(segment.sets[0].ranges, np.int64).reshape(-1, 2)
            found.append(rows * row_bytes)
            continue
        for place, _ in boxes(segment.sets):
            starts, length = runs(shape, place)
            found.append(np.stack([starts, starts + length], axis=1) * FLOAT_BYTES)
    touched = np.concatenate([np.empty((0, 2), np.int64), *found])
    return _joined(touched) if touched.size else []


def _joined(touched: Spans) -> list[tuple[int, int]]:
    """Spans in whole pages, sorted, those that touch each other as one."""
    starts = touched[:, 0] // PAGE_BYTES
    stops = -(-touched[:, 1] // PAGE_BYTES)
    order = np.argsort(starts, kind="stable")
    starts, stops = starts[order], np.maximum.accumulate(stops[order])
    first = np.concatenate([[True], starts[1:] > stops[:-1]])
    last = np.concatenate([first[1:], [True]])
    pages = np.stack([starts[first], stops[last]], axis=1) * PAGE_BYTES
    return [(start, stop) for start, stop in pages.tolist()]
