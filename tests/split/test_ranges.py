"""Ranges: numbering, sizes and membership against cells."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from p2pfusion.split.grid import cell_elements
from p2pfusion.split.indices import IndexSet
from p2pfusion.split.layout import Layout
from p2pfusion.split.ranges import RANGES_PER_PEER, ranges_of
from p2pfusion.split.segment import Split
from tests.layouts import resnet18
from tests.split.histories import loose_splits
from tests.strategies import layouts

small_layouts = layouts().filter(lambda layout: layout.size <= 3_000)


@settings(max_examples=50)
@given(small_layouts, st.data())
def test_ranges_are_numbered_through(layout: Layout, data: st.DataObject) -> None:
    each = st.none() | loose_splits(layout)
    some = st.tuples(each, each)
    now, then = data.draw(some), data.draw(some)
    next_number = 0
    for grid in ranges_of(layout, now, then).grids:
        numbers = np.unique(grid.cells)
        assert numbers.tolist() == [next_number + n for n in range(len(grid.sizes))]
        next_number += len(grid.sizes)
        elements = cell_elements(layout, grid.signature)
        for number, size in zip(numbers, grid.sizes.tolist(), strict=True):
            assert elements[grid.cells == number].sum() == size
        expected = [
            0 if split is None else split_size(grid.signature.parameters, layout, split)
            for split in (*now, *then)
        ]
        assert grid.own_elements().tolist() == [
            expected[p] + expected[p + 2] for p in range(2)
        ]


def split_size(parameters: tuple[int, ...], layout: Layout, split: Split) -> int:
    return sum(split.segment(layout, parameter).size for parameter in parameters)


def test_each_axis_is_cut_once_per_kind_of_signature() -> None:
    layout = resnet18()
    full = Split.full(layout)
    grids = {
        g.signature.axes: g for g in ranges_of(layout, (full,) * 4, (full,) * 4).grids
    }
    # 16 ranges on one axis are 16 atoms; on two axes, 4 each.
    assert len(grids["stream2",].sizes) == 16
    assert grids["stream2", "inner2.1"].axes[0] is grids["stream2", "stream1"].axes[0]
    assert [len(axis.atoms) for axis in grids["stream2", "inner2.1"].axes] == [4, 4]
    assert len(grids[()].sizes) == 1


def test_membership_follows_the_splits() -> None:
    layout = resnet18()
    low, high = (
        Split(
            tuple(
                (a.name, IndexSet.span(part * a.size // 2, (part + 1) * a.size // 2))
                for a in layout.axes
            )
        )
        for part in (0, 1)
    )
    for grid in ranges_of(layout, (low, None), (None, high)).grids:
        held, wanted = grid.holders(), grid.next_holders()
        assert not held[1].any()
        assert not wanted[0].any()
        share = 2 ** len(grid.signature.axes)
        assert held[0] @ grid.sizes == wanted[1] @ grid.sizes == sum(grid.sizes) / share
        assert (held[0] & wanted[1]).any() == (not grid.signature.axes)


@pytest.mark.parametrize("peer_count", [1, 4, 16])
def test_equal_splits_make_enough_ranges(peer_count: int) -> None:
    layout = resnet18()
    full = (Split.full(layout),) * peer_count
    for grid in ranges_of(layout, full, full).grids:
        cells = grid.cells.size
        assert len(grid.sizes) >= min(cells, RANGES_PER_PEER * peer_count)
