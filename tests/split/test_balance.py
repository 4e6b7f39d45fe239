"""Plans for swarms on a ResNet18's shapes: the same everywhere, and evenly shared."""

from __future__ import annotations

import hashlib
import itertools
import subprocess
import sys
import time
from fractions import Fraction
from pathlib import Path

import pytest

from p2pfusion.split.layout import Layout
from p2pfusion.split.plan import ExchangePlan
from p2pfusion.split.segment import Split
from p2pfusion.split.windows import prefix_window, window_cells
from tests.layouts import Windows, evenly, independently, resnet18
from tests.split.histories import History

ROOT = Path(__file__).resolve().parent.parent.parent


def planned_rounds(
    windows: Windows,
    peer_count: int,
    fraction: str,
    *,
    round_count: int = 3,
    replication: int = 0,
) -> list[ExchangePlan]:
    layout, exact = resnet18(), Fraction(fraction)
    rounds = [windows(layout, peer_count, exact, t) for t in range(round_count + 1)]
    return History(layout, 1, tuple(rounds)).plans(replication=replication)


def moved_sub_models(plan: ExchangePlan) -> list[float]:
    """What each peer sends and receives, in its own sub-models."""
    own = sum(grid.own_elements() for grid in plan.grids) / 2
    return [
        (plan.elements_sent(peer) + plan.elements_received(peer)) / own[position]
        for position, peer in enumerate(plan.peers)
    ]


@pytest.mark.parametrize(
    ("peer_count", "expected"),
    [(4, 2.01), (8, 2.76), (16, 3.32), (64, 3.83), (256, 3.97)],
)
def test_the_busiest_peer_moves_under_four_sub_models(
    peer_count: int, expected: float
) -> None:
    for plan in planned_rounds(evenly, peer_count, "1/2"):
        assert max(moved_sub_models(plan)) <= expected


@pytest.mark.parametrize(("peer_count", "ratio"), [(8, 1.41), (64, 1.03), (256, 1.04)])
def test_independent_windows_are_balanced_too(peer_count: int, ratio: float) -> None:
    for plan in planned_rounds(independently, peer_count, "1/4"):
        moved = moved_sub_models(plan)
        assert max(moved) <= ratio * sum(moved) / len(moved)
        assert max(moved) <= 4.2


@pytest.mark.parametrize("peer_count", [4, 8, 16])
@pytest.mark.parametrize("fraction", ["1/4", "1/8"])
def test_equal_prefixes_are_shared_out_evenly(peer_count: int, fraction: str) -> None:
    """One held atom per axis, and most of the axis idle: only the former is cut."""

    def prefixes(
        layout: Layout, peer_count: int, fraction: Fraction, round_index: int
    ) -> dict[str, Split]:
        widths = {a.name: window_cells(a, fraction) for a in layout.axes}
        sets = {a.name: prefix_window(a, widths[a.name]) for a in layout.axes}
        return {f"peer-{n:02}": Split.of(sets) for n in range(peer_count)}

    for plan in planned_rounds(prefixes, peer_count, fraction):
        moved = moved_sub_models(plan)
        assert max(moved) <= 1.1 * sum(moved) / len(moved)
        assert max(moved) <= 4.2


def test_a_small_peer_moves_little() -> None:
    layout = resnet18()

    def mixed(round_index: int) -> dict[str, Split]:
        large = evenly(layout, 16, Fraction(1, 2), round_index)
        small = evenly(layout, 16, Fraction(1, 4), round_index)
        return {p: (large, small)[i % 2][p] for i, p in enumerate(sorted(large))}

    history = History(layout, 1, tuple(mixed(index) for index in range(3)))
    for plan in history.plans():
        assert max(moved_sub_models(plan)) <= 4.2


def test_reducers_stay_while_splits_do() -> None:
    plans = planned_rounds(evenly, 8, "1")
    for before, after in itertools.pairwise(plans):
        assert after.reducer.tolist() == before.reducer.tolist()


def test_planning_for_64_peers_takes_well_under_a_second() -> None:
    planned_rounds(evenly, 8, "1/2", round_count=1)
    started = time.process_time()
    planned_rounds(evenly, 64, "1/2", round_count=1)
    assert time.process_time() - started < 1


# --- The same everywhere -------------------------------------------------------------

PRINTED = """
from tests.split.test_balance import evenly, plan_digest, planned_rounds
print(plan_digest(planned_rounds(evenly, 6, "1/2", replication=2)[-1]))
"""
PINNED = "350d49c506742a2659136be6bed96dd62b77bf2ef12387febeef1d873c2c0526"


def plan_digest(plan: ExchangePlan) -> str:
    """A digest of all that the plan decides."""
    arrays = (plan.range_sizes, plan.reducer, plan.backup)
    data = b"".join(array.astype("<i8").tobytes() for array in arrays)
    digest = hashlib.sha256(data + plan.digest + plan.homes_after().to_bytes())
    return digest.hexdigest()


@pytest.mark.parametrize("hash_seed", ["1", "2"])
def test_plans_are_the_same_in_every_process_and_release(hash_seed: str) -> None:
    printed = subprocess.run(
        [sys.executable, "-c", PRINTED],
        cwd=ROOT,
        env={"PYTHONHASHSEED": hash_seed},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    # A change of this value is a change of the protocol: peers would not agree.
    assert printed.stdout.strip() == PINNED
