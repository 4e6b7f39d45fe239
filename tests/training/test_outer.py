"""The outer momentum, against a server's velocity."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from p2pfusion.split.indices import IndexSet
from p2pfusion.split.layout import Axis, Dimension, Initial, Layout, ParameterSpec
from p2pfusion.split.segment import Split
from p2pfusion.training.outer import OuterMomentum

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


def begun(directory: str, momentum: float, peers: int = 1) -> list[OuterMomentum]:
    return [
        OuterMomentum.open(Path(directory) / str(peer), LAYOUT, 0, momentum)
        for peer in range(peers)
    ]


@settings(deadline=None)
@given(seed=st.integers(0, 99), peers=st.integers(1, 4), momentum=st.floats(0, 0.95))
def test_the_mean_of_the_holders_is_a_servers_heavy_ball(
    seed: int, peers: int, momentum: float
) -> None:
    """v = b v + (mean - x), x = x + v: what a server would do with a velocity."""
    random = np.random.default_rng(seed)
    held = random_arrays(FULL, random)
    values = flat(held)
    velocity = np.zeros_like(values)
    with TemporaryDirectory() as directory:
        outers = begun(directory, momentum, peers)
        for round_index in range(5):
            start = held
            trained = [moved(start, random) for _ in outers]
            mean = np.mean([flat(arrays) for arrays in trained], axis=0)
            velocity = momentum * velocity + mean - values
            values = values + velocity
            trained = [
                outer.push(round_index, FULL, start, arrays)
                for outer, arrays in zip(outers, trained, strict=True)
            ]
            held = [
                np.asarray(np.mean(arrays, axis=0), np.float32)
                for arrays in zip(*trained, strict=True)
            ]
    np.testing.assert_allclose(flat(held), values, rtol=0, atol=1e-3)


@settings(deadline=None, max_examples=30)
@given(seed=st.integers(0, 99), peers=st.integers(1, 4), momentum=st.floats(0, 0.95))
def test_with_late_averages_it_is_a_servers_heavy_ball_as_well(
    seed: int, peers: int, momentum: float
) -> None:
    """Every holder goes on from its own contribution c: with the average x and what it
    trained z it gives x + z - c. The server adds up what training has changed."""
    random = np.random.default_rng(seed)
    values = flat(random_arrays(FULL, random))
    begins = np.float32(values)
    velocity = np.zeros_like(values)
    shapes = [segment.shape for segment in FULL.segments(LAYOUT)]

    def dense(vector: np.ndarray) -> list[np.ndarray]:
        ends = np.cumsum([int(np.prod(shape)) for shape in shapes])[:-1]
        parts = np.split(vector.astype(np.float32), ends)
        return [p.reshape(shape) for p, shape in zip(parts, shapes, strict=True)]

    with TemporaryDirectory() as directory:
        outers = begun(directory, momentum, peers)
        held, average = [begins] * peers, begins
        for round_index in range(6):
            changes = []
            for peer, outer in enumerate(outers):
                start = dense(held[peer])
                trained = moved(start, random)
                changes.append(flat(trained) - flat(start))
                trained = outer.push(round_index, FULL, start, trained)
                held[peer] = np.float32(average + flat(trained) - flat(start))
            velocity = momentum * velocity + np.mean(changes, axis=0)
            values = values + velocity
            average = np.float32(np.mean(held, axis=0))
    np.testing.assert_allclose(average, values, rtol=0, atol=1e-3)


def test_after_a_crash_ahead_of_the_swarm_it_begins_anew(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    start = random_arrays(FULL, random)
    outer = OuterMomentum.open(tmp_path / "past", LAYOUT, 0, 0.5)
    for round_index in (3, 4):
        outer.push(round_index, FULL, start, moved(start, random))
    outer.remember()
    again = OuterMomentum.open(tmp_path / "past", LAYOUT, 0, 0.5)
    for round_index in (3, 4):  # round 3 was not sealed when the power failed
        trained = [array.copy() for array in start]
        trained = again.push(round_index, FULL, start, trained)
        assert np.array_equal(flat(trained), flat(start))


@settings(deadline=None)
@given(data=st.data())
def test_what_was_trained_before_moves_on_as_it_has_moved_since(
    data: st.DataObject,
) -> None:
    """Element by element, by the coordinates in the whole parameter; splits move, and
    the peer may be away."""
    random = np.random.default_rng(data.draw(st.integers(0, 99)))
    rounds = sorted(data.draw(st.sets(st.integers(0, 20), min_size=2, max_size=5)))
    was: list[dict[tuple[int, ...], tuple[int, float]]] = [{}, {}, {}]
    with TemporaryDirectory() as directory:
        for round_index in rounds:
            [outer] = begun(directory, 0.5)  # which knows no more than what it kept
            split = data.draw(splits())
            start = random_arrays(split, random)
            trained = [np.zeros_like(a) for a in start]
            trained = outer.push(round_index, split, start, trained)
            outer.remember()
            for index, segment in enumerate(split.segments(LAYOUT)):
                for place, value, found in zip(
                    places(segment.sets),
                    start[index].ravel().tolist(),
                    trained[index].ravel().tolist(),
                    strict=True,
                ):
                    expected = 0.0
                    if place in was[index]:
                        then, old = was[index][place]
                        expected = 0.5 * (value - old) / (round_index - then)
                    assert found == pytest.approx(expected, abs=1e-6)
                    was[index][place] = round_index, value


def test_a_round_that_is_trained_again_begins_where_it_began(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    [outer] = begun(str(tmp_path), 0.9)
    start = random_arrays(FULL, random)
    for _ in range(2):
        trained = random_arrays(FULL, random)
        copies = [a.copy() for a in trained]
        pushed = outer.push(4, FULL, start, trained)
        for found, expected in zip(pushed, copies, strict=True):
            np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("wrong", ["another swarm", "damaged"])
def test_a_memory_that_is_not_this_swarms_is_forgotten(
    wrong: str, tmp_path: Path
) -> None:
    random = np.random.default_rng(0)
    path = tmp_path / "past"
    outer = OuterMomentum.open(path, LAYOUT, 0, 0.9)
    outer.push(1, FULL, random_arrays(FULL, random), random_arrays(FULL, random))
    outer.remember()
    if wrong == "damaged":
        (path / "store.json").write_text("{")
    seed = 1 if wrong == "another swarm" else 0
    outer = OuterMomentum.open(path, LAYOUT, seed, 0.9)
    trained = [np.zeros_like(a) for a in random_arrays(FULL, random)]
    trained = outer.push(2, FULL, random_arrays(FULL, random), trained)
    assert not flat(trained).any()


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


def test_what_is_measured_has_no_momentum() -> None:
    random = np.random.default_rng(0)
    with TemporaryDirectory() as directory:
        outer = OuterMomentum.open(Path(directory), LAYOUT, 0, 0.6, frozenset(["v"]))
        held = random_arrays(FULL, random)
        for round_index in range(3):
            trained = moved(held, random)
            before = [array.copy() for array in trained]
            trained = outer.push(round_index, FULL, held, trained)
            same = [np.array_equal(a, b) for a, b in zip(before, trained, strict=True)]
            assert same == [round_index == 0, True, round_index == 0]
            held = trained
