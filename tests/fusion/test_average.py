"""The streaming mean, against a dense mean under a mask."""

from __future__ import annotations

import gc
import math
import tracemalloc
import weakref
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from p2pfusion.errors import LocalProtocolError
from p2pfusion.fusion.average import MeanChange, StreamingMean
from p2pfusion.fusion.sums import WIDENED_ELEMENTS, Cursor

Floats = NDArray[np.float32]

# Multiples of 2**-10 below 2**10: twenty bits, so that all sums are exact.
exact_values = st.integers(-(2**20) + 1, 2**20 - 1).map(lambda n: n / 1024)
whole_weights = st.integers(1, 50).map(float)
any_values = st.floats(width=32, allow_nan=False, allow_infinity=False)


@dataclass(frozen=True)
class Stream:
    """A contribution as it travels: whole, or only its first ``arrived`` values."""

    positions: tuple[int, ...]
    weight: float
    values: Floats
    arrived: int
    borders: tuple[int, ...]


@st.composite
def streams(
    draw: st.DrawFn,
    sizes: list[int],
    values: st.SearchStrategy[float] = exact_values,
    weights: st.SearchStrategy[float] = whole_weights,
) -> Stream:
    """Some of the ranges, in any order, cut anywhere, possibly broken off."""
    positions = draw(st.lists(st.integers(0, len(sizes) - 1), unique=True))
    count = sum(sizes[p] for p in positions)
    content = draw(st.lists(values, min_size=count, max_size=count))
    arrived = draw(st.just(count) | st.integers(0, count))
    borders = draw(st.lists(st.integers(0, arrived), max_size=5).map(sorted))
    return Stream(
        tuple(positions),
        draw(weights),
        np.array(content, np.float32),
        arrived,
        tuple(borders),
    )


range_sizes = st.lists(st.integers(1, 7), min_size=1, max_size=6)


@st.composite
def arrivals(draw: st.DrawFn, **how: st.SearchStrategy[float]) -> tuple:
    """Ranges and contributions to them."""
    sizes = draw(range_sizes)
    return sizes, draw(st.lists(streams(sizes, **how), max_size=5))


def send(cursor: Cursor, stream: Stream) -> None:
    """Add a stream's values, cut at its borders."""
    for start, stop in zip(
        (0, *stream.borders), (*stream.borders, stream.arrived), strict=True
    ):
        cursor.add(stream.values[start:stop])


def mean_of(sizes: list[int], contributions: list[Stream]) -> StreamingMean:
    mean = StreamingMean(sizes)
    for stream in contributions:
        send(mean.open(stream.positions, stream.weight), stream)
    mean.close()
    return mean


