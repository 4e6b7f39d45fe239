"""What a reducer remembers, from one round to the next: wherever ranges lie then."""

from __future__ import annotations

import itertools
import random
from pathlib import Path

import numpy as np
import pytest

from p2pfusion.split.segment import Split
from p2pfusion.store import write_offer
from tests.daemon.desks import NAMES, Floats, Table
from tests.daemon.test_payloads import FULL, LAYOUT, LEFT, RIGHT


def replay(table: Table, name: str, change: list[Floats]) -> None:
    """It offers what it always has, of what it trains now."""
    split = table.current[name]
    arrays = [
        change[segment.parameter][np.ix_(*(list(indices) for indices in segment.sets))]
        for segment in split.segments(table.layout)
    ]
    path = table.root / f"{name}-again.f32"
    write_offer(path, arrays)
    table.desks[name].offered(table.plan.round_index, path, table.held[name])


@pytest.mark.parametrize("seed", range(4))
def test_who_repeats_itself_says_nothing_new_whatever_it_holds(
    tmp_path: Path, seed: int
) -> None:
    drawn, generator = random.Random(seed), np.random.default_rng(seed)
    table = Table(tmp_path, LAYOUT, fusion="median")
    always = [
        generator.normal(size=parameter.shape).astype(np.float32)
        for parameter in LAYOUT.parameters
    ]
    splits: list[dict[str, Split]] = [
        {name: drawn.choice((FULL, LEFT, RIGHT)) for name in NAMES} for _ in range(6)
    ]
    compared = dict.fromkeys(NAMES, 0)
    for number, (current, following) in enumerate(itertools.pairwise(splits)):
        table.enter(number, current, following)
        table.train(generator)
        replay(table, "ash", always)
        table.exchange()
        for desk in table.desks.values():
            for name, found in desk.total(number, "").deviations.items():
                assert number or not found.recalled
                if found.recalled >= 16:
                    compared[name] += 1
                    assert (found.news < 1e-6) is (name == "ash")
    assert all(compared.values())


def test_the_mean_remembers_nothing(tmp_path: Path) -> None:
    table = Table(tmp_path, LAYOUT)
    for number in range(2):
        table.enter(number, dict.fromkeys(NAMES, FULL), dict.fromkeys(NAMES, FULL))
        table.train(np.random.default_rng(1))
        table.exchange()
        assert not table.desks["ash"].total(number, "").deviations
