"""Copies of everything, against a slow account of who has got which coordinate."""

from __future__ import annotations

import itertools
from collections import Counter
from fractions import Fraction

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from p2pfusion.split.copies import upkept
from p2pfusion.split.homes import Homes
from p2pfusion.split.plan import ExchangePlan, Hop
from p2pfusion.split.reducers import Lots
from tests.layouts import evenly, independently, resnet18
from tests.split.histories import (
    NAMES,
    Coordinate,
    History,
    coordinates,
    histories,
    streamed,
)

Holdings = dict[str, dict[Coordinate, int]]
slow = settings(max_examples=30)
copies = st.integers(1, 4)


def play(plan: ExchangePlan, has: Holdings) -> None:
    """One round as planned, coordinate by coordinate."""
    before = {peer: dict(versions) for peer, versions in has.items()}
    version = plan.round_index + 1
    for source, target in itertools.product(plan.peers, repeat=2):
        there = has.setdefault(target, {})
        if source == target:
            fused = coordinates(plan.segments(plan.reduced_by(target).tolist()))
        else:
            fused = streamed(plan, Hop.FUSED, source, target)
            for each in streamed(plan, Hop.HOME, source, target):
                there[each] = before[source][each]
        there.update(dict.fromkeys(fused, version))


@slow
@given(histories(round_count=4), copies)
def test_everything_has_enough_copies_among_those_that_stay(
    history: History, replication: int
) -> None:
    has: Holdings = {}
    plans = history.plans(replication=replication)
    for plan, following in zip(plans, history.rounds[1:], strict=True):
        play(plan, has)
        newest: dict[Coordinate, int] = {}
        for versions in has.values():
            for each, version in versions.items():
                newest[each] = max(version, newest.get(each, 0))
        living = Counter[Coordinate]()
        reachable: set[Coordinate] = set()
        for peer in plan.peers:
            current = {c for c, v in has[peer].items() if v == newest[c]}
            reachable |= current
            living.update(current if peer in following else ())
        wanted = min(replication, len(following))
        assert all(living[each] >= wanted for each in reachable)


@slow
@given(histories(round_count=3), copies)
def test_nobody_keeps_a_fused_copy_that_is_not_wanted(
    history: History, replication: int
) -> None:
    plain = history.plans()
    for plan, without in zip(
        history.plans(replication=replication), plain, strict=True
    ):
        if plan.homes.to_bytes() != without.homes.to_bytes():
            return  # the tables differ from the first extra copy on
        assert plan.reducer.tolist() == without.reducer.tolist()
        assert not (without.next_holders & ~plan.next_holders).any()
        following = history.rounds[plan.round_index + 1]
        stays = np.array([peer in following for peer in plan.peers], np.bool_)
        for number in np.flatnonzero(plan.reducer >= 0).tolist():
            reducer = plan.reducer[number]
            kept = plan.next_holders[:, number] & stays
            first = without.next_holders[:, number] & stays
            kept[reducer] |= stays[reducer]
            first[reducer] |= stays[reducer]
            wanted = max(int(first.sum()), min(replication, int(stays.sum())))
            assert kept.sum() == wanted


def test_the_backup_keeps_the_second_copy() -> None:
    layout = resnet18()
    rounds = [independently(layout, 6, Fraction(1, 4), t) for t in range(2)]
    (plan,) = History(layout, 1, tuple(rounds)).plans(replication=2)
    (plain,) = History(layout, 1, tuple(rounds)).plans()
    extra = plan.next_holders & ~plain.next_holders
    numbers = np.flatnonzero(extra.any(axis=0))
    assert numbers.size
    assert (extra.sum(axis=0)[numbers] == 1).all()
    assert extra[plan.backup[numbers], numbers].all()


def test_after_a_loss_there_are_two_copies_again() -> None:
    layout = resnet18()
    rounds = [evenly(layout, 8, Fraction(1, 4), t) for t in range(5)]
    gone = sorted(rounds[0])[2]
    for splits in rounds[3:]:
        del splits[gone]
    plans = History(layout, 1, tuple(rounds)).plans(replication=2)
    after = plans[2].homes_after()
    names = [peer for peer in after.peers if peer != gone]
    before = plans[2].homes
    lost = 0
    for index, version in enumerate(after.version):
        living = after.copies(index, names).sum(axis=0)
        lost += int((before.copies(index, names).sum(axis=0) < 2)[version > 0].sum())
        assert (living[version > 0] >= 2).all()
    assert lost, "nothing had to be copied"


# --- When nobody trains any more -----------------------------------------------------


def said_of(homes: Homes, index: int, place: tuple[int, ...]) -> set[str]:
    """Who has the newest values of a cell, by a table."""
    rows = homes.newest[index][(slice(None), *place)]
    return {homes.peers[at] for at in np.flatnonzero(rows).tolist()}


def drawn_one_by_one(
    said: set[str], living: set[str], number: int, round_index: int, wanted: int
) -> set[str]:
    """Who makes up for the gone: one cell at a time, one peer after the other."""
    names = sorted(living)
    (lots,) = Lots.draw(3, round_index, names).of(np.array([number]))
    order = sorted(range(len(names)), key=lambda at: int(lots[at]))
    found = set(said)
    for name in (names[at] for at in order):
        if len(found & living) < min(wanted, len(living)):
            found.add(name)
    return found


@slow
@given(histories(round_count=3), st.sets(st.sampled_from(NAMES)), st.integers(1, 3))
def test_who_is_gone_is_replaced_by_lot(
    history: History, living: set[str], wanted: int
) -> None:
    plan = history.plans(replication=wanted)[-1]
    homes = plan.homes_after().with_peers(living)
    ranges = [grid.cells for grid in plan.grids]
    number = plan.round_index
    settings = {"seed": 3, "round_index": number, "replication": wanted}
    found = upkept(homes, living=living, ranges=ranges, **settings)
    for index, version in enumerate(homes.version):
        for place in itertools.product(*map(range, version.shape)):
            before, after = said_of(homes, index, place), said_of(found, index, place)
            if not version[place]:
                assert not after
                continue
            of = int(ranges[index][place])
            assert after == drawn_one_by_one(before, living, of, number, wanted)


@slow
@given(histories(round_count=3), st.data())
def test_who_was_drawn_is_drawn_again_when_more_are_gone(
    history: History, data: st.DataObject
) -> None:
    plan = history.plans()[-1]
    many = data.draw(st.sets(st.sampled_from(NAMES), min_size=1))
    few = data.draw(st.sets(st.sampled_from(sorted(many))))
    homes, ranges = plan.homes_after().with_peers(many), [g.cells for g in plan.grids]
    tables = [
        upkept(
            homes,
            living=living,
            ranges=ranges,
            seed=5,
            round_index=plan.round_index,
            replication=2,
        )
        for living in (many, few)
    ]
    for index, version in enumerate(homes.version):
        for place in itertools.product(*map(range, version.shape)):
            first, then = (said_of(table, index, place) for table in tables)
            assert first & few <= then
