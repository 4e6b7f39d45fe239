"""Rectangles of tensors that lie in flat files or arrays: copied box by box.

A rectangle is an index set per dimension; its boxes are the products of their ranges,
contiguous pieces that plain slices reach. Where boxes are tiny, elements are gathered
one by one instead; where rows are narrow, whole rows are patched.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from itertools import product, starmap
from operator import attrgetter, gt

import numpy as np
from numpy.typing import NDArray

from p2pfusion.errors import LocalProtocolError
from p2pfusion.split.indices import IndexSet
from p2pfusion.split.segment import Segment
from p2pfusion.store.files import (
    FLOAT_BYTES,
    Floats,
    raw_bytes,
    write_at,
    write_pieces,
)

Place = tuple[slice, ...]
Part = tuple[Segment, Floats]
_Run = tuple[NDArray[np.int64], int, Place]

BLOCK_ELEMENTS = 1 << 20
"""Elements that are handled at a time: bounds the scratch memory to some 20 MiB."""

NARROW_ROW_BYTES = 4096
"""A page: patching rows up to this size touches hardly a page more than runs would."""

_size_of = attrgetter("size")

REMEMBERED_BOXES = 64
"""Of rectangles with more boxes it is not remembered where these lie: windows have one
or a few, masks of single units thousands."""

ELEMENTS_PER_BOX = 32
"""Copying box by box costs about as much per box as gathering this many elements one by
one; rectangles of smaller boxes are gathered."""


def boxes(sets: Sequence[IndexSet]) -> Iterator[tuple[Place, Place]]:
    """A rectangle as contiguous boxes: place in the whole, place in the dense array."""
    dimensions = []
    for indices in sets:
        offset = 0
        places = []
        for start, stop in indices.ranges:
            places.append((slice(start, stop), slice(offset, offset + stop - start)))
            offset += stop - start
        dimensions.append(places)
    for box in product(*dimensions):
        yield tuple(place[0] for place in box), tuple(place[1] for place in box)


def pick_segment(whole: Floats, segment: Segment, into: Floats) -> None:
    """As ``pick``; of one box it is known which slices that is."""
    if segment.slices is None:
        pick(whole, segment.sets, into)
    else:
        into[...] = whole[segment.slices]


def pick(whole: Floats, sets: Sequence[IndexSet], into: Floats) -> None:
    """Copy the rectangle ``sets`` of ``whole`` into the dense array ``into``."""
    spans = [indices.ranges[0] for indices in sets if len(indices.ranges) == 1]
    if len(spans) == len(sets):
        into[...] = whole[tuple(starmap(slice, spans))]
        return
    box_count = math.prod(len(indices.ranges) for indices in sets)
    if box_count * ELEMENTS_PER_BOX > into.size > 1:
        into[...] = whole[np.ix_(*(numbers(indices) for indices in sets))]
        return
    for place, dense in boxes(sets):
        into[dense] = whole[place]


def fetch(
    file: int, shape: tuple[int, ...], sets: Sequence[IndexSet], into: Floats
) -> None:
    """As ``pick``, from the array that an open file is: its rows, some at a time."""
    rows, *columns = sets or (IndexSet.span(0, 1),)
    dense = into.reshape(len(rows), *into.shape[1:])
    row_bytes = math.prod(shape[1:]) * FLOAT_BYTES
    offset = 0
    for start, stop in row_blocks(rows, shape):
        data = os.pread(file, (stop - start) * row_bytes, start * row_bytes)
        block = np.frombuffer(data, "<f4").reshape(stop - start, *shape[1:])
        place = slice(offset, offset + stop - start)
        pick(block, (IndexSet.span(0, stop - start), *columns), dense[place])
        offset += stop - start


def cut(segments: Sequence[Segment], values: Floats) -> dict[int, list[Part]]:
    """Flat values as one dense array per segment, the segments by parameter."""
    check_values(segments, values)
    parts: dict[int, list[Part]] = {}
    offset = 0
    for segment in segments:
        dense = values[offset : offset + segment.size].reshape(segment.shape)
        parts.setdefault(segment.parameter, []).append((segment, dense))
        offset += segment.size
    return parts


def total_size(segments: Iterable[Segment]) -> int:
    """Elements of all of them."""
    return sum(map(_size_of, segments))


def check_values(segments: Sequence[Segment], values: Floats) -> None:
    """``LocalProtocolError`` unless these are as many values as segments have."""
    if values.dtype != np.float32 or values.shape != (total_size(segments),):
        raise LocalProtocolError(
            f"{values.dtype} values of shape {values.shape} do not fit the segments"
        )


def put(
    file: int, base_bytes: int, shape: tuple[int, ...], parts: Sequence[Part]
) -> None:
    """Write segments into the C-ordered array at ``base_bytes`` of a file.

    Narrow rows are patched in memory and written back whole, many at a time: their
    pages are touched anyway. Wider ones get one write per run of neighbouring elements,
    of whichever segments these are: ranges of a plan cut windows into small pieces.
    """
    for segment, _ in parts:
        check_inside(shape, segment)
    if has_narrow_rows(shape):
        _put_rows(file, base_bytes, shape, parts)
    else:
        _put_runs(file, base_bytes, shape, parts)


def has_narrow_rows(shape: tuple[int, ...]) -> bool:
    """Whether rows of an array are so narrow that they are written whole."""
    return len(shape) > 1 and math.prod(shape[1:]) * FLOAT_BYTES <= NARROW_ROW_BYTES


def check_inside(shape: tuple[int, ...], segment: Segment) -> None:
    """``LocalProtocolError`` for a place beyond the end: another parameter's."""
    ends = segment.ends
    if len(ends) != len(shape) or any(map(gt, ends, shape)):
        raise LocalProtocolError(
            f"a segment reaches beyond parameter {segment.parameter}, shaped {shape}"
        )


