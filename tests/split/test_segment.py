"""Splits and segments against sets of coordinates."""

from __future__ import annotations

from itertools import product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from p2pfusion.errors import LayoutError
from p2pfusion.split.indices import IndexSet
from p2pfusion.split.layout import Axis, Dimension, Initial, Layout, ParameterSpec
from p2pfusion.split.segment import Segment, Split, overlap
from tests.strategies import layouts, plain_data, splits

SMALL = Layout(
    (Axis("a", 4), Axis("b", 6, 2)),
    (
        ParameterSpec(
            "w", (Dimension(4, "a"), Dimension(12, "b", 2)), Initial("zeros")
        ),
        ParameterSpec("s", (), Initial("ones")),
    ),
)


def coordinates(segment: Segment) -> set[tuple[int, ...]]:
    return set(product(*segment.sets))


def entries(layout: Layout, split: Split) -> set[tuple[int, ...]]:
    """Every entry that the split holds, found entry by entry."""
    held = set()
    for index, parameter in enumerate(layout.parameters):
        for entry in product(*(range(size) for size in parameter.shape)):
            if all(
                d.axis is None
                or position // d.inner % layout.axis(d.axis).size in split[d.axis]
                for position, d in zip(entry, parameter.dimensions, strict=True)
            ):
                held.add((index, *entry))
    return held


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_a_split_holds_what_its_sets_say(data: st.DataObject) -> None:
    layout = data.draw(layouts())
    split = data.draw(splits(layout))
    found = [
        (segment.parameter, *entry)
        for segment in split.segments(layout)
        for entry in product(*segment.sets)
    ]
    assert len(found) == len(set(found)) == split.size(layout)
    assert set(found) == entries(layout, split)


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_the_overlap_is_what_both_hold(data: st.DataObject) -> None:
    layout = data.draw(layouts())
    one, other = data.draw(splits(layout)), data.draw(splits(layout))
    common = overlap(layout, one, other)
    assert common == overlap(layout, other, one)
    assert all(segment.size for segment in common)
    found = {(s.parameter, *entry) for s in common for entry in coordinates(s)}
    assert found == entries(layout, one) & entries(layout, other)


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_positions_find_the_inner_segment_in_the_dense_array(
    data: st.DataObject,
) -> None:
    layout = data.draw(layouts())
    one, other = data.draw(splits(layout)), data.draw(splits(layout))
    for inner in overlap(layout, one, other):
        outer = one.segment(layout, inner.parameter)
        for held, wanted, at in zip(
            outer.sets, inner.sets, outer.positions(inner), strict=True
        ):
            order = list(held)
            assert [order[position] for position in at] == list(wanted)


def test_segments_of_different_parameters_do_not_meet() -> None:
    with pytest.raises(ValueError, match="different parameters"):
        Segment(0, ()) & Segment(1, ())


@given(layouts())
def test_the_full_split_holds_the_whole_model(layout: Layout) -> None:
    full = Split.full(layout)
    assert full.size(layout) == layout.size
    assert full.sizes() == {axis.name: axis.size for axis in layout.axes}
    shapes = [segment.shape for segment in full.segments(layout)]
    assert shapes == [parameter.shape for parameter in layout.parameters]


@given(st.data())
def test_data_round_trip(data: st.DataObject) -> None:
    layout = data.draw(layouts())
    split, other = data.draw(splits(layout)), data.draw(splits(layout))
    again = Split.from_data(split.to_data(), layout)
    assert again == split and hash(again) == hash(split)
    pairs = zip(again.segments(layout), split.segments(layout), strict=True)
    assert all(hash(one) == hash(same) for one, same in pairs)
    assert again.digest == split.digest
    assert (other.digest == split.digest) == (other == split)


@given(
    plain_data
    | st.lists(st.tuples(st.sampled_from(["a", "b", "c"]), plain_data), max_size=3)
    | st.tuples(
        st.tuples(st.just("a"), plain_data), st.tuples(st.just("b"), plain_data)
    )
)
def test_any_data_gives_a_split_or_a_layout_error(data: object) -> None:
    try:
        split = Split.from_data(data, SMALL)
    except LayoutError:
        return
    assert Split.from_data(split.to_data(), SMALL) == split


@pytest.mark.parametrize(
    "data",
    [
        [["a", [[0, 2]]]],
        [["b", [[0, 2]]], ["a", [[0, 2]]]],
        [["a", [[0, 2]]], ["a", [[0, 2]]]],
        [["a", [[0, 2]]], ["b", [[0, 2]]], ["b", [[0, 2]]]],
        [["a", [[0, 5]]], ["b", [[0, 2]]]],
        [["a", [[0, 2]]], ["b", [[0, 3]]]],
        [["a", [[0, 2], [2, 3]]], ["b", [[0, 2]]]],
        [["a", [[True, 2]]], ["b", [[0, 2]]]],
        [["a", [[0, 10**5000]]], ["b", [[0, 2]]]],
        {"a": [[0, 2]], "b": [[0, 2]]},
    ],
)
def test_what_does_not_fit_is_refused(data: object) -> None:
    with pytest.raises(LayoutError):
        Split.from_data(data, SMALL)


def test_a_split_is_read_like_a_mapping() -> None:
    split = Split.of({"a": IndexSet.span(0, 2), "b": IndexSet.span(2, 6)})
    assert split["b"] == IndexSet.span(2, 6)
    with pytest.raises(KeyError):
        split["c"]
