"""Coverage against counts of single coordinates."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from p2pfusion.split.coverage import (
    Held,
    contributed_bytes,
    coverage,
    ever_trained,
    traffic,
    training_bytes,
)
from p2pfusion.split.forms import WIRE
from p2pfusion.split.indices import IndexSet
from p2pfusion.split.layout import Layout
from p2pfusion.split.plan import Hop
from p2pfusion.split.segment import Split
from tests.layouts import resnet18
from tests.split.histories import (
    Coordinate,
    History,
    all_coordinates,
    histories,
    loose_splits,
    split_coordinates,
)
from tests.strategies import layouts

slow = settings(max_examples=30)
small_layouts = layouts().filter(lambda layout: layout.size <= 3_000)


def assert_held(
    found: Held, everything: set[int] | set[Coordinate], counts: Counter
) -> None:
    assert found.fraction == pytest.approx(len(counts) / len(everything))
    assert found.holders_min == min(counts[entry] for entry in everything)
    assert found.holders_mean == pytest.approx(counts.total() / len(everything))


@slow
@given(small_layouts, st.data())
def test_coverage_counts_holders(layout: Layout, data: st.DataObject) -> None:
    splits = data.draw(st.lists(loose_splits(layout), max_size=4))
    found = coverage(layout, splits)
    for axis, held in zip(layout.axes, found.axes, strict=True):
        assert held.name == axis.name
        counts = Counter(index for split in splits for index in split[axis.name])
        assert_held(held, set(range(axis.size)), counts)
    counts = Counter(c for split in splits for c in split_coordinates(layout, split))
    everything = all_coordinates(layout)
    assert_held(found.model, everything, counts)
    for index, held in enumerate(found.parameters):
        assert held.name == layout.parameters[index].name
        own = {c: n for c, n in counts.items() if c[0] == index}
        assert_held(held, {c for c in everything if c[0] == index}, Counter(own))


@slow
@given(small_layouts, st.data())
def test_ever_trained_unites_rounds(layout: Layout, data: st.DataObject) -> None:
    rounds = data.draw(st.lists(st.lists(loose_splits(layout), max_size=3), max_size=3))
    found = ever_trained(layout, rounds)
    trained = set().union(
        *(split_coordinates(layout, split) for splits in rounds for split in splits)
    )
    assert found.model == pytest.approx(len(trained) / layout.size)
    for index, parameter in enumerate(layout.parameters):
        own = sum(coordinate[0] == index for coordinate in trained)
        assert found.parameters[index] == pytest.approx(own / parameter.size)


@slow
@given(histories(round_count=4))
def test_ever_trained_agrees_with_homes(history: History) -> None:
    homes = history.plans()[-1].homes_after()
    rounds = [[s.trained for s in splits.values()] for splits in history.rounds[:-1]]
    expected = homes.ever_trained_fraction(history.layout)
    assert ever_trained(history.layout, rounds).model == pytest.approx(expected)


def test_tied_windows_leave_corners_untrained() -> None:
    layout = resnet18()
    halves = [
        Split.of(
            {
                axis.name: IndexSet.span(
                    start * axis.size // 2, (start + 1) * axis.size // 2
                )
                for axis in layout.axes
            }
        )
        for start in (0, 1)
    ]
    found = coverage(layout, halves)
    assert all(held.fraction == 1 for held in found.axes)
    weight = next(
        held for held in found.parameters if held.name == "stage4.2.conv2.weight"
    )
    assert (weight.fraction, weight.holders_min, weight.holders_mean) == (0.5, 0, 0.5)
    assert 0.5 < found.model.fraction < 0.51


@slow
@given(histories(), st.sampled_from(sorted(WIRE)))
def test_traffic_is_that_of_all_streams_in_bytes(history: History, name: str) -> None:
    plan, wire = history.plans()[-1], WIRE[name]
    sent, received, contributed = Counter[str](), Counter[str](), Counter[str]()
    for hop in (Hop.CONTRIBUTION, Hop.FUSED, Hop.HOME):
        for target in plan.peers:
            for source in plan.sources(hop, target):
                segments = plan.stream(hop, source=source, target=target)
                size = wire.form(hop).bytes_of(sum(s.size for s in segments))
                sent[source] += size
                received[target] += size
                contributed[source] += size if hop is Hop.CONTRIBUTION else 0
    for peer in plan.peers:
        found = traffic(plan, peer, wire=wire)
        assert (found.sent_bytes, found.received_bytes) == (sent[peer], received[peer])
        assert contributed_bytes(plan, peer, wire=wire) == contributed[peer]


def test_training_bytes_of_the_whole_model() -> None:
    layout = resnet18()
    split = Split.full(layout)
    found = training_bytes(layout, split, optimiser_copies=1, activation_bytes=1_000)
    assert found == 3 * 4 * layout.size + 1_000


def test_the_layout_has_the_size_of_a_resnet18() -> None:
    assert resnet18().size == 11_172_170
