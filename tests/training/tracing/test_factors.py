"""Factors against a slow second version: dimensions as arrays of coordinates."""

from __future__ import annotations

from math import prod

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pfusion.training.tracing.factors import (
    UNEVEN,
    BatchMixedError,
    Factor,
    Factors,
    fresh,
    hold,
    leaves,
    regroup,
    size,
    unify,
)

sizes = st.lists(st.integers(2, 6), min_size=1, max_size=4)


def coordinates(factors: Factors, values: dict[Factor, np.ndarray]) -> np.ndarray:
    """For every position of a dimension, whether all its factors keep it."""
    kept = np.ones(1, bool)
    for factor in leaves(factors):
        kept = (kept[:, None] & values[factor][None, :]).ravel()
    return kept


def cuts(factors: Factors, seed: int) -> dict[Factor, np.ndarray]:
    """Random indices of every factor that is not held, all of the others."""
    random = np.random.default_rng(seed)
    return {
        f: np.ones(f.size, bool) if f.reason else random.integers(0, 2, f.size) > 0
        for f in leaves(factors)
    }


def made(lengths: list[int]) -> Factors:
    return tuple(Factor(length) for length in lengths)


@given(lengths=sizes, other=sizes, seed=st.integers(0, 99))
def test_unified_dimensions_are_cut_alike(
    lengths: list[int], other: list[int], seed: int
) -> None:
    """Whatever is cut of one is cut of the other, position by position."""
    whole = prod(lengths) * prod(other)
    one = made([*lengths, prod(other)])
    two = made([prod(lengths), *other]) if seed % 2 else made([*other, prod(lengths)])
    unify(one, two)
    assert size(leaves(one)) == size(leaves(two)) == whole
    if all(not f.reason for f in leaves(one)):
        assert leaves(one) == leaves(two)
    chosen = cuts((*one, *two), seed)
    assert np.array_equal(coordinates(one, chosen), coordinates(two, chosen))


@given(lengths=sizes, data=st.data())
def test_regrouped_dimensions_keep_every_position(
    lengths: list[int], data: st.DataObject
) -> None:
    """Reshaping an array of what is kept gives what is kept of the reshaped array."""
    whole = prod(lengths)
    divisors = [n for n in range(1, whole + 1) if whole % n == 0]
    first = data.draw(st.sampled_from(divisors))
    dims = made(lengths)
    found = regroup(dims, (first, whole // first))
    assert [size(leaves(group)) for group in found] == [first, whole // first]
    chosen = cuts((*dims, *(f for group in found for f in group)), 3)
    rows, columns = (coordinates(group, chosen) for group in found)
    kept = coordinates(dims, chosen).reshape(first, -1)
    assert np.array_equal(kept, rows[:, None] & columns[None, :])


def test_parts_that_overlap_are_held() -> None:
    one = made([6, 2])
    found = regroup(one, (4, 3))
    held = [*leaves(one), *(f for group in found for f in group)]
    assert {f.reason for f in held} == {UNEVEN}


def test_what_is_held_stays_held_whatever_it_becomes() -> None:
    one, two = made([12]), made([3, 4])
    hold(one, "first")
    hold(two[:1], "second")
    unify(one, two)
    assert [f.reason for f in leaves(one)] == ["second", "first"]


def test_one_position_follows_nothing() -> None:
    assert fresh(1) == () and size(()) == 1
    unify((), ())


@pytest.mark.parametrize("groups", [(2, 15), (30,)])
def test_the_batch_stays_apart_or_nothing_is_traced(groups: tuple[int, ...]) -> None:
    records = (Factor(3, "data", is_batch=True), Factor(10))
    if groups == (30,):
        (both,) = regroup(records, groups)
        assert [f.size for f in leaves(both)] == [3, 10]
    else:
        with pytest.raises(BatchMixedError):
            regroup(records, groups)
