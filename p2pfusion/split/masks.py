"""Masks: which cells of many axes there are, as few bytes that everybody can check.

A mask names for each of some axes a set of its grid cells. In bytes it is one bit per
cell, the axes one after the other in a known order, the first cell in the highest bit;
what is left of the last byte is zero. A set is never empty. So every mask has exactly
one encoding, and its length follows from the axes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from p2pfusion.errors import LayoutError
from p2pfusion.split.indices import IndexSet
from p2pfusion.split.layout import Axis

Mask = Mapping[str, IndexSet]
"""The grid cells of each axis, by the axis' name."""


def mask_bytes(axes: Sequence[Axis]) -> int:
    """How many bytes a mask of these axes has."""
    return -(-sum(axis.cell_count for axis in axes) // 8)


def encode_mask(axes: Sequence[Axis], mask: Mask) -> bytes:
    """The bytes of a mask; ``LayoutError`` if it is none of these axes."""
    bits = count = 0
    for axis in axes:
        cells = mask[axis.name]
        if not cells or not cells <= IndexSet.span(0, axis.cell_count):
            raise LayoutError(f"a mask has no cells of axis {axis.name!r}, or foreign")
        for cell in range(axis.cell_count):
            bits = bits << 1 | (cell in cells)
        count += axis.cell_count
    return (bits << -count % 8).to_bytes(mask_bytes(axes), "big")


def decode_mask(axes: Sequence[Axis], data: bytes) -> dict[str, IndexSet]:
    """The mask that ``encode_mask`` described; ``LayoutError`` for anything else."""
    if len(data) != mask_bytes(axes):
        raise LayoutError(
            f"a mask of these axes has {mask_bytes(axes)} bytes, not {len(data)}"
        )
    rest = len(data) * 8
    bits = int.from_bytes(data, "big")
    found = {}
    for axis in axes:
        rest -= axis.cell_count
        own = bits >> rest & (1 << axis.cell_count) - 1
        cells = range(axis.cell_count)
        found[axis.name] = IndexSet.from_indices(
            cell for cell in cells if own >> (axis.cell_count - 1 - cell) & 1
        )
        if not own:
            raise LayoutError(f"a mask has no cell of axis {axis.name!r}")
    if bits & (1 << rest) - 1:
        raise LayoutError("a mask has bits behind its end")
    return found
