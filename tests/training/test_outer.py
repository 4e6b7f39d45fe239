"""The outer momentum, against a server's velocity."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pfusion.split.indices import IndexSet
from p2pfusion.split.layout import Axis, Dimension, Initial, Layout, ParameterSpec
from p2pfusion.split.segment import Split
from p2pfusion.training.outer import OuterMomentum, Start

LAYOUT = Layout(
    (Axis("a", 6), Axis("b", 4)),
    (
        ParameterSpec("w", (Dimension(4, "b"), Dimension(6, "a")), Initial("zeros")),
        ParameterSpec("v", (Dimension(12, "a", 2), Dimension(3)), Initial("zeros")),
        ParameterSpec("c", (), Initial("zeros")),
    ),
)
FULL = Split.full(LAYOUT)


def random_arrays(split: Split, random: np.random.Generator) -> list[np.ndarray]:
    return [
        np.asarray(random.normal(size=segment.shape), np.float32)
        for segment in split.segments(LAYOUT)
    ]


def moved(arrays: list[np.ndarray], random: np.random.Generator) -> list[np.ndarray]:
    steps = random_arrays(FULL, random)
    return [np.asarray(a + 0.1 * s) for a, s in zip(arrays, steps, strict=True)]


def flat(arrays: list[np.ndarray]) -> np.ndarray:
    return np.concatenate([a.ravel() for a in arrays]).astype(np.float64)


@given(seed=st.integers(0, 99), peers=st.integers(1, 4), momentum=st.floats(0, 0.95))
def test_the_mean_of_the_holders_is_a_servers_heavy_ball(
    seed: int, peers: int, momentum: float
) -> None:
    """v = b v + (mean - x), x = x + v: what a server would do with a velocity."""
    random = np.random.default_rng(seed)
    outers = [OuterMomentum(LAYOUT, momentum) for _ in range(peers)]
    held = random_arrays(FULL, random)
    values = flat(held)
    velocity = np.zeros_like(values)
    for round_index in range(5):
        start = held
        trained = [moved(start, random) for _ in outers]
        mean = np.mean([flat(arrays) for arrays in trained], axis=0)
        velocity = momentum * velocity + mean - values
        values = values + velocity
        for outer, arrays in zip(outers, trained, strict=True):
            outer.push(Start(round_index, FULL, start), arrays)
        held = [
            np.asarray(np.mean(arrays, axis=0), np.float32)
            for arrays in zip(*trained, strict=True)
        ]
    np.testing.assert_allclose(flat(held), values, rtol=0, atol=1e-3)


@given(data=st.data())
def test_only_what_was_trained_in_the_last_round_moves_on(data: st.DataObject) -> None:
    """Element by element, by the coordinates in the whole parameter."""
    random = np.random.default_rng(data.draw(st.integers(0, 99)))
    before, now = data.draw(splits()), data.draw(splits())
    outer = OuterMomentum(LAYOUT, 0.5)
    first, second = random_arrays(before, random), random_arrays(now, random)
    outer.push(Start(3, before, first), [a.copy() for a in first])
    trained = [np.zeros_like(a) for a in second]
    outer.push(Start(4, now, second), trained)
    for index, (old, new) in enumerate(
        zip(before.segments(LAYOUT), now.segments(LAYOUT), strict=True)
    ):
        was = dict(zip(places(old.sets), first[index].ravel().tolist(), strict=True))
        for place, value, found in zip(
            places(new.sets),
            second[index].ravel().tolist(),
            trained[index].ravel().tolist(),
            strict=True,
        ):
            expected = 0.5 * (value - was[place]) if place in was else 0.0
            assert found == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("last", [1, 2, 4])
def test_a_round_that_was_missed_leaves_no_velocity(last: int) -> None:
    random = np.random.default_rng(0)
    outer = OuterMomentum(LAYOUT, 0.9)
    outer.push(Start(last, FULL, random_arrays(FULL, random)), [])
    trained = random_arrays(FULL, random)
    copies = [a.copy() for a in trained]
    outer.push(Start(4, FULL, random_arrays(FULL, random)), trained)
    for found, expected in zip(trained, copies, strict=True):
        np.testing.assert_array_equal(found, expected)


@st.composite
def splits(draw: st.DrawFn) -> Split:
    sets = {}
    for axis in LAYOUT.axes:
        chosen = draw(st.sets(st.integers(0, axis.size - 1), min_size=1))
        sets[axis.name] = IndexSet.from_indices(chosen)
    return Split.of(sets)


def places(sets: tuple[IndexSet, ...]) -> list[tuple[int, ...]]:
    """The coordinates of a rectangle's elements, in the order of its dense array."""
    found: list[tuple[int, ...]] = [()]
    for indices in sets:
        found = [(*place, index) for place in found for index in indices]
    return found
