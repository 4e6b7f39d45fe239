"""Plans against sets of single coordinates."""

from __future__ import annotations

import random

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from p2pfusion.errors import LayoutError, LocalProtocolError
from p2pfusion.split.homes import Homes
from p2pfusion.split.indices import IndexSet
from p2pfusion.split.layout import Axis, Dimension, Initial, Layout, ParameterSpec
from p2pfusion.split.plan import ExchangePlan, Hop, plan_round
from p2pfusion.split.segment import Segment, Split
from tests.layouts import resnet18
from tests.split.histories import (
    History,
    all_coordinates,
    coordinates,
    current,
    following,
    histories,
    last_plan,
    streamed,
)

PULLS = (Hop.CONTRIBUTION, Hop.FUSED, Hop.HOME)
slow = settings(max_examples=30)


# --- Ranges --------------------------------------------------------------------------


@slow
@given(histories())
def test_ranges_partition_the_model(history: History) -> None:
    plan = last_plan(history)
    numbers = range(len(plan.range_sizes))
    assert coordinates(plan.segments(numbers)) == all_coordinates(history.layout)
    for number in numbers:
        segments = plan.segments([number])
        assert sum(segment.size for segment in segments) == plan.range_sizes[number]


@slow
@given(histories())
def test_ranges_have_the_right_holders(history: History) -> None:
    plan = last_plan(history)
    for position, peer in enumerate(plan.peers):
        held, wanted = current(history, peer), following(history, peer)
        for number in range(len(plan.range_sizes)):
            inside = coordinates(plan.segments([number]))
            assert plan.holders[position, number] == (inside <= held)
            assert plan.holders[position, number] or not inside & held
            assert plan.next_holders[position, number] == (inside <= wanted)
            assert plan.next_holders[position, number] or not inside & wanted


@slow
@given(histories())
def test_what_somebody_trains_has_one_reducer_and_one_backup(history: History) -> None:
    plan = last_plan(history)
    trained = np.flatnonzero(plan.holders.any(axis=0)).tolist()
    reduced = [n for peer in plan.peers for n in plan.reduced_by(peer).tolist()]
    assert sorted(reduced) == trained
    able = plan.holders | plan.next_holders
    for number in trained:
        reducer, backup = plan.reducer[number], plan.backup[number]
        assert able[reducer, number]
        assert backup != reducer
        assert (backup >= 0) == (len(plan.peers) > 1)
        if able[:, number].sum() > 1:
            assert able[backup, number]


@slow
@given(histories())
def test_segments_come_range_by_range(history: History) -> None:
    plan = last_plan(history)
    numbers = list(range(len(plan.range_sizes)))[::-2]
    one_by_one = [s for number in numbers for s in plan.segments([number])]
    assert plan.segments(numbers) == tuple(one_by_one)
    for number in numbers:
        parameters = [segment.parameter for segment in plan.segments([number])]
        assert parameters == sorted(parameters)


# --- Streams -------------------------------------------------------------------------


@slow
@given(histories())
def test_contributions_carry_every_split_once(history: History) -> None:
    plan = last_plan(history)
    for source in plan.peers:
        held = current(history, source)
        rest = held - coordinates(plan.segments(plan.reduced_by(source).tolist()))
        for target in plan.peers:
            sent = streamed(plan, Hop.CONTRIBUTION, source, target)
            assert sent <= rest
            rest -= sent
        assert not rest


@slow
@given(histories(round_count=4))
def test_every_following_split_arrives_once(history: History) -> None:
    plan = last_plan(history)
    trained = set().union(*(current(history, peer) for peer in plan.peers))
    for target in plan.peers:
        needed = following(history, target)
        fused = coordinates(plan.segments(plan.reduced_by(target).tolist())) & needed
        arrived = [fused]
        for source in plan.peers:
            arrived.append(streamed(plan, Hop.FUSED, source, target))
            arrived.append(streamed(plan, Hop.HOME, source, target))
        got = set().union(*arrived)
        assert sum(map(len, arrived)) == len(got)
        assert got <= needed
        assert needed & trained <= got
        there = got - trained
        missing = needed - trained - there
        # The rest was never trained, or is newest there, or nobody here has a copy.
        for home in plan.homes.peers:
            lacked = plan.homes.segments(plan.layout, home=home, lacking=target)
            if home in plan.peers:
                assert not coordinates(lacked) & missing
                assert there & coordinates(
                    plan.homes.segments(plan.layout, home=home)
                ) == (there & coordinates(lacked))


