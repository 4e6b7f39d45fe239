"""Fused values that are compared before they are stored: honest ones stay bit for bit,
lies are replaced by what a backup makes."""

from __future__ import annotations

import itertools
import random
from pathlib import Path

import numpy as np
import pytest

from p2pfusion.protocol.events import StreamKey
from p2pfusion.protocol.stream import stream_segments
from p2pfusion.split.plan import Hop
from p2pfusion.split.segment import Split
from tests.daemon.desks import NAMES, Floats, Table
from tests.daemon.test_payloads import ALL, FULL, LAYOUT, LEFT, RIGHT


def play(
    table: Table, rounds: list[dict[str, Split]], seed: int, *, checked: bool
) -> None:
    """Some rounds, all honest."""
    generator = np.random.default_rng(seed)
    for number, (current, following) in enumerate(itertools.pairwise(rounds)):
        table.enter(number, current, following)
        table.train(generator, lengths_differ=False)  # none is cut
        table.exchange()
        for name in NAMES if checked else ():
            assert table.check_reducers(name) == []


@pytest.mark.parametrize("seed", range(6))
def test_of_honest_reducers_everything_is_as_without_checks(
    tmp_path: Path, seed: int
) -> None:
    """Bit for bit: backups of the same contributions say the same."""
    drawn = random.Random(seed)
    splits = [
        {name: drawn.choice((FULL, LEFT, RIGHT)) for name in NAMES} for _ in range(4)
    ]
    stored = []
    for checked in (False, True):
        place = tmp_path / str(checked)
        place.mkdir()
        table = Table(place, LAYOUT, fusion="median", is_checked=checked)
        play(table, splits, seed, checked=checked)
        stored.append([table.stored(name, splits[-1][name]) for name in NAMES])
    for one, other in zip(*stored, strict=True):
        for values, same in zip(one, other, strict=True):
            assert np.array_equal(values, same)


def lying(table: Table, liar: str) -> None:
    """What one of them says that it has fused is turned around, tenfold."""
    desk = table.desks[liar]
    honest = desk.fused

    def fused(stream: StreamKey) -> tuple[Floats, np.ndarray]:
        values, absent = honest(stream)
        old = desk.store.read_flat(stream_segments(table.plan, stream))
        return (old - 10 * (values - old)).astype(np.float32), absent

    desk.fused = fused  # type: ignore[method-assign]


@pytest.mark.parametrize("seed", range(4))
def test_a_lie_is_replaced_by_what_a_backup_makes(tmp_path: Path, seed: int) -> None:
    table = Table(tmp_path, LAYOUT, fusion="median", is_checked=True)
    table.enter(0, ALL, ALL)
    lying(table, "ash")
    table.train(np.random.default_rng(seed))
    table.exchange()
    table.learn_median_changes()
    assert table.plan.sources(Hop.FUSED, "birch")
    for name in ("birch", "cedar"):
        assert table.check_reducers(name) == [], "two others are no witnesses"
        for one, other in zip(
            table.stored(name, ALL[name]), table.true(ALL[name]), strict=True
        ):
            assert np.array_equal(one, other)


@pytest.mark.parametrize("seed", range(4))
def test_what_two_liars_confirm_to_each_other_is_taken_back(
    tmp_path: Path, seed: int
) -> None:
    """The third compares each of them with itself, and keeps what it had."""
    table = Table(tmp_path, LAYOUT, fusion="median", is_checked=True)
    splits = dict(zip(NAMES, (LEFT, FULL, FULL), strict=True))
    play(table, [splits] * 2, seed, checked=True)
    cedar = table.desks["cedar"]
    cedar.store.flush()
    old = table.stored("cedar", FULL)
    table.enter(1, splits, ALL)
    for liar in ("ash", "birch"):
        lying(table, liar)
    table.train(np.random.default_rng(seed), lengths_differ=False)
    table.exchange()
    table.truth = [values.copy() for values in old]
    table.learn_median_changes()
    table.check_reducers("cedar")
    cedar.conclude(1)
    cedar.store.flush()
    plan = table.plan
    liars = [plan.peers.index(name) for name in ("ash", "birch")]
    among = np.isin(plan.reducer, liars) & np.isin(plan.backup, liars)
    assert among.any() and not among.all()
    for number, is_among in enumerate(among):
        for segment in plan.segments([number]):
            place = np.ix_(*(list(indices) for indices in segment.sets))
            wanted = (old if is_among else table.truth)[segment.parameter][place]
            assert np.array_equal(cedar.store.read(segment), wanted)


def test_a_backup_that_has_left_the_round_makes_the_same(tmp_path: Path) -> None:
    table = Table(tmp_path, LAYOUT, fusion="median", is_checked=True)
    table.enter(0, ALL, ALL)
    table.train(np.random.default_rng(1))
    table.exchange()
    plan, desk = table.plan, table.desks["birch"]
    left = {r: plan.reduced_by("birch", instead_of=r) for r in NAMES if r != "birch"}
    for name in NAMES:
        table.check_reducers(name)
    told = {r: desk.total(0, r).result.copy() for r in left if left[r].size}
    assert told
    desk.store.flush()
    first, offers = table.plan, table.offers
    table.enter(1, ALL, ALL)
    table.plan, table.offers = (
        first,
        offers,
    )  # the round that is over, and in which it is asked once more
    for reducer, values in told.items():
        table.reduce("birch", instead_of=reducer)
        again = desk.total(0, reducer)
        assert not again.absent.any()
        assert np.array_equal(again.result, values)
