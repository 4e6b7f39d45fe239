"""Which of two reducers is believed, and who is contradicted by several."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pfusion.fusion.weighing import APART, WITNESSES, Opinions, farther

PLACES = st.lists(st.integers(-8, 8), min_size=3, max_size=3)


def floats(values: list[int]) -> np.ndarray:
    return np.array(values, np.float32)


@given(PLACES, PLACES, PLACES)
def test_the_farther_one_of_two_that_are_apart(
    old: list[int], one: list[int], other: list[int]
) -> None:
    def length(a: list[int], b: list[int]) -> float:
        return sum((x - y) ** 2 for x, y in zip(a, b, strict=True)) ** 0.5

    first, second = length(one, old), length(other, old)
    found = farther(floats(old), floats(one), floats(other))
    if length(one, other) <= APART * min(first, second):
        assert found == 0
    else:
        assert found == (1 if first > second else 2)


@given(PLACES, PLACES)
def test_equal_ones_agree_and_only_two_that_are_apart_change_sides(
    old: list[int], one: list[int]
) -> None:
    assert farther(floats(old), floats(one), floats(one)) == 0
    stays = farther(floats(old), floats(old), floats(one))
    assert stays == (0 if one == old else 2), "who changes nothing is nearest"


@pytest.mark.parametrize("rounds", [1, 2, 3])
def test_a_change_that_is_turned_around_tenfold_is_farther(rounds: int) -> None:
    """Also from what is some rounds old here, in which all went the same way."""
    step = np.random.default_rng(rounds).normal(size=50).astype(np.float32)
    old, before = np.zeros(50, np.float32), (rounds - 1) * step
    honest, lie = before + step, before - 10 * step
    assert farther(old, lie, honest) == 1 and farther(old, honest, lie) == 2


def test_the_largest_numbers_are_compared() -> None:
    largest = np.full(3, np.finfo(np.float32).max)
    assert farther(np.zeros(3, np.float32), -largest, largest / 2) == 1


def test_who_is_contradicted_by_several_and_most_is_wrong() -> None:
    opinions = Opinions()
    for number in range(WITNESSES):
        assert not opinions.contradicted("liar")
        opinions.note("liar", f"p{number}", 1, 0)
    assert opinions.contradicted("liar")
    assert not any(opinions.contradicted(f"p{number}") for number in range(WITNESSES))
    for number in range(WITNESSES):
        opinions.note("liar", f"q{number}", 0, 0)
    assert not opinions.contradicted("liar"), "half say the same"


def test_only_the_last_comparison_of_two_counts() -> None:
    opinions = Opinions()
    for number in range(WITNESSES):
        opinions.note(f"p{number}", "ann", 2, 0)
    opinions.note("ann", "p0", 2, 0)
    assert not opinions.contradicted("ann")


def test_two_that_lie_together_make_nobody_look_guilty() -> None:
    """Whether they go too far, or hand out what was there before."""
    for liars_are_farther in (True, False):
        opinions = Opinions()
        for liar in ("x", "y"):
            for honest in ("a", "b", "c"):
                opinions.note(liar, honest, 1 if liars_are_farther else 2, 0)
        assert opinions.contradicted("x") is opinions.contradicted("y")
        assert opinions.contradicted("x") is liars_are_farther
        assert not any(opinions.contradicted(peer) for peer in "abc")


def test_what_two_say_alike_means_nothing_if_most_contradict_one_of_them() -> None:
    opinions = Opinions()
    opinions.note("x", "y", 0, 0)
    assert not opinions.are_wrong("x", "y") and not opinions.is_doubted("x")
    opinions.note("x", "a", 1, 0)
    assert opinions.are_wrong("x", "y"), "nobody confirms the other one"
    assert opinions.are_wrong("y", "x") and opinions.is_doubted("x")
    opinions.note("b", "y", 0, 0)
    assert not opinions.are_wrong("x", "y"), "now somebody does"
    opinions.note("c", "y", 2, 0)
    assert opinions.are_wrong("x", "y"), "as many say otherwise"
    opinions.note("x", "b", 0, 0)
    assert not opinions.are_wrong("x", "y"), "most say otherwise of neither"


def test_of_two_that_are_apart_both_must_be_contradicted() -> None:
    opinions = Opinions()
    opinions.note("x", "a", 1, 0)
    assert not opinions.are_wrong("x", "a"), "the nearer one is taken"
    opinions.note("a", "b", 1, 0)
    assert not opinions.are_wrong("x", "a"), "nobody else contradicts the farther one"
    opinions.note("x", "b", 1, 0)
    assert opinions.are_wrong("x", "a") and opinions.are_wrong("a", "x")


def test_what_was_said_in_rounds_before_is_no_excuse() -> None:
    opinions = Opinions()
    for honest in "abc":
        opinions.note("x", honest, 0, 3)
        opinions.note("y", honest, 0, 3)
    opinions.note("x", "a", 1, 4)
    opinions.note("y", "b", 1, 4)
    assert opinions.are_wrong("x", "y")
    opinions.note("y", "b", 0, 4)
    assert opinions.are_wrong("x", "y"), "nor what is said later in the same round"
    opinions.note("x", "a", 0, 5)
    assert not opinions.are_wrong("x", "y") and opinions.is_doubted("y")


def test_what_is_usual_is_no_single_streams_matter() -> None:
    opinions, old = Opinions(), np.zeros(4, np.float32)
    opinions.went(old, old + 11)
    opinions.went(old, old - 1)
    assert opinions.usual == 0, "one of the two may be a lie"
    opinions.went(old, old + 1)
    assert opinions.usual == 1
