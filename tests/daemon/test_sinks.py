"""Updates that come too late, with real numbers: what is fused of them, and how."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from p2pfusion.daemon.sinks import BufferSink
from p2pfusion.errors import LocalProtocolError
from p2pfusion.split.layout import Layout
from p2pfusion.split.segment import Segment, Split
from p2pfusion.store import Store
from tests.daemon.desks import NAMES, Table, rounds_of_splits
from tests.daemon.test_payloads import ALL, LAYOUT
from tests.split.histories import trained

LATE_WEIGHT = 0.5
ALL_CELLS = range(len(LAYOUT.signatures))


def covers(held: Segment, wanted: Segment) -> bool:
    """Whether each of the positions that are wanted is held."""
    pairs = zip(held.sets, wanted.sets, strict=True)
    return all(set(inner) <= set(outer) for outer, inner in pairs)


def expected(table: Table, late: str, base: Split, offered: list) -> list:
    """The slow version: sums over dense arrays, range by range."""
    layout = table.layout
    total = [np.zeros(p.shape) for p in layout.parameters]
    weight = [np.zeros(p.shape) for p in layout.parameters]
    for name, arrays in table.offers.items():
        for index, values in enumerate(arrays):
            segment = table.current[name].segment(layout, index)
            place = np.ix_(*(list(indices) for indices in segment.sets))
            total[index][place] += values
            weight[index][place] += 1
    dense = [np.zeros(p.shape) for p in layout.parameters]
    for index, values in enumerate(offered):
        segment = base.segment(layout, index)
        dense[index][np.ix_(*(list(s) for s in segment.sets))] = values
    plan = table.plan
    held = plan.holders[plan.peers.index(late)]
    for number in np.flatnonzero(held):
        segments = plan.segments([number])
        if all(covers(base.segment(layout, s.parameter), s) for s in segments):
            for segment in segments:
                place = np.ix_(*(list(indices) for indices in segment.sets))
                total[segment.parameter][place] += (
                    LATE_WEIGHT * dense[segment.parameter][place]
                )
                weight[segment.parameter][place] += LATE_WEIGHT
    pairs = zip(total, weight, table.truth, strict=True)
    return [
        np.where(w > 0, t / np.where(w > 0, w, 1), np.nan).astype(np.float32)
        for t, w, old in pairs
    ]


@settings(max_examples=25)
@given(rounds_of_splits(round_count=2), st.integers(0, 2**32), st.sampled_from(NAMES))
def test_a_late_update_counts_with_its_weight_where_both_splits_have_it(
    drawn: tuple[Layout, list[dict[str, Split]]], seed: int, late: str
) -> None:
    with tempfile.TemporaryDirectory() as root:
        layout, rounds = drawn
        check_late_update(Table(Path(root), layout), rounds, seed, late)


def check_late_update(
    table: Table, rounds: list[dict[str, Split]], seed: int, late: str
) -> None:
    """Two rounds, in the second of which one offers what it trained for the first."""
    random = np.random.default_rng(seed)
    first, second, third = rounds
    others = tuple(name for name in NAMES if name != late)
    table.enter(0, first, second)
    table.train(random)
    late_offer = table.offers.pop(late)
    table.exchange()
    table.learn_truth()
    table.enter(1, second, third)
    table.train(random, others)
    truth = expected(table, late, trained(first[late]), late_offer)
    table.desks[late].offer_late(1, 0)
    table.weights[late] = LATE_WEIGHT
    table.offers[late] = late_offer
    table.exchange()
    table.truth = truth
    for name in NAMES:
        pairs = zip(
            table.stored(name, third[name]), table.true(third[name]), strict=True
        )
        for stored, true in pairs:
            known = np.isfinite(true)  # somebody has contributed to it
            np.testing.assert_array_equal(stored[known], true[known])


def test_offering_late_what_was_never_trained_is_our_own_bug(tmp_path: Path) -> None:
    table = Table(tmp_path, LAYOUT)
    table.enter(1, ALL, ALL)
    with pytest.raises(LocalProtocolError):
        table.desks[NAMES[0]].offer_late(1, 0)


def test_what_is_here_in_a_newer_version_stays(tmp_path: Path) -> None:
    store = Store.create(tmp_path / "store", LAYOUT, 0)
    segments = list(Split.full(LAYOUT).segments(LAYOUT))
    size = sum(segment.size for segment in segments)
    for version, value, kept in ((2, 2.0, 2.0), (1, 1.0, 2.0), (3, 3.0, 3.0)):
        buffer = np.full(size, value, np.float32)
        present = [True] * len(segments)
        sink = BufferSink(segments, present, store, version, buffer)
        sink.add(buffer)
        sink.finish()
        store.flush()
        assert all((store.read(segment) == kept).all() for segment in segments)
        assert all((v == max(version, 2)).all() for v in map(store.versions, ALL_CELLS))
