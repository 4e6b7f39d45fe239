"""Cells of segments, against one element at a time."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pfusion.errors import LocalProtocolError
from p2pfusion.split.layout import Layout
from p2pfusion.split.segment import Segment
from p2pfusion.store.cells import Cells
from tests.strategies import index_sets, layouts, splits


def slow_cell(layout: Layout, parameter: int, place: tuple[int, ...]) -> tuple:
    """The cell of one element."""
    found = []
    for dimension, position in zip(
        layout.parameters[parameter].dimensions, place, strict=True
    ):
        if dimension.axis is not None:
            axis = layout.axis(dimension.axis)
            index = position // dimension.inner % axis.size
            found.append(index // axis.cell_size)
    return tuple(found)


@given(st.data())
def test_touched_cells_and_masks_are_those_of_the_elements(
    data: st.DataObject,
) -> None:
    layout = data.draw(layouts())
    cells = Cells(layout)
    parameter = data.draw(st.integers(0, len(layout.parameters) - 1))
    shape = layout.parameters[parameter].shape
    segment = Segment(parameter, tuple(data.draw(index_sets(n)) for n in shape))
    index = cells.signature(parameter)
    assert parameter in layout.signatures[index].parameters
    marks = np.zeros(cells.shape(index), np.bool_)
    marks[cells.touched(segment)] = True
    positions = [list(indices) for indices in segment.sets]
    expected = np.zeros_like(marks)
    drawn = np.random.default_rng(1).random(marks.shape) < 0.5
    mask = cells.of_elements(segment, np.asarray(drawn))
    for dense in np.ndindex(*segment.shape):
        place = tuple(row[i] for row, i in zip(positions, dense, strict=True))
        cell = slow_cell(layout, parameter, place)
        expected[cell] = True
        assert mask[dense] == drawn[cell]
    # Touched is the product over the axes of what is touched on each.
    if segment.size:
        assert (marks >= expected).all()


@given(st.data())
def test_a_split_covers_its_cells_in_every_signature(data: st.DataObject) -> None:
    layout = data.draw(layouts())
    split = data.draw(splits(layout))
    covered = Cells(layout).covered(tuple(split.segments(layout)))
    for index, signature in enumerate(layout.signatures):
        assert covered[index].size == Cells(layout).count(index)
        for cell, marked in np.ndenumerate(covered[index]):
            assert marked == all(
                number * layout.axis(axis).cell_size in split[axis]
                for axis, number in zip(signature.axes, cell, strict=True)
            )


@given(st.data())
def test_a_part_of_a_signature_is_refused(data: st.DataObject) -> None:
    layout = data.draw(layouts())
    signature = data.draw(st.sampled_from(layout.signatures))
    split = data.draw(splits(layout))
    segments = [split.segment(layout, p) for p in signature.parameters]
    if len(segments) < 2 or not segments[0].size:
        return
    with pytest.raises(LocalProtocolError, match="than of another parameter"):
        Cells(layout).covered(segments[1:])
