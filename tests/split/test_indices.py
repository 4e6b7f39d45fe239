"""Index sets against Python sets."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pfusion.split.indices import IndexSet
from tests.strategies import index_sets, plain_data

spans = st.lists(st.tuples(st.integers(0, 30), st.integers(0, 30)), max_size=8)


@given(spans)
def test_any_ranges_give_their_union(ranges: list[tuple[int, int]]) -> None:
    members = {index for start, stop in ranges for index in range(start, stop)}
    found = IndexSet.from_ranges(ranges)
    assert list(found) == sorted(members)
    assert len(found) == len(members)
    assert bool(found) == bool(members)


@given(spans)
def test_equal_sets_have_equal_ranges(ranges: list[tuple[int, int]]) -> None:
    found = IndexSet.from_ranges(ranges)
    assert found == IndexSet.from_indices(reversed(list(found)))
    assert all(
        a[1] < b[0] for a, b in zip(found.ranges, found.ranges[1:], strict=False)
    )


@given(index_sets(), index_sets())
def test_algebra_is_that_of_python_sets(one: IndexSet, other: IndexSet) -> None:
    a, b = set(one), set(other)
    assert set(one & other) == a & b
    assert set(one | other) == a | b
    assert set(one - other) == a - b
    assert (one <= other) == (a <= b)
    assert one & other == other & one


@given(index_sets(), st.integers(0, 40))
def test_complement_is_everything_else_below_the_size(one: IndexSet, size: int) -> None:
    assert set(one.complement(size)) == set(range(size)) - set(one)


@given(index_sets())
def test_contains_agrees_with_iteration(one: IndexSet) -> None:
    assert [index for index in range(-1, 30) if index in one] == list(one)


@given(index_sets(), index_sets())
def test_positions_are_those_in_sorted_order(one: IndexSet, other: IndexSet) -> None:
    inside = one & other
    order = list(one)
    assert list(one.positions(inside)) == [order.index(index) for index in inside]


def test_positions_refuses_what_lies_outside() -> None:
    with pytest.raises(ValueError, match="subset"):
        IndexSet.span(2, 5).positions(IndexSet.span(1, 3))


@given(st.integers(-50, 50), st.integers(0, 20), st.integers(1, 20))
def test_cyclic_ranges_wrap_around(start: int, length: int, size: int) -> None:
    expected = {(start + step) % size for step in range(min(length, size))}
    assert set(IndexSet.cyclic(start, length, size)) == expected


@pytest.mark.parametrize(
    "ranges",
    [((2, 2),), ((3, 2),), ((-1, 2),), ((0, 2), (2, 3)), ((4, 5), (0, 1))],
)
def test_ranges_in_another_form_are_refused(
    ranges: tuple[tuple[int, int], ...],
) -> None:
    with pytest.raises(ValueError, match="ranges"):
        IndexSet(ranges)


@given(index_sets())
def test_data_round_trip(one: IndexSet) -> None:
    again = IndexSet.from_data(one.to_data())
    assert again == one and hash(again) == hash(one)


@given(plain_data | st.lists(st.lists(plain_data, min_size=2, max_size=2), max_size=3))
def test_hostile_data_gives_a_set_or_a_value_error(data: object) -> None:
    try:
        found = IndexSet.from_data(data)
    except ValueError:
        return
    assert [list(pair) for pair in data] == found.to_data()  # type: ignore[attr-defined]


@pytest.mark.parametrize("bound", [True, 1.0, float("nan"), "1", None, [1]])
def test_bounds_are_whole_numbers(bound: object) -> None:
    with pytest.raises(ValueError, match="pair of integers"):
        IndexSet.from_data([[bound, 9]])


def test_operations_cost_ranges_and_not_indices() -> None:
    huge = IndexSet.span(0, 2**60)
    evens = IndexSet.from_ranges(
        (2 * i * 2**40, (2 * i + 1) * 2**40) for i in range(99)
    )
    assert len(huge & evens) == 99 * 2**40
    assert (huge - evens) | evens == huge
    assert evens.positions(evens) == IndexSet.span(0, 99 * 2**40)
