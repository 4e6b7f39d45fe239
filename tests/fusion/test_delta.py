"""Shares of changes, against a dense sum under a mask."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pfusion.errors import LocalProtocolError
from p2pfusion.fusion import DeltaSum
from p2pfusion.fusion.sums import BLOCK_ELEMENTS
from tests.fusion.test_average import (
    Stream,
    any_values,
    arrivals,
    by_range,
    dense_sums,
    exact_values,
    send,
)

eighths = st.integers(0, 64).map(lambda n: n / 8)
"""Shares whose products with exact values are exact, 0 among them."""


def sum_of(
    sizes: list[int], begun: list[int], old: np.ndarray, contributions: list[Stream]
) -> DeltaSum:
    """``old`` has values for all ranges; only those ``begun`` are known."""
    total = DeltaSum(sizes)
    for stream in contributions[::2]:
        send(total.open(stream.positions, stream.weight), stream)
    known = by_range(sizes, old)
    values = [known[position] for position in begun]
    flat = np.concatenate(values) if values else np.zeros(0, np.float32)
    total.begin(np.array(begun, np.int64), flat)
    for stream in contributions[1::2]:
        send(total.open(stream.positions, stream.weight), stream)
    total.close()
    return total


@st.composite
def changes(draw: st.DrawFn, values: st.SearchStrategy[float] = exact_values) -> tuple:
    """Ranges, those with old values, the old values of all, and contributions."""
    sizes, contributions = draw(arrivals(weights=eighths, values=values))
    begun = draw(st.sets(st.integers(0, len(sizes) - 1)).map(sorted))
    count = sum(sizes)
    old = draw(st.lists(values, min_size=count, max_size=count))
    return sizes, begun, np.array(old, np.float32), contributions


@given(changes())
def test_it_is_the_old_value_and_the_dense_sum_of_shares(drawn: tuple) -> None:
    sizes, begun, old, contributions = drawn
    total = sum_of(*drawn)
    sums, _ = dense_sums(sizes, contributions)
    wanted = by_range(sizes, (old + sums).astype(np.float32))
    assert total.result.dtype == np.float32
    for index, found in enumerate(by_range(sizes, total.result)):
        assert total.absent[index] == (index not in begun)
        if index in begun:
            assert found.tolist() == wanted[index].tolist()


@given(st.data())
def test_the_order_of_arrival_does_not_matter(data: st.DataObject) -> None:
    sizes, begun, old, contributions = data.draw(changes())
    shuffled = data.draw(st.permutations(contributions))
    one = sum_of(sizes, begun, old, contributions)
    other = sum_of(sizes, begun, old, shuffled)
    assert one.result.tobytes() == other.result.tobytes()
    assert one.weights.tolist() == other.weights.tolist()


@given(changes(values=any_values))
def test_what_peers_send_never_makes_a_value_that_is_not_finite(drawn: tuple) -> None:
    assert np.isfinite(sum_of(*drawn).result).all()


@given(changes())
def test_without_contributions_everything_stays_bit_for_bit(drawn: tuple) -> None:
    sizes, _, old, _ = drawn
    total = sum_of(sizes, list(range(len(sizes))), old, [])
    assert total.result.tobytes() == old.tobytes()


def test_large_ranges_pass_through_in_blocks() -> None:
    sizes = [BLOCK_ELEMENTS * 2 + 3, 1, BLOCK_ELEMENTS + 1]
    old = np.arange(sum(sizes), dtype=np.float32)
    total = DeltaSum(sizes)
    total.begin(np.arange(3), old)
    total.open([2, 0], 0.5).add(np.ones(sizes[0] + sizes[2], np.float32))
    total.close()
    expected = old + np.float32(0.5)
    expected[sizes[0]] = old[sizes[0]]
    assert np.array_equal(total.result, expected)


def test_newer_values_stand_in_for_what_has_no_old_ones() -> None:
    total = DeltaSum([2, 2])
    total.begin(np.array([0]), np.ones(2, np.float32))
    total.open([0, 1], 1.0).add(np.full(4, 3, np.float32))
    total.close()
    assert total.absent.tolist() == [False, True]
    total.keep(np.array([1]), np.full(2, 7, np.float32))
    assert total.result.tolist() == [4, 4, 7, 7] and not total.absent.any()


@pytest.mark.parametrize("share", [-0.5, float("inf"), float("nan")])
def test_shares_are_finite_and_not_negative(share: float) -> None:
    with pytest.raises(LocalProtocolError, match="weight"):
        DeltaSum([2]).open([0], share)
