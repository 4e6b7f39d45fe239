"""Whatever goes wrong, no value ends up at coordinates that it was not trained at.

Every peer "trains" the same thing: each element becomes a number that only its place in
the model decides. A mean of equal numbers is that number, so after any history every
element that counts as trained must hold it. A range that is shifted, cut short, or
taken from another parameter does not.
"""

from __future__ import annotations

from fractions import Fraction
from functools import lru_cache
from pathlib import Path

import numpy as np
import pytest

from p2pfusion.simulation.numbers import Floats, Numbers, Read, Trained
from p2pfusion.simulation.run import Setting, simulate
from p2pfusion.simulation.world import World
from p2pfusion.split.grid import mask_segments
from p2pfusion.split.layout import Layout
from p2pfusion.split.segment import Split
from p2pfusion.store.initial import fill_initial
from tests.simulation.unmasked import no_secret

SAMPLES = 10
HERE = {"coordinates", "model", "exception"}
"""What else a wrong place would show as; other checks have tests of their own."""


@lru_cache
def stamps(layout: Layout, parameter: int) -> Floats:
    """What every element of a parameter is trained to: small whole numbers."""
    size = layout.parameters[parameter].size
    places = np.arange(size, dtype=np.uint64) + np.uint64(1000 * parameter)
    mixed = (places * np.uint64(2654435761)) % np.uint64(65_521)
    return mixed.astype(np.float32).reshape(layout.parameters[parameter].shape)


def stamped(layout: Layout, split: Split) -> Trained:
    arrays = []
    for index, segment in enumerate(split.segments(layout)):
        rows = (np.fromiter(indices, np.int64) for indices in segment.sets)
        arrays.append(stamps(layout, index)[np.ix_(*rows)])
    return Trained(arrays, SAMPLES, 1.0, 1.0)


def wrong_elements(numbers: Numbers, seed: int) -> int:
    """Elements of a store that count as trained and hold anything else."""
    layout, wrong = numbers.store.layout, 0
    for number, signature in enumerate(layout.signatures):
        trained = numbers.store.versions(number) > 0
        for segment in mask_segments(layout, signature, trained):
            rows = (np.fromiter(indices, np.int64) for indices in segment.sets)
            wanted = stamps(layout, segment.parameter)[np.ix_(*rows)]
            values = numbers.store.read(segment)
            # A range that was planned and that nobody trained keeps what it began with.
            first = np.empty_like(values)
            everywhere = np.ones(values.shape, np.bool_)
            fill_initial(layout, seed, segment, everywhere, first)
            good = np.isclose(values, wanted, rtol=1e-6) | (values == first)
            wrong += int(good.size - good.sum())
    return wrong


@pytest.mark.parametrize(
    "seed",
    [0, 1, 3, *(pytest.param(n, marks=pytest.mark.soak) for n in (2, 4, 5, 6, 7))],
)
def test_every_value_stays_where_it_was_trained(seed: int, tmp_path: Path) -> None:
    setting = Setting(
        peers=3 + seed % 5,
        rounds=20,
        seed=seed,
        split_fraction=Fraction(1, 2 + seed % 2),
    )
    layout = setting.manifest().layout
    worlds: list[World] = []

    def train(round_index: int, split: Split, read: Read) -> Trained:
        return stamped(layout, split)

    def equip(name: str) -> Numbers:
        directory = tmp_path / name
        directory.mkdir(exist_ok=True)
        return Numbers(name, directory, setting.manifest(), train, no_secret)

    outcome = simulate(setting, equip=equip, on_world=worlds.append)
    assert not {found.check for found in outcome.violations} & HERE
    lives = [life for life in worlds[0].alive() if life.numbers is not None]
    assert lives
    for life in lives:
        assert life.numbers is not None
        assert wrong_elements(life.numbers, seed) == 0
