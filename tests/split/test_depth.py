"""Depth: the same model with gates and without, and splits that lack layers."""

from __future__ import annotations

from itertools import dropwhile, takewhile

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pfusion.errors import LayoutError
from p2pfusion.split.depth import (
    cut_in_depth,
    depth_split,
    first_blocks,
    gate,
    is_cut_in_depth,
    private_widths,
    tensor_shape,
    without_gates,
)
from p2pfusion.split.indices import IndexSet
from p2pfusion.split.layout import Layout
from p2pfusion.split.segment import Split
from p2pfusion.store.initial import initial_values
from tests.strategies import layouts, splits


@given(layouts())
def test_gates_come_and_go(layout: Layout) -> None:
    deep, plain = cut_in_depth(layout), without_gates(layout)
    assert is_cut_in_depth(deep) and not is_cut_in_depth(plain)
    assert cut_in_depth(deep) == deep and without_gates(plain) == plain
    assert cut_in_depth(plain) == deep and without_gates(deep) == plain
    assert deep.widths == plain.axes == plain.widths
    assert len(deep.axes) - len(plain.axes) == len(layout.layers)
    assert [tensor_shape(p) for p in deep.parameters] == [
        p.shape for p in plain.parameters
    ]
    assert [p.shape[1:] for p in deep.parameters] == [p.shape for p in plain.parameters]
    assert Layout.from_data(deep.to_data()) == deep


@given(layouts(), st.integers(0, 2**32))
def test_values_begin_alike(layout: Layout, seed: int) -> None:
    deep, plain = cut_in_depth(layout), without_gates(layout)
    for index, parameter in enumerate(plain.parameters):
        rows = parameter.shape[0] if parameter.shape else 1
        one = initial_values(deep, seed, index, 0, 1)
        other = initial_values(plain, seed, index, 0, rows)
        assert np.array_equal(one.ravel(), other.ravel())


@given(st.data())
def test_a_split_has_whole_layers_or_nothing_of_them(data: st.DataObject) -> None:
    layout = cut_in_depth(data.draw(layouts()))
    layers = layout.layers
    held = data.draw(st.sets(st.sampled_from(layers)))
    frozen = data.draw(st.sets(st.sampled_from(sorted(held)))) if held else set()
    split = depth_split(layout, held, frozen=frozen)
    assert split.frozen == {gate(layer) for layer in frozen}
    assert Split.from_data(split.to_data(), layout) == split
    for index, parameter in enumerate(layout.parameters):
        there = parameter.size if parameter.layer in held else 0
        trains = 0 if parameter.layer in frozen else there
        assert split.segment(layout, index).size == there
        assert split.trained.segment(layout, index).size == trains


@given(st.data())
def test_what_is_frozen_is_part_of_a_splits_name(data: st.DataObject) -> None:
    layout = data.draw(layouts())
    split = data.draw(splits(layout))
    assert (split.trained.digest == split.digest) == (not split.frozen)
    assert split.trained.trained == split.trained
    assert Split.from_data(split.to_data(), layout) == split


@pytest.mark.parametrize(
    "row",
    [
        ["layer 0", [[0, 1]], "thawed"],
        ["layer 0", [[0, 1]], "frozen", "frozen"],
        ["layer 0"],
        ["layer 0", [[0, 2]]],
    ],
)
def test_a_malformed_gate_is_refused(row: list[object]) -> None:
    layout = cut_in_depth(LAYOUT)
    good = Split.full(layout).to_data()
    assert good[0][0] == "layer 0"
    with pytest.raises(LayoutError):
        Split.from_data([row, *good[1:]], layout)


def test_a_width_cannot_be_frozen() -> None:
    row = ["a", [[0, 4]], "frozen"]
    with pytest.raises(LayoutError, match="malformed split of axis 'a'"):
        Split.from_data([row], LAYOUT)
    assert Split.from_data([row[:2]], LAYOUT)["a"] == IndexSet.span(0, 4)


LAYOUT = Layout.from_data(
    {
        "axes": [["a", 4, 1]],
        "parameters": [["w", [[4, "a", 1, 1]], ["zeros", 0.0], 0]],
    }
)


# --- Blocks and exits ----------------------------------------------------------------


def followers(layout: Layout, axis: str) -> set[int]:
    return {p.layer for p in layout.parameters if axis in p.axes}


@given(st.booleans(), layouts())
def test_a_block_is_a_layer_with_widths_of_its_own(deep: bool, layout: Layout) -> None:
    layout = cut_in_depth(layout) if deep else without_gates(layout)
    blocks = private_widths(layout)
    assert list(blocks) == sorted(blocks)
    for axis in layout.widths:
        found = followers(layout, axis.name)
        owners = {layer for layer, axes in blocks.items() if axis in axes}
        assert owners == (found if len(found) == 1 else set())


@given(layouts(), st.integers(0, 5))
def test_a_model_has_its_first_blocks_and_one_exit_at_or_behind_their_end(
    layout: Layout, count: int
) -> None:
    layers, blocks = layout.layers, list(private_widths(layout))
    held = first_blocks(layout, count)
    assert list(held) == sorted(held) and set(held) <= set(layers)
    assert [n for n in blocks if n in held] == blocks[:count]
    for layer in set(layers) - set(blocks):
        below = [n for n in reversed(layers) if n < layer]
        from_block = dropwhile(lambda n: n not in blocks, below)
        read = set(takewhile(lambda n: n in blocks, from_block))
        assert (layer in held) == (not read or bool(read & set(blocks[: count or 1])))
    if count >= len(blocks):
        assert held == layers