def _put_rows(
    file: int, base_bytes: int, shape: tuple[int, ...], parts: Sequence[Part]
) -> None:
    row_bytes = math.prod(shape[1:]) * FLOAT_BYTES
    rows = IndexSet.from_ranges(
        r for segment, _ in parts for r in segment.sets[0].ranges
    )
    for start, stop in row_blocks(rows, shape):
        place_bytes = base_bytes + start * row_bytes
        old = os.pread(file, (stop - start) * row_bytes, place_bytes)
        block = np.frombuffer(old, "<f4").reshape(stop - start, *shape[1:]).copy()
        for segment, values in parts:
            _patch(block, start, segment, values)
        write_at(file, raw_bytes(block), place_bytes)


def _patch(block: Floats, first_row: int, segment: Segment, dense: Floats) -> None:
    """Copy those rows of a segment that lie in a block of rows into it."""
    is_plain = segment.box_count <= REMEMBERED_BOXES
    find = _patches if is_plain else _patches.__wrapped__
    inside, patches = find(segment, first_row, first_row + len(block))
    some = dense[inside]
    for place, source in patches:
        block[place] = some[source]


# Windows move in a circle: the same segments come again.
@lru_cache(maxsize=4096)
def _patches(
    segment: Segment, first_row: int, stop_row: int
) -> tuple[slice, tuple[tuple[Place, Place], ...]]:
    """Which of a segment's rows lie in a block of rows, and its boxes there."""
    mine, *columns = segment.sets
    block_rows = IndexSet.span(first_row, stop_row)
    inside = mine & block_rows
    before = len(mine & IndexSet.span(0, first_row))
    found = boxes((block_rows.positions(inside), *columns))
    return slice(before, before + len(inside)), tuple(found)


def _put_runs(
    file: int, base_bytes: int, shape: tuple[int, ...], parts: Sequence[Part]
) -> None:
    starts: list[NDArray[np.int64]] = []
    lengths: list[int] = []
    pieces: list[memoryview] = []
    for segment, dense in parts:
        for firsts, length, source in _box_runs(shape, segment):
            block = raw_bytes(np.ascontiguousarray(dense[source], "<f4"))
            step = length * FLOAT_BYTES
            pieces += [block[i : i + step] for i in range(0, len(block), step)]
            starts.append(firsts)
            lengths.append(length)
    if not pieces:
        return
    counts = [len(each) for each in starts]
    order, joined = _neighbours(np.concatenate(starts), np.repeat(lengths, counts))
    ordered = [pieces[place] for place in order]
    for first, stop, start in joined:
        write_pieces(file, ordered[first:stop], base_bytes + start * FLOAT_BYTES)


def _box_runs(shape: tuple[int, ...], segment: Segment) -> Iterable[_Run]:
    """The runs of a segment's boxes, and where each box stands in its dense array."""
    if segment.box_count > 1:
        return _found_runs(shape, segment)
    return _known_runs(shape, segment)


def _found_runs(shape: tuple[int, ...], segment: Segment) -> Iterator[_Run]:
    for place, source in boxes(segment.sets):
        yield *runs(shape, place), source


# Windows move in a circle: the same segments come again.
@lru_cache(maxsize=1024)
def _known_runs(shape: tuple[int, ...], segment: Segment) -> tuple[_Run, ...]:
    return tuple(_found_runs(shape, segment))


def _neighbours(
    starts: NDArray[np.int64], lengths: NDArray[np.int64]
) -> tuple[list[int], list[tuple[int, int, int]]]:
    """The order in which runs lie; and which of these, from one to another, follow each
    other without a gap, with where they start. Runs that overlap stay as they are: the
    last one counts."""
    order = np.argsort(starts, kind="stable")
    stops = starts[order] + lengths[order]
    gaps = starts[order][1:] - stops[:-1]
    if (gaps < 0).any():
        order, gaps = np.arange(len(starts)), np.ones(len(starts) - 1, np.int64)
    firsts = np.concatenate([[0], np.flatnonzero(gaps) + 1])
    ends = [*firsts[1:].tolist(), len(starts)]
    found = zip(firsts.tolist(), ends, starts[order[firsts]].tolist(), strict=True)
    return order.tolist(), list(found)


def runs(
    shape: tuple[int, ...], place: tuple[slice, ...]
) -> tuple[NDArray[np.int64], int]:
    """First elements of the runs that make up a box of an array, and their length."""
    length, inner = 1, 1
    dimension = len(shape)
    # Trailing dimensions join the run as long as those behind them are not cut.
    while dimension and length == inner:
        dimension -= 1
        length *= place[dimension].stop - place[dimension].start
        inner *= shape[dimension]
    first = place[dimension].start * (inner // shape[dimension]) if shape else 0
    starts = np.array([first], np.int64)
    for outer in range(dimension - 1, -1, -1):
        rows = np.arange(place[outer].start, place[outer].stop) * inner
        starts = (rows[:, None] + starts).ravel()
        inner *= shape[outer]
    return starts, length


def row_blocks(rows: IndexSet, shape: tuple[int, ...]) -> Iterator[tuple[int, int]]:
    """The rows of a parameter in blocks of bounded size: at least one row each."""
    step = max(1, BLOCK_ELEMENTS // math.prod(shape[1:]))
    for start, stop in rows.ranges:
        for first in range(start, stop, step):
            yield first, min(first + step, stop)


def numbers(indices: IndexSet) -> NDArray[np.int64]:
    """The members of an index set, ascending."""
    spans = [np.arange(start, stop) for start, stop in indices.ranges]
    return np.concatenate(spans) if spans else np.empty(0, np.int64)


# --- Files ---------------------------------------------------------------------------
