"""Blocks of axes, and layouts that begin silent between them."""

from __future__ import annotations

from fractions import Fraction
from math import sqrt

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pfusion.errors import ConfigError, LayoutError
from p2pfusion.split.blocks import (
    block_of_cells,
    block_window,
    check_blocks,
    part_of_block,
    silenced,
)
from p2pfusion.split.comparison import first_difference
from p2pfusion.split.layout import Axis, Dimension, Initial, Layout, ParameterSpec

WEIGHT = Initial("uniform", 0.5)
LAYOUT = Layout(
    (Axis("a", 16), Axis("b", 12, 2)),
    (
        ParameterSpec("in", (Dimension(16, "a"), Dimension(3)), WEIGHT),
        ParameterSpec("mid", (Dimension(12, "b"), Dimension(16, "a")), WEIGHT),
        ParameterSpec("gain", (Dimension(12, "b"),), Initial("ones")),
        ParameterSpec(
            "zero", (Dimension(12, "b"), Dimension(16, "a")), Initial("zeros")
        ),
    ),
)


@st.composite
def axes_and_blocks(draw: st.DrawFn) -> tuple[Axis, int]:
    unit = draw(st.integers(1, 4))
    axis = Axis("x", unit * draw(st.integers(1, 90)), unit)
    return axis, draw(st.integers(1, axis.cell_count))


@given(found=axes_and_blocks())
def test_blocks_are_all_of_the_axis_and_share_nothing(found: tuple[Axis, int]) -> None:
    axis, blocks = found
    windows = [block_window(axis, block, 1, blocks) for block in range(blocks)]
    assert sum(len(window) for window in windows) == axis.size
    assert {i for window in windows for i in window} == set(range(axis.size))
    cells = [len(axis.cells_in(window)) for window in windows]
    assert max(cells) - min(cells) <= 1, "as even as cells allow"
    for block, window in enumerate(windows):
        for cell in axis.cells_in(window):
            assert block_of_cells(axis, blocks)[cell] == block


@given(found=axes_and_blocks(), first=st.integers(0, 200), data=st.data())
def test_several_blocks_are_one_after_the_other_around_the_axis(
    found: tuple[Axis, int], first: int, data: st.DataObject
) -> None:
    axis, blocks = found
    count = data.draw(st.integers(1, blocks + 1))
    several = set(block_window(axis, first, count, blocks))
    singly = (block_window(axis, first + n, 1, blocks) for n in range(count))
    assert several == {i for window in singly for i in window}


def test_blocks_share_the_cells_of_an_axis_that_has_too_few() -> None:
    windows = [list(block_window(Axis("x", 8, 4), b, 1, 3)) for b in range(3)]
    assert windows == [[0, 1, 2, 3], [0, 1, 2, 3], [4, 5, 6, 7]]


def test_an_axis_with_too_few_cells_cannot_begin_silent() -> None:
    with pytest.raises(ConfigError, match="'b' has only 6 separable cells"):
        silenced(LAYOUT, 8)


def test_only_weights_between_two_axes_begin_silent() -> None:
    silent = silenced(LAYOUT, 4)
    assert [p.initial.blocks for p in silent.parameters] == [1, 4, 1, 1]
    assert silent.parameters[1].initial.bound == 0.5 * sqrt(4)
    assert (silent.blocks, LAYOUT.blocks) == (4, 1)
    assert first_difference(LAYOUT, silent) is None
    assert silent.digest != LAYOUT.digest
    assert silenced(LAYOUT, 1) == LAYOUT


def test_a_silent_layout_travels() -> None:
    silent = silenced(LAYOUT, 3)
    assert Layout.from_data(silent.to_data()) == silent
    data = silent.to_data()
    for rule in (["uniform", 0.5, 1], ["uniform", 0.5, 0], ["uniform", 0.5, 3, 3], []):
        data["parameters"][1] = [*LAYOUT.to_data()["parameters"][1][:2], rule, 0]
        with pytest.raises(LayoutError):
            Layout.from_data(data)


@given(found=axes_and_blocks(), block=st.integers(0, 99), width=st.integers(1, 40))
def test_a_part_of_a_block_is_its_beginning(
    found: tuple[Axis, int], block: int, width: int
) -> None:
    axis, blocks = found
    whole = list(axis.cells_in(block_window(axis, block, 1, blocks)))
    part = list(axis.cells_in(part_of_block(axis, block, blocks, width)))
    assert part == whole[:width]


def test_a_swarm_does_not_begin_with_blocks_that_nobody_can_train_whole() -> None:
    silent = silenced(LAYOUT, 4)
    check_blocks(silent, Fraction(1, 4), "here")
    check_blocks(LAYOUT, Fraction(1, 8), "here")
    with pytest.raises(ConfigError, match=r"here: .* 0\.125 is less") as caught:
        check_blocks(silent, Fraction(1, 8), "here")
    assert "blocks to 8" in str(caught.value.hint)