@slow
@given(histories(round_count=4))
def test_catching_up_takes_everything_untrained_from_homes(history: History) -> None:
    plan = last_plan(history)
    trained = set().union(*(current(history, peer) for peer in plan.peers))
    for source in plan.peers:
        lives = coordinates(plan.homes.segments(plan.layout, home=source))
        for target in set(plan.peers) - {source}:
            caught = streamed(plan, Hop.CATCH_UP, source, target)
            assert caught == (following(history, target) & lives) - trained
            assert streamed(plan, Hop.EXPORT, source, target) == lives
            assert streamed(plan, Hop.HOME, source, target) <= caught


@slow
@given(histories(round_count=4))
def test_sources_are_those_with_a_stream(history: History) -> None:
    plan = last_plan(history)
    for hop in Hop:
        for target in plan.peers:
            streams = {
                source: plan.stream(hop, source=source, target=target)
                for source in plan.peers
            }
            assert not streams[target]
            filled = [source for source, segments in streams.items() if segments]
            assert plan.sources(hop, target) == tuple(filled)
            for source, segments in streams.items():
                found = plan.stream_elements(hop, source=source, target=target)
                assert found == sum(segment.size for segment in segments)


@slow
@given(histories())
def test_own_ranges_are_reduced_and_held(history: History) -> None:
    plan = last_plan(history)
    for peer in plan.peers:
        held = current(history, peer)
        own = coordinates(plan.segments(plan.own_ranges(peer).tolist()))
        reduced = coordinates(plan.segments(plan.reduced_by(peer).tolist()))
        assert own == held & reduced


@slow
@given(histories(round_count=4))
def test_predicted_elements_are_those_of_the_streams(history: History) -> None:
    plan = last_plan(history)
    sent = dict.fromkeys(plan.peers, 0)
    received = dict.fromkeys(plan.peers, 0)
    for hop in PULLS:
        for target in plan.peers:
            for source in plan.sources(hop, target):
                segments = plan.stream(hop, source=source, target=target)
                sent[source] += sum(segment.size for segment in segments)
                received[target] += sum(segment.size for segment in segments)
    assert {peer: plan.elements_sent(peer) for peer in plan.peers} == sent
    assert {peer: plan.elements_received(peer) for peer in plan.peers} == received


@slow
@given(histories())
def test_transfers_are_holders_and_next_holders_less_the_reducer(
    history: History,
) -> None:
    plan = last_plan(history)
    transfers = np.zeros(len(plan.range_sizes), np.int64)
    for hop in (Hop.CONTRIBUTION, Hop.FUSED):
        for source in plan.peers:
            for target in plan.peers:
                transfers[plan.ranges(hop, source=source, target=target)] += 1
    for number in np.flatnonzero(plan.reducer >= 0).tolist():
        held, wanted = plan.holders[:, number], plan.next_holders[:, number]
        reducer = plan.reducer[number]
        h, k = int(held.sum()), int(wanted.sum())
        assert transfers[number] == h + k - held[reducer] - wanted[reducer]
        direct = h * k - int((held & wanted).sum())
        # Without a next holder nothing would be pulled directly, and all would be lost.
        assert transfers[number] <= (direct if k else h)


# --- Agreement -----------------------------------------------------------------------


def assert_same(one: ExchangePlan, other: ExchangePlan) -> None:
    assert one.digest == other.digest
    assert one.peers == other.peers
    assert one.range_sizes.tolist() == other.range_sizes.tolist()
    assert one.reducer.tolist() == other.reducer.tolist()
    assert one.backup.tolist() == other.backup.tolist()
    assert one.homes_after().to_bytes() == other.homes_after().to_bytes()


@slow
@given(histories(round_count=3), st.randoms(use_true_random=False))
def test_the_order_of_the_mappings_does_not_matter(
    history: History, chance: random.Random
) -> None:
    shuffled = []
    for splits in history.rounds:
        items = list(splits.items())
        chance.shuffle(items)
        shuffled.append(dict(items))
    again = History(history.layout, history.seed, tuple(shuffled))
    for one, other in zip(history.plans(), again.plans(), strict=True):
        assert_same(one, other)


