"""Seeded initial values: any rows of any parameter, without what precedes them.

A cell that nobody ever trained has the value that this file computes, on every peer, at
any time; so such values are neither stored nor sent. They must therefore never change,
whatever becomes of numpy's own generators. Only raw Philox4x64-10 blocks are used
(Salmon et al., SC 2011), and the tests compare them with a second implementation and
with recorded values.

Element ``i`` of a parameter takes 32-bit word ``i`` of that parameter's stream: word
``i % 8`` (low half first) of the block with counter ``i // 8 + 1`` under the key that
SHA-256 makes of the seed and the parameter's name. Its top 24 bits, as an integer
centred on zero, times ``bound / 2**23``, is the value: one rounding, in float32, hence
the same on every machine, and never less than ``-bound`` nor as much as ``bound``.
In a layout that begins silent (``split/blocks.py``) what joins two blocks is zero.
"""

from __future__ import annotations

import hashlib
import math

import numpy as np
from numpy.typing import NDArray

from p2pfusion.errors import LocalProtocolError
from p2pfusion.split.blocks import block_of_cells
from p2pfusion.split.indices import IndexSet
from p2pfusion.split.layout import Initial, Layout, ParameterSpec
from p2pfusion.split.segment import Segment
from p2pfusion.store.files import Floats
from p2pfusion.store.rectangles import BLOCK_ELEMENTS, pick, row_blocks

WORDS_PER_COUNTER = 8
"""A Philox4x64 block is four 64-bit, that is eight 32-bit words."""

CENTRE = 1 << 23


def initial_values(
    layout: Layout, seed: int, parameter_index: int, start_row: int, stop_row: int
) -> Floats:
    """Rows ``start_row`` to ``stop_row`` of a parameter as nobody has trained it yet.

    The shape is ``(stop_row - start_row, *shape[1:])``; a tensor without dimensions is
    one row.
    """
    parameter = layout.parameters[parameter_index]
    row_count = parameter.shape[0] if parameter.shape else 1
    if not 0 <= start_row <= stop_row <= row_count:
        raise LocalProtocolError(
            f"rows {start_row} to {stop_row} of the {row_count} of {parameter.name!r}"
        )
    row_shape = parameter.shape[1:]
    row_size = math.prod(row_shape)
    values = np.empty((stop_row - start_row) * row_size, np.float32)
    key = _key(seed, parameter.name)
    for start in range(0, values.size, BLOCK_ELEMENTS):
        block = values[start : start + BLOCK_ELEMENTS]
        _fill(block, parameter.initial, key, start_row * row_size + start)
    rows = values.reshape(stop_row - start_row, *row_shape)
    if parameter.initial.blocks > 1:
        _silence(rows, layout, parameter, start_row)
    return rows


def _silence(
    rows: Floats, layout: Layout, parameter: ParameterSpec, start_row: int
) -> None:
    """Zeroes what joins different blocks of two axes; the rest stays as drawn."""
    first: NDArray[np.int64] | None = None
    for place, dimension in enumerate(parameter.dimensions):
        if dimension.axis is None:
            continue
        axis = layout.axis(dimension.axis)
        blocks = np.array(block_of_cells(axis, parameter.initial.blocks))
        start, size = (0, dimension.size) if place else (start_row, len(rows))
        indices = np.arange(start, start + size) // dimension.inner % axis.size
        found = blocks[indices // axis.cell_size]
        found = found.reshape(-1, *[1] * (rows.ndim - place - 1))
        if first is None:
            first = found
        else:
            np.copyto(rows, 0.0, where=first != found)


def fill_initial(
    layout: Layout, seed: int, segment: Segment, mask: NDArray[np.bool_], into: Floats
) -> None:
    """Put initial values into a segment's dense array, where the mask says so.

    Made some rows at a time: in whole rows, of which the segment's columns are taken.
    """
    shape = layout.parameters[segment.parameter].shape
    rows, *columns = segment.sets or (IndexSet.span(0, 1),)
    dense = into.reshape(len(rows), *into.shape[1:])
    masks = mask.reshape(dense.shape)
    offset = 0
    for start, stop in row_blocks(rows, shape):
        made = initial_values(layout, seed, segment.parameter, start, stop)
        place = slice(offset, offset + stop - start)
        fresh = np.empty_like(dense[place])
        pick(made, (IndexSet.span(0, stop - start), *columns), fresh)
        np.copyto(dense[place], fresh, where=masks[place])
        offset += stop - start


def _key(seed: int, name: str) -> NDArray[np.uint64]:
    digest = hashlib.sha256(f"p2pfusion initial\0{seed}\0{name}".encode()).digest()
    return np.frombuffer(digest[:16], "<u8").astype(np.uint64)


def _fill(
    block: Floats, initial: Initial, key: NDArray[np.uint64], first_element: int
) -> None:
    if initial.kind != "uniform":
        block[:] = 1.0 if initial.kind == "ones" else 0.0
        return
    words = _words(key, first_element, first_element + block.size)
    block[:] = (words >> 8).astype(np.int32) - CENTRE
    block *= np.float32(initial.bound / CENTRE)


def _words(key: NDArray[np.uint64], start: int, stop: int) -> NDArray[np.uint32]:
    """Words ``start`` to ``stop`` of the stream of this key."""
    counter = start // WORDS_PER_COUNTER
    skipped = start - counter * WORDS_PER_COUNTER
    pairs = -(-(stop - counter * WORDS_PER_COUNTER) // 2)
    # numpy counts up before it makes a block: given n, the first is block n + 1.
    raw = np.random.Philox(key=key, counter=counter).random_raw(pairs)
    words = raw.astype("<u8", copy=False).view("<u4")
    return words[skipped : skipped + stop - start].astype(np.uint32, copy=False)
