"""Layouts: the grid of an axis, what is refused, and hostile descriptions."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pfusion.errors import LayoutError
from p2pfusion.limits import MAX_CELLS_PER_AXIS, MAX_LAYOUT_ELEMENTS, MAX_PARAMETERS
from p2pfusion.split.indices import IndexSet
from p2pfusion.split.layout import (
    MAX_OUTER,
    Axis,
    Dimension,
    Initial,
    Layout,
    ParameterSpec,
)
from tests.strategies import axes, index_sets, layouts, plain_data

ZEROS = Initial("zeros")


def layout_of(axis: Axis, *dimensions: Dimension) -> Layout:
    return Layout((axis,), (ParameterSpec("weight", dimensions, ZEROS),))


@given(axes())
def test_cells_partition_the_axis_in_whole_units(axis: Axis) -> None:
    assert 1 <= axis.cell_count <= MAX_CELLS_PER_AXIS
    assert axis.cell_size % axis.unit == 0
    found = [axis.cells(IndexSet.span(c, c + 1)) for c in range(axis.cell_count)]
    assert [index for cell in found for index in cell] == list(range(axis.size))
    assert all(len(cell) == axis.cell_size for cell in found[:-1])


@given(axes())
def test_the_finest_even_grid_is_preferred(axis: Axis) -> None:
    units = axis.size // axis.unit
    fewest = -(-units // MAX_CELLS_PER_AXIS)
    even = [n for n in range(fewest, 2 * fewest + 1) if units % n == 0]
    assert axis.cell_size == axis.unit * (even[0] if even else fewest)


@given(st.data())
def test_cells_in_undoes_cells(data: st.DataObject) -> None:
    axis = data.draw(axes())
    cells = data.draw(index_sets(axis.cell_count))
    assert axis.cells_in(axis.cells(cells)) == cells


@given(st.data())
def test_cells_in_refuses_every_other_set(data: st.DataObject) -> None:
    axis = data.draw(axes())
    indices = data.draw(index_sets(axis.size + 3))
    cell_of = {index: index // axis.cell_size for index in indices}
    whole = {
        index
        for cell in cell_of.values()
        for index in axis.cells(IndexSet.span(cell, cell + 1))
    }
    if whole == set(indices):
        assert set(axis.cells_in(indices)) == set(cell_of.values())
    else:
        with pytest.raises(LayoutError):
            axis.cells_in(indices)


def test_the_grid_of_a_huge_axis_is_found_at_once() -> None:
    before = time.perf_counter()
    assert Axis("prime", (1 << 40) - 87).cell_count == MAX_CELLS_PER_AXIS
    assert time.perf_counter() - before < 0.1


@pytest.mark.parametrize(("size", "unit"), [(0, 1), (4, 0), (-4, 2), (5, 2), (2, 4)])
def test_an_axis_is_a_whole_number_of_units(size: int, unit: int) -> None:
    with pytest.raises(LayoutError, match="axis 'a'"):
        Axis("a", size, unit)


@given(st.data())
def test_expand_repeats_blocks_and_positions(data: st.DataObject) -> None:
    size, outer, inner = data.draw(st.tuples(*[st.integers(1, 5)] * 3))
    indices = data.draw(index_sets(size))
    dimension = Dimension(outer * size * inner, "a", outer, inner)
    expected = [
        (block * size + index) * inner + pixel
        for block in range(outer)
        for index in indices
        for pixel in range(inner)
    ]
    assert list(dimension.expand(indices, size)) == expected
    assert dimension.expand(None, size) == IndexSet.span(0, dimension.size)


def test_signatures_group_parameters_that_follow_the_same_axes() -> None:
    a, b = Axis("a", 2), Axis("b", 3)
    along_a, along_b = Dimension(2, "a"), Dimension(3, "b")
    shapes = [(along_a, along_b), (along_a,), (along_a, Dimension(7), along_b), ()]
    layout = Layout(
        (a, b), tuple(ParameterSpec(str(n), d, ZEROS) for n, d in enumerate(shapes))
    )
    found = {signature.axes: signature.parameters for signature in layout.signatures}
    assert found == {("a", "b"): (0, 2), ("a",): (1,), (): (3,)}


@given(layouts())
def test_data_round_trip(layout: Layout) -> None:
    again = Layout.from_data(layout.to_data())
    assert again == layout and hash(again) == hash(layout)
    assert again.digest == layout.digest


def test_the_digest_is_that_of_the_content() -> None:
    one = layout_of(Axis("a", 4), Dimension(4, "a"))
    other = layout_of(Axis("a", 4), Dimension(4))
    assert one.digest != other.digest


@pytest.mark.parametrize(
    ("dimension", "words"),
    [
        (Dimension(4, "b"), "unknown axis 'b'"),
        (Dimension(5, "a"), "not 1 x 4 x 1"),
        (Dimension(8, "a", 1, 1), "not 1 x 4 x 1"),
        (Dimension(0), "empty dimension"),
        (Dimension(-4, "a", -1, 1), "empty dimension"),
        (Dimension(4 * (MAX_OUTER + 1), "a", MAX_OUTER + 1), "repeats its axis"),
    ],
)
def test_contradictions_are_refused(dimension: Dimension, words: str) -> None:
    with pytest.raises(LayoutError, match=words):
        layout_of(Axis("a", 4), dimension)


def test_names_are_unique() -> None:
    axis, parameter = Axis("a", 4), ParameterSpec("p", (), ZEROS)
    with pytest.raises(LayoutError, match="two axes"):
        Layout((axis, axis), ())
    with pytest.raises(LayoutError, match="two parameters"):
        Layout((axis,), (parameter, parameter))


@pytest.mark.parametrize("bound", [-1.0, float("nan"), float("inf")])
def test_a_bound_is_a_finite_width(bound: float) -> None:
    with pytest.raises(LayoutError, match="bound"):
        Initial("uniform", bound)


# --- Layouts from elsewhere ----------------------------------------------------------

GOOD = {
    "axes": [["a", 4, 1]],
    "parameters": [["p", [[8, "a", 2, 1], [3, None, 1, 1]], ["uniform", 0.5], 0]],
}


def test_the_good_example_is_good() -> None:
    assert Layout.from_data(GOOD).size == 24


def expect_layout_or_layout_error(data: object) -> None:
    try:
        layout = Layout.from_data(data)
    except LayoutError:
        return
    assert Layout.from_data(layout.to_data()) == layout
    assert layout.size <= MAX_LAYOUT_ELEMENTS


@given(plain_data)
def test_any_data_gives_a_layout_or_a_layout_error(data: object) -> None:
    expect_layout_or_layout_error(data)
    expect_layout_or_layout_error({"axes": data, "parameters": []})
    expect_layout_or_layout_error({"axes": [], "parameters": [data]})


def places(data: object) -> list[tuple[object, ...]]:
    """Every place in nested lists and dictionaries, as a path from the root."""
    if isinstance(data, dict):
        items = list(data.items())
    elif isinstance(data, list):
        items = list(enumerate(data))
    else:
        items = []
    deeper = [(key, *path) for key, value in items for path in places(value)]
    return [(), *deeper]


def replaced(data: object, path: tuple[object, ...], value: object) -> object:
    if not path:
        return value
    if isinstance(data, dict):
        return {k: replaced(v, path[1:], value) if k == path[0] else v
                for k, v in data.items()}  # fmt: skip
    assert isinstance(data, list)
    return [replaced(v, path[1:], value) if k == path[0] else v
            for k, v in enumerate(data)]  # fmt: skip


@given(st.sampled_from(places(GOOD)), plain_data)
def test_one_wrong_value_anywhere_is_caught(
    path: tuple[object, ...], value: object
) -> None:
    expect_layout_or_layout_error(replaced(GOOD, path, value))


@pytest.mark.parametrize("path", [path for path in places(GOOD) if len(path) > 1])
@pytest.mark.parametrize(
    "value",
    [float("nan"), 10**5_000, -1, True, [[]], {}, b""],
    ids=["nan", "unprintable", "negative", "true", "list", "mapping", "bytes"],
)
def test_no_place_accepts_nonsense(path: tuple[object, ...], value: object) -> None:
    with pytest.raises(LayoutError):
        Layout.from_data(replaced(GOOD, path, value))


def parameters_with(count: int, *dimensions: list[object]) -> list[object]:
    return [[str(n), list(dimensions), ["zeros", 0.0], 0] for n in range(count)]


@pytest.mark.parametrize(
    "data",
    [
        {
            "axes": [["a", 1, 1]],
            "parameters": parameters_with(1, [2**40, "a", 2**40, 1]),
        },
        {
            "axes": [["a", 2, 1]],
            "parameters": parameters_with(1, [2**64, "a", 2**63, 1]),
        },
        {"axes": [["a", 2**41, 1]], "parameters": []},
        {"axes": [], "parameters": parameters_with(2, [2**40, None, 1, 1])},
        {"axes": [], "parameters": parameters_with(MAX_PARAMETERS + 1)},
        {"axes": [], "parameters": parameters_with(1, *[[1, None, 1, 1]] * 9)},
        {
            "axes": [["a", 8, 1]],
            "parameters": parameters_with(1, *[[8, "a", 1, 1]] * 4),
        },
        {
            "axes": [["a", 1, 1]],
            "parameters": parameters_with(65, [4_096, "a", 4_096, 1]),
        },
        {
            "axes": [[str(n), 32, 1] for n in range(130)],
            "parameters": [
                [str(n), [[32, str(n), 1, 1]] * 3, ["zeros", 0.0], 0]
                for n in range(130)
            ],
        },
    ],
    ids=[
        "copies of an axis",
        "beyond 64 bits",
        "axis",
        "elements",
        "parameters",
        "dimensions",
        "axes of one parameter",
        "copies altogether",
        "cells altogether",
    ],
)
def test_costly_layouts_are_refused_before_anything_expands_them(data: object) -> None:
    with pytest.raises(LayoutError):
        Layout.from_data(data)