@slow
@given(histories(round_count=3), st.data())
def test_the_digest_names_everything_that_fixes_coordinates(
    history: History, data: st.DataObject
) -> None:
    before = last_plan(history)
    index = data.draw(st.sampled_from([1, 2]))
    assume(history.rounds[index])
    peer = data.draw(st.sampled_from(sorted(history.rounds[index])))
    empty = Split(tuple((axis.name, IndexSet()) for axis in history.layout.axes))
    # What is held frozen at present fixes nothing: it comes from before.
    assume(history.rounds[index][peer].trained.digest != empty.digest)
    rounds = list(history.rounds)
    rounds[index] = {**rounds[index], peer: empty}
    changed = History(history.layout, history.seed, tuple(rounds))
    assert last_plan(changed).digest != before.digest
    reseeded = History(history.layout, history.seed + 1, history.rounds)
    assert last_plan(reseeded).digest != before.digest
    rounds[index] = {p: s for p, s in history.rounds[index].items() if p != peer}
    without = History(history.layout, history.seed, tuple(rounds))
    assert last_plan(without).digest != before.digest


# --- Wrong arguments -----------------------------------------------------------------


def small_plan() -> ExchangePlan:
    axis = Axis("width", 8)
    layout = Layout(
        (axis,), (ParameterSpec("w", (Dimension(8, "width"),), Initial("zeros")),)
    )
    splits = {
        name: Split.of({"width": IndexSet.span(start, start + 5)})
        for name, start in (("a", 0), ("b", 3))
    }
    return plan_round(
        layout,
        seed=0,
        round_index=0,
        current=splits,
        following=splits,
        homes=Homes.initial(layout),
    )


def test_a_split_off_the_grid_is_refused() -> None:
    layout = resnet18()
    uneven = Split(
        tuple((axis.name, IndexSet.span(1, axis.size)) for axis in layout.axes)
    )
    with pytest.raises(LayoutError):
        plan_round(
            layout,
            seed=0,
            round_index=0,
            current={"a": uneven},
            following={},
            homes=Homes.initial(layout),
        )


@pytest.mark.parametrize("hop", [Hop.HOME, Hop.CATCH_UP, Hop.EXPORT])
def test_hops_from_homes_have_no_ranges(hop: Hop) -> None:
    with pytest.raises(LocalProtocolError):
        small_plan().ranges(hop, source="a", target="b")


@pytest.mark.parametrize("hop", list(Hop))
def test_a_stranger_has_no_part_in_a_plan(hop: Hop) -> None:
    plan = small_plan()
    for source, target in (("a", "zoe"), ("zoe", "a"), ("a", "a")):
        assert plan.stream(hop, source=source, target=target) == ()
        assert plan.stream_elements(hop, source=source, target=target) == 0
    assert plan.sources(hop, "zoe") == plan.sources(hop, "a", instead_of="zoe") == ()
    assert plan.substitutes(hop, source="a", target="zoe") == ()
    assert plan.substitutes(hop, source="zoe", target="a") == ()
    assert len(plan.reduced_by("zoe")) == len(plan.own_ranges("zoe")) == 0
    assert len(plan.reduced_by("a", instead_of="zoe")) == 0
    assert plan.elements_sent("zoe") == plan.elements_received("zoe") == 0


def test_a_small_plan_by_hand() -> None:
    plan = small_plan()
    streams = {
        hop: [plan.stream(hop, source=s, target=t) for s, t in (("a", "b"), ("b", "a"))]
        for hop in (Hop.CONTRIBUTION, Hop.FUSED)
    }
    # Cells 3 and 4 are shared; each peer reduces one and so owes it to the other.
    shared = [(Segment(0, (IndexSet.span(cell, cell + 1),)),) for cell in (3, 4)]
    assert streams[Hop.FUSED] in (shared, shared[::-1])
    assert streams[Hop.CONTRIBUTION] == streams[Hop.FUSED][::-1]
    assert plan.elements_sent("a") == plan.elements_received("a") == 2


@pytest.mark.parametrize("names", ["", "a", "ab"])
def test_a_model_without_parameters_has_no_ranges(names: str) -> None:
    layout = Layout((Axis("width", 8),), ())
    splits = dict.fromkeys(names, Split.full(layout))
    plan = plan_round(
        layout,
        seed=0,
        round_index=0,
        current=splits,
        following=splits,
        homes=Homes.initial(layout),
    )
    assert len(plan.range_sizes) == len(plan.reducer) == 0
    assert plan.homes_after().peers == tuple(names)


def test_a_lone_peer_exchanges_nothing() -> None:
    layout = resnet18()
    full = {"only": Split.full(layout)}
    plan = plan_round(
        layout,
        seed=0,
        round_index=0,
        current=full,
        following=full,
        homes=Homes.initial(layout),
    )
    assert plan.elements_sent("only") == plan.elements_received("only") == 0
    assert plan.backup.max() == -1
    assert plan.homes_after().ever_trained_fraction(layout) == 1.0