def dense_sums(
    sizes: list[int], contributions: list[Stream]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Sums and divisors per element, from one full array and one mask per stream."""
    starts = [sum(sizes[:position]) for position in range(len(sizes))]
    sums, divisors = np.zeros(sum(sizes)), np.zeros(sum(sizes))
    for stream in contributions:
        places = [starts[p] + i for p in stream.positions for i in range(sizes[p])]
        full, mask = np.zeros(sum(sizes)), np.zeros(sum(sizes))
        for place, value in list(zip(places, stream.values, strict=True))[
            : stream.arrived
        ]:
            full[place], mask[place] = value, 1
        sums += stream.weight * full
        divisors += stream.weight * mask
    return sums, divisors


def by_range(sizes: list[int], elements: NDArray) -> list[NDArray]:
    return np.split(elements, np.cumsum(sizes)[:-1])


@given(arrivals())
def test_it_is_the_dense_mean_under_a_mask(arrived: tuple) -> None:
    sizes, contributions = arrived
    mean = mean_of(sizes, contributions)
    sums, divisors = dense_sums(sizes, contributions)
    expected = (sums / np.where(divisors, divisors, 1)).astype(np.float32)
    assert mean.result.dtype == np.float32
    for index, (found, wanted, weights) in enumerate(
        zip(
            by_range(sizes, mean.result),
            by_range(sizes, expected),
            by_range(sizes, divisors),
            strict=True,
        )
    ):
        assert mean.absent[index] == (weights.min() == 0)
        if not mean.absent[index]:
            assert found.tolist() == wanted.tolist()
            # What came only in part counts for its elements and not for the range.
            assert mean.weights[index] == weights.min()


@given(st.data())
def test_the_order_of_arrival_does_not_matter(data: st.DataObject) -> None:
    sizes, contributions = data.draw(arrivals())
    shuffled = data.draw(st.permutations(contributions))
    one, other = mean_of(sizes, contributions), mean_of(sizes, shuffled)
    assert one.result.tobytes() == other.result.tobytes()


@given(
    st.data(),
    st.sampled_from([0, 5, 22]),
    st.integers(2, 100),
)
def test_sums_are_exact_where_the_docstring_says_so(
    data: st.DataObject, spread: int, count: int
) -> None:
    """All 24 bits of a value in use, exponents ``spread`` apart, ``count`` peers."""
    assert math.log2(count) + spread <= 29
    mantissas = st.integers(2**23, 2**24 - 1) | st.integers(-(2**24) + 1, -(2**23))
    scaled = st.tuples(mantissas, st.sampled_from([0, spread]))
    distinct = data.draw(st.lists(scaled, min_size=1, max_size=4))
    numbers = [distinct[i % len(distinct)] for i in range(count)]
    exact = sum(mantissa << exponent for mantissa, exponent in numbers)
    mean = StreamingMean([1])
    for mantissa, exponent in numbers:
        mean.open([0], 1.0).add(np.array([mantissa << exponent], np.float32))
    mean.close()
    assert mean.result[0] == np.float32(np.float64(exact) / count)


@given(st.data())
def test_any_values_and_weights_differ_by_rounding_only(data: st.DataObject) -> None:
    weights = st.floats(0.001, 1000)
    sizes, contributions = data.draw(arrivals(values=any_values, weights=weights))
    shuffled = data.draw(st.permutations(contributions))
    one, other = mean_of(sizes, contributions), mean_of(sizes, shuffled)
    largest = max((abs(float(v)) for s in contributions for v in s.values), default=0.0)
    assert np.array_equal(one.absent, other.absent)
    for a, b, absent in zip(
        by_range(sizes, one.result),
        by_range(sizes, other.result),
        one.absent,
        strict=True,
    ):
        if not absent:
            assert np.allclose(a, b, rtol=2**-23, atol=largest * 2**-45)
            assert (np.abs(a.astype(np.float64)) <= largest * (1 + 2**-23)).all()


@given(st.data())
def test_where_chunks_end_does_not_matter(data: st.DataObject) -> None:
    sizes, contributions = data.draw(arrivals(values=any_values))
    whole = [
        Stream(s.positions, s.weight, s.values, s.arrived, ()) for s in contributions
    ]
    one, other = mean_of(sizes, contributions), mean_of(sizes, whole)
    assert one.result.tobytes() == other.result.tobytes()


@given(st.data())
def test_streams_may_interleave(data: st.DataObject) -> None:
    sizes, contributions = data.draw(arrivals())
    mean = StreamingMean(sizes)
    pieces = []
    for stream in contributions:
        cursor = mean.open(stream.positions, stream.weight)
        borders = (0, *stream.borders, stream.arrived)
        pieces.append(
            [(cursor, stream.values[start:stop]) for start, stop in pairwise(borders)]
        )
    while any(pieces):
        waiting = [piece for piece in pieces if piece]
        cursor, values = data.draw(st.sampled_from(waiting)).pop(0)
        cursor.add(values)
    mean.close()
    assert mean.result.tobytes() == mean_of(sizes, contributions).result.tobytes()


def test_a_peer_that_died_counts_for_what_arrived() -> None:
    mean = StreamingMean([2, 3, 2])
    mean.open([0, 1, 2], 1.0).add(np.full(7, 1, np.float32))
    dying = mean.open([1, 2], 3.0)
    dying.add(np.full(2, 5, np.float32))
    mean.close()
    assert mean.result.tolist() == [1, 1, 4, 4, 1, 1, 1]
    assert mean.weights.tolist() == [1, 1, 1] and not mean.absent.any()
    assert (dying.received_count, dying.expected_count) == (2, 5)


def test_a_range_that_nobody_finished_is_absent() -> None:
    mean = StreamingMean([2, 2, 2])
    mean.open([0, 1], 2.0).add(np.ones(3, np.float32))
    mean.close()
    assert mean.absent.tolist() == [False, True, True]
    assert mean.weights.tolist() == [2, 0, 0]
    assert mean.result.tolist() == [1, 1, 1, 0, 0, 0]


def test_two_halves_do_not_make_a_whole() -> None:
    """The same first element twice, the second never."""
    mean = StreamingMean([2])
    for _ in range(2):
        mean.open([0], 1.0).add(np.ones(1, np.float32))
    mean.close()
    assert mean.absent.tolist() == [True]


def test_large_ranges_pass_through_in_blocks() -> None:
    sizes = [WIDENED_ELEMENTS * 2 + 3, 1, WIDENED_ELEMENTS + 1]
    mean = StreamingMean(sizes)
    one = np.arange(sum(sizes), dtype=np.float32)
    mean.open([0, 1, 2], 1.0).add(one)
    mean.open([2, 0], 3.0).add(np.zeros(sizes[0] + sizes[2], np.float32))
    mean.close()
    expected = one / 4
    expected[sizes[0]] = one[sizes[0]]
    assert np.array_equal(mean.result, expected)


def test_a_reducer_without_ranges() -> None:
    mean = StreamingMean([])
    mean.open([], 1.0).add(np.empty(0, np.float32))
    mean.close()
    assert mean.result.size == mean.absent.size == mean.weights.size == 0


def test_a_sum_that_nobody_needs_is_gone_at_once() -> None:
    """Its memory is for the next one: it must not wait for the cyclic collector."""
    mean = StreamingMean([1 << 20])
    mean.open([0], 1.0).add(np.ones(1 << 20, np.float32))
    mean.close()
    gone = weakref.ref(mean)
    gc.disable()
    try:
        del mean
        assert gone() is None
    finally:
        gc.enable()


def test_the_result_lies_where_the_sums_were() -> None:
    count = 1 << 20
    tracemalloc.start()
    try:
        mean = StreamingMean([count])
        mean.open([0], 1.0).add(np.ones(count, np.float32))
        tracemalloc.reset_peak()
        mean.close()
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert (mean.result == 1).all()
    assert peak_bytes < 8 * count + (1 << 21), "a second array would take 4 MiB"


# --- Refused -------------------------------------------------------------------------


def test_a_contribution_has_an_end() -> None:
    mean = StreamingMean([2, 3])
    cursor = mean.open([1], 1.0)
    cursor.add(np.ones(2, np.float32))
    with pytest.raises(LocalProtocolError, match="of 3 values goes on beyond its end"):
        cursor.add(np.ones(2, np.float32))
    cursor.add(np.ones(1, np.float32))
    mean.close()
    assert mean.weights.tolist() == [0, 1], "the refused values were not added"
    assert mean.result[2:].tolist() == [1, 1, 1]


@pytest.mark.parametrize("weight", [0.0, -1.0, math.inf, math.nan])
def test_weights_are_finite_and_positive(weight: float) -> None:
    with pytest.raises(LocalProtocolError, match="weight"):
        StreamingMean([2]).open([0], weight)


@pytest.mark.parametrize(
    ("positions", "reason"),
    [([0, 1, 0], "twice"), ([2], "not ours"), ([-1], "not ours")],
)
def test_ranges_are_ours_and_come_once(positions: list[int], reason: str) -> None:
    with pytest.raises(LocalProtocolError, match=reason):
        StreamingMean([2, 2]).open(positions, 1.0)


def test_nothing_after_the_end_and_no_result_before() -> None:
    mean = StreamingMean([2])
    cursor = mean.open([0], 1.0)
    with pytest.raises(LocalProtocolError, match="not yet taken"):
        _ = mean.result
    mean.close()
    for late in (
        lambda: cursor.add(np.ones(1, np.float32)),
        lambda: mean.open([0], 1.0),
        mean.close,
    ):
        with pytest.raises(LocalProtocolError, match="taken"):
            late()


@given(st.data())
def test_what_a_contribution_lacks_is_passed_over(data: st.DataObject) -> None:
    sizes = data.draw(st.lists(st.integers(0, 5), min_size=1, max_size=6))
    absent = np.array(data.draw(st.lists(st.booleans(), min_size=len(sizes))))
    absent = absent[: len(sizes)]
    total = sum(sizes)
    values = np.arange(1, total + 1, dtype=np.float32)
    cut = data.draw(st.integers(0, total))
    mean = StreamingMean(sizes)
    cursor = mean.open(range(len(sizes)), 2.0, absent=absent)
    for part in (values[:cut], values[cut:]):
        cursor.add(part)
    mean.close()
    ends = np.cumsum(sizes)
    for number, (end, size) in enumerate(zip(ends, sizes, strict=True)):
        found = mean.result[end - size : end]
        assert mean.absent[number] == absent[number]
        assert found.tolist() == (
            [0.0] * size if absent[number] else values[end - size : end].tolist()
        )


# --- Changes in place of values ------------------------------------------------------


@given(arrivals(), st.data())
def test_mean_changes_are_added_to_the_old_values(
    arrived: tuple, data: st.DataObject
) -> None:
    """Where these are known, and somebody's changes came whole."""
    sizes, contributions = arrived
    known = data.draw(
        st.sets(st.sampled_from(range(len(sizes)))) if sizes else st.just(set())
    )
    positions = np.array(sorted(known), np.int64)
    old = [np.full(sizes[p], p + 0.5, np.float32) for p in positions]
    change = MeanChange(sizes)
    for stream in contributions:
        send(change.open(stream.positions, stream.weight), stream)
    flat = np.concatenate([np.zeros(0, np.float32), *old])
    change.begin(positions, flat)
    change.close()
    plain = mean_of(sizes, contributions)
    for position, (mean, new) in enumerate(
        zip(by_range(sizes, plain.result), by_range(sizes, change.result), strict=True)
    ):
        added = np.float32(position + 0.5) if position in known else np.float32(0)
        np.testing.assert_array_equal(new, mean + added)
        lacks = position not in known or bool(plain.absent[position])
        assert bool(change.absent[position]) == lacks
        assert change.weights[position] == plain.weights[position]


def test_what_stands_in_for_a_mean_change_is_not_absent() -> None:
    change = MeanChange([2, 3])
    change.begin(np.array([0, 1]), np.ones(5, np.float32))
    change.close()
    assert change.absent.tolist() == [True, True]
    change.keep(np.array([1]), np.full(3, 7, np.float32))
    assert change.absent.tolist() == [True, False]
    assert change.result.tolist() == [1, 1, 7, 7, 7]


def test_mean_changes_end_with_finite_values() -> None:
    largest = float(np.finfo(np.float32).max)
    change = MeanChange([2])
    change.open([0], 1.0).add(np.array([largest, -largest], np.float32))
    change.begin(np.array([0]), np.array([largest, -largest], np.float32))
    change.close()
    assert change.result.tolist() == [largest, -largest]
