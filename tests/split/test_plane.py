"""Lines of a finite plane: what makes it one, and windows against plain counting."""

from __future__ import annotations

from itertools import combinations, product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pfusion.errors import ConfigError
from p2pfusion.limits import MAX_CELLS_PER_AXIS
from p2pfusion.split.blocks import block_window
from p2pfusion.split.layout import Axis, Layout
from p2pfusion.split.plane import (
    ORDERS,
    check_order,
    check_points,
    line_window,
    part_of_line,
    plane,
)


@st.composite
def axes_and_orders(draw: st.DrawFn) -> tuple[Axis, int]:
    order, unit = draw(st.sampled_from(ORDERS)), draw(st.integers(1, 3))
    cell_count = order**2 * draw(st.integers(1, MAX_CELLS_PER_AXIS // order**2))
    return Axis("x", unit * cell_count, unit), order


@pytest.mark.parametrize("order", ORDERS)
def test_two_points_are_together_on_exactly_one_line(order: int) -> None:
    lines = [set(line) for direction in plane(order) for line in direction]
    for pair in combinations(range(order**2), 2):
        assert sum(set(pair) <= line for line in lines) == 1, pair


@pytest.mark.parametrize("order", ORDERS)
def test_lines_of_one_direction_share_nothing_and_others_one_point(order: int) -> None:
    directions = plane(order)
    assert len(directions) == order + 1
    for lines in directions:
        assert sorted(point for line in lines for point in line) == [*range(order**2)]
    for one, other in combinations(directions, 2):
        for pair in product(one, other):
            assert len(set(pair[0]) & set(pair[1])) == 1


@given(found=axes_and_orders(), first=st.integers(0, 20), data=st.data())
def test_several_lines_are_the_cells_of_their_points(
    found: tuple[Axis, int], first: int, data: st.DataObject
) -> None:
    axis, order = found
    direction = data.draw(st.integers(0, order))
    count = data.draw(st.integers(1, order + 1))
    points = {
        point
        for step in range(count)
        for point in plane(order)[direction][(first + step) % order]
    }
    cells_per_point = axis.cell_count // order**2
    cells = range(axis.cell_count)
    expected = {cell for cell in cells if cell // cells_per_point in points}
    window = line_window(axis, direction, first, count, order)
    assert set(axis.cells_in(window)) == expected
    assert len(expected) == min(count, order) * order * cells_per_point


@given(found=axes_and_orders(), first=st.integers(0, 8))
def test_the_first_direction_is_the_blocks(found: tuple[Axis, int], first: int) -> None:
    axis, order = found
    first %= order
    assert line_window(axis, 0, first, 1, order) == block_window(axis, first, 1, order)


@given(found=axes_and_orders(), first=st.integers(0, 8), width=st.integers(1, 30))
def test_a_part_of_a_line_is_its_beginning(
    found: tuple[Axis, int], first: int, width: int
) -> None:
    axis, order = found
    whole = list(axis.cells_in(line_window(axis, order, first, 1, order)))
    part = list(axis.cells_in(part_of_line(axis, order, first, order, width)))
    assert part == whole[:width]


def test_what_has_no_lines_is_refused() -> None:
    for order in (0, 1, 6, 7):
        with pytest.raises(ConfigError, match=f"no lines with {order} points"):
            check_order(order, "blocks")
    check_points(Layout((Axis("a", 16),), ()), 4)
    with pytest.raises(ConfigError, match="'a' has 15 separable cells"):
        check_points(Layout((Axis("a", 15),), ()), 4)
