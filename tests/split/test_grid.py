"""Arithmetic on grids against single cells."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pfusion.errors import LayoutError
from p2pfusion.split.grid import (
    Mask,
    cell_elements,
    cell_lengths,
    cell_mask,
    grid_mask,
    grid_shape,
    mask_segments,
    rectangles,
)
from p2pfusion.split.indices import IndexSet
from p2pfusion.split.layout import Axis, Layout
from tests.split.histories import coordinates, loose_splits, split_coordinates
from tests.strategies import axes, index_sets, layouts

small_layouts = layouts().filter(lambda layout: layout.size <= 3_000)


@st.composite
def masks(draw: st.DrawFn) -> Mask:
    """Boolean grids of none to three dimensions."""
    shape = draw(st.lists(st.integers(1, 4), max_size=3))
    size = int(np.prod(shape))
    bits = draw(st.lists(st.booleans(), min_size=size, max_size=size))
    return np.array(bits, np.bool_).reshape(shape)


@given(masks())
def test_rectangles_partition_a_mask(mask: Mask) -> None:
    found = [cell for sets in rectangles(mask) for cell in itertools.product(*sets)]
    assert len(found) == len(set(found))
    expected = map(tuple, np.argwhere(mask).tolist()) if mask.ndim else [()] * int(mask)
    assert sorted(found) == sorted(expected)


@given(masks())
def test_rows_alike_share_a_rectangle(mask: Mask) -> None:
    found = list(rectangles(mask))
    if mask.ndim == 2:
        patterns = {row.tobytes() for row in mask if row.any()}
        assert len(found) == len(patterns)
    firsts = [sets[0].ranges[0][0] for sets in found if sets]
    assert firsts == sorted(firsts)


@given(axes(), st.data())
def test_cell_masks_are_the_cells_of_a_set(axis: Axis, data: st.DataObject) -> None:
    cells = data.draw(index_sets(axis.cell_count))
    mask = cell_mask(axis, axis.cells(cells))
    assert np.flatnonzero(mask).tolist() == list(cells)
    assert int(cell_lengths(axis)[mask].sum()) == len(axis.cells(cells))


def test_a_part_of_a_cell_is_refused() -> None:
    with pytest.raises(LayoutError):
        cell_mask(Axis("a", 64), IndexSet.span(0, 3))


@given(small_layouts, st.data())
def test_grids_of_a_split_have_its_elements(
    layout: Layout, data: st.DataObject
) -> None:
    split = data.draw(loose_splits(layout))
    found = []
    for signature in layout.signatures:
        mask = grid_mask(layout, signature, split)
        assert mask.shape == grid_shape(layout, signature)
        segments = list(mask_segments(layout, signature, mask))
        size = sum(segment.size for segment in segments)
        assert size == cell_elements(layout, signature)[mask].sum()
        found += segments
    assert coordinates(found) == split_coordinates(layout, split)
