"""The bitmap against a set of all numbers ever seen."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from p2pfusion.limits import REPLAY_WINDOW
from p2pfusion.security.replay import ReplayWindow

sequences = st.lists(
    st.integers(-3, 12) | st.integers(0, 40) | st.integers(0, 2**63 - 1), max_size=60
)


@given(sequences, st.integers(1, 20))
def test_the_window_agrees_with_a_set(numbers: list[int], size: int) -> None:
    window, seen = ReplayWindow(size), set[int]()
    for number in numbers:
        newest = max(seen, default=-1)
        new = number >= 0 and number not in seen and number > newest - size
        assert window.accept(number) is new
        if new:
            seen.add(number)


@given(st.permutations(range(12)))
def test_any_order_inside_the_window_is_accepted_once(order: list[int]) -> None:
    window = ReplayWindow(12)
    assert all(window.accept(number) for number in order)
    assert not any(window.accept(number) for number in order)


def test_the_window_reaches_as_far_back_as_its_bound_says() -> None:
    window = ReplayWindow()
    newest = 10 * REPLAY_WINDOW
    assert window.accept(newest)
    assert not window.accept(newest - REPLAY_WINDOW)
    assert window.accept(newest - REPLAY_WINDOW + 1)


def test_there_is_nothing_below_zero() -> None:
    window = ReplayWindow()
    assert not window.accept(-1)
    assert window.accept(1)
    assert not window.accept(-1)
    assert window.accept(0)


def test_a_huge_jump_costs_no_memory() -> None:
    window = ReplayWindow(8)
    assert window.accept(5)
    assert window.accept(2**4000)
    assert not window.accept(5)
    assert not window.accept(2**4000)
    assert window.accept(2**4000 - 7)
