"""Whether what a reducer hands out is believed: distances, and who contradicts whom."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pfusion.fusion.weighing import APART, ODD, WITNESSES, Bound, Opinions, squares

SIZES = st.lists(st.integers(1, 5), min_size=1, max_size=6)


@given(SIZES, st.integers(0, 2**32 - 1))
def test_squares_are_those_of_each_part(sizes: list[int], seed: int) -> None:
    drawn = np.random.default_rng(seed)
    one, other = (drawn.normal(size=sum(sizes)).astype(np.float32) for _ in range(2))
    found = squares(one, other, np.array(sizes))
    start = 0
    for size, square in zip(sizes, found, strict=True):
        apart = [float(one[k]) - float(other[k]) for k in range(start, start + size)]
        assert square == pytest.approx(sum(x * x for x in apart))
        start += size


def test_squares_of_the_largest_numbers_are_finite() -> None:
    largest = np.full(3, np.finfo(np.float32).max)
    assert np.isfinite(squares(largest, -largest, np.array([2, 1]))).all()


@given(
    st.lists(
        st.tuples(st.floats(0, 10), st.integers(1, 9), st.floats(0, 10)), min_size=1
    )
)
def test_what_is_usual_grows_with_the_age_of_what_is_here(
    parts: list[tuple[float, int, float]],
) -> None:
    usual, ages, moved = (np.array(column) for column in zip(*parts, strict=True))
    known = [(u, age, m) for u, age, m in parts if u > 0]
    total = sum(u * age * age for u, age, _ in known)
    found = Bound(usual.astype(float), ages).ratio(moved.astype(float))
    wanted = math.sqrt(sum(m for _, _, m in known) / total) if total else 0.0
    assert found == pytest.approx(wanted)


def test_a_change_that_is_turned_around_tenfold_is_odd_and_apart() -> None:
    usual = np.array([4.0, 9.0])
    honest, lie = usual.copy(), 100 * usual  # squared distances from before
    bound = Bound(usual, np.array([1, 1]))
    assert bound.ratio(honest) == 1 and bound.ratio(lie) == 10 > ODD
    assert not bound.is_apart(0.9 * APART**2 * usual)
    assert bound.is_apart(1.1 * APART**2 * usual)


def test_where_nothing_is_known_nothing_is_odd() -> None:
    bound = Bound(np.zeros(2), np.array([1, 3]))
    assert bound.ratio(np.array([1e9, 1e9])) == 0
    assert not bound.is_apart(np.array([1e9, 1e9]))
    assert Bound(np.array([0.0, 1.0]), np.array([1, 1])).ratio(np.array([9.0, 1])) == 1


def test_who_is_contradicted_by_several_and_most_is_wrong() -> None:
    opinions = Opinions()
    for number in range(WITNESSES):
        assert not opinions.contradicted("liar")
        opinions.note("liar", f"p{number}", apart=True)
    assert opinions.contradicted("liar")
    assert not any(opinions.contradicted(f"p{number}") for number in range(WITNESSES))
    for number in range(WITNESSES):
        opinions.note("liar", f"q{number}", apart=False)
    assert not opinions.contradicted("liar"), "half say the same"


def test_only_the_last_comparison_of_two_counts() -> None:
    opinions = Opinions()
    for number in range(WITNESSES):
        opinions.note(f"p{number}", "ann", apart=True)
    opinions.note("ann", "p0", apart=False)
    assert not opinions.contradicted("ann")


def test_two_that_lie_together_make_nobody_look_guilty() -> None:
    opinions = Opinions()
    for liar in ("x", "y"):
        for honest in ("a", "b", "c"):
            opinions.note(liar, honest, apart=True)
    assert opinions.contradicted("x") and opinions.contradicted("y")
    assert not any(opinions.contradicted(peer) for peer in "abc")
