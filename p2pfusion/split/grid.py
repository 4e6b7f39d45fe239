"""Arithmetic on the grid of a signature: the product of the cells of its axes.

Windows start and end on the cells of an axis, so whatever planning must know about a
signature's parameters fits in small arrays over this grid, shaped as the cell counts of
its axes. A signature without axes has the grid of shape ``()``: one cell.

Source of the grid: ``layout.Axis.cell_size``.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from p2pfusion.split.indices import IndexSet
from p2pfusion.split.layout import Axis, Layout, Signature
from p2pfusion.split.segment import Segment, Split

REMEMBERED_MASKS = 256
"""Parts of a signature's grid of which is remembered what segments they are: what some
rounds of a small swarm get from homes."""

Mask = NDArray[np.bool_]
Counts = NDArray[np.int64]


def grid_shape(layout: Layout, signature: Signature) -> tuple[int, ...]:
    """Number of cells of each of the signature's axes."""
    return tuple(layout.axis(name).cell_count for name in signature.axes)


def elements_per_position(layout: Layout, signature: Signature) -> int:
    """Elements, over all parameters, that follow one combination of axis indices."""
    return sum(
        math.prod(
            d.size if d.axis is None else d.outer * d.inner
            for d in layout.parameters[parameter].dimensions
        )
        for parameter in signature.parameters
    )


def cell_lengths(axis: Axis) -> Counts:
    """Number of indices in each cell of the axis."""
    starts = np.arange(axis.cell_count, dtype=np.int64) * axis.cell_size
    return np.minimum(starts + axis.cell_size, axis.size) - starts


@lru_cache(maxsize=256)  # the signatures of a model, in round after round
def cell_elements(layout: Layout, signature: Signature) -> Counts:
    """Number of elements, over all parameters, in each cell of the grid."""
    lengths = [cell_lengths(layout.axis(name)) for name in signature.axes]
    each = elements_per_position(layout, signature)
    found = np.asarray(outer_product(lengths) * each)  # without axes it is a scalar
    found.flags.writeable = False
    return found


def outer_product(factors: Sequence[Counts]) -> Counts:
    """Products of one entry of each factor, as an array with an axis per factor."""
    product = np.ones((), np.int64)
    for factor in factors:
        product = product[..., None] * factor
    return product


def outer_and(masks: Sequence[Mask], lead: int) -> Mask:
    """Which combinations of last-axis entries all masks hold, per one of ``lead``.

    Every mask is (lead, n_i); the result is (lead, n_0, n_1, ...).
    """
    product = np.ones((lead, *(1 for _ in masks)), np.bool_)
    for position, mask in enumerate(masks):
        shape = [lead, *(1 for _ in masks)]
        shape[position + 1] = mask.shape[1]
        product = product & mask.reshape(shape)
    return product


def cell_mask(axis: Axis, indices: IndexSet) -> Mask:
    """Which cells the indices are; ``LayoutError`` if they are not whole cells."""
    mask = np.zeros(axis.cell_count, np.bool_)
    for start, stop in axis.cells_in(indices).ranges:
        mask[start:stop] = True
    return mask


def grid_mask(layout: Layout, signature: Signature, split: Split) -> Mask:
    """Which cells of the grid the split holds."""
    masks = [cell_mask(layout.axis(name), split[name]) for name in signature.axes]
    product: Mask = outer_and([mask[None] for mask in masks], 1)[0]
    return product


def rectangles(mask: Mask) -> Iterator[tuple[IndexSet, ...]]:
    """A boolean grid as few disjoint products of index sets, in canonical order.

    Rows with the same pattern form one rectangle per rectangle of the pattern;
    rectangles are ordered by their first row.
    """
    if mask.ndim == 0:
        if mask:
            yield ()
        return
    patterns: dict[bytes, list[int]] = {}
    for row in np.flatnonzero(mask.reshape(len(mask), -1).any(axis=1)).tolist():
        patterns.setdefault(mask[row].tobytes(), []).append(row)
    for rows in patterns.values():
        chosen = IndexSet.from_indices(rows)
        for rest in rectangles(mask[rows[0]]):
            yield (chosen, *rest)


def single_cells(mask: Mask) -> Iterator[tuple[IndexSet, ...]]:
    """A boolean grid as products of one cell each, in C order."""
    for place in np.argwhere(mask).tolist():
        yield tuple(IndexSet.from_indices([index]) for index in place)


def mask_segments(
    layout: Layout, signature: Signature, mask: Mask
) -> tuple[Segment, ...]:
    """The cells of a grid as segments: rectangle by rectangle, then by parameter."""
    return _mask_segments(layout, signature, mask.tobytes())


# Windows move in a circle: the same cells come from homes again.
@lru_cache(maxsize=REMEMBERED_MASKS)
def _mask_segments(
    layout: Layout, signature: Signature, cells: bytes
) -> tuple[Segment, ...]:
    mask = np.frombuffer(cells, np.bool_).reshape(grid_shape(layout, signature))
    return tuple(product_segments(layout, signature, rectangles(mask)))


def product_segments(
    layout: Layout, signature: Signature, products: Iterable[tuple[IndexSet, ...]]
) -> Iterator[Segment]:
    """Products of sets of cells as segments: product by product, then by parameter."""
    axes = [layout.axis(name) for name in signature.axes]
    for cells in products:
        indices = [axis.cells(each) for axis, each in zip(axes, cells, strict=True)]
        for parameter in signature.parameters:
            yield _rectangle_segment(layout, parameter, indices)


def _rectangle_segment(
    layout: Layout, parameter: int, indices: Sequence[IndexSet]
) -> Segment:
    """The part of a parameter that has these indices of its axes, in their order."""
    rest = iter(indices)
    return Segment(
        parameter,
        tuple(
            d.expand(None, 0)
            if d.axis is None
            else d.expand(next(rest), layout.axis(d.axis).size)
            for d in layout.parameters[parameter].dimensions
        ),
    )
