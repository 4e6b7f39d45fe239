"""The figures of the MSfusion specification, one test per claim.

Sections are those of the project's implementation notes on arXiv 2407.03622, whose full
text was not at hand: every figure here was derived there by enumeration, from the index
rules of HeteroFL and FedRolex (published code) and the reconstruction of MSfusion.

The papers know no grid, so where a figure needs more than 32 positions on an axis the
tests lift the limit on cells, and one cell is one index.
"""

from __future__ import annotations

from fractions import Fraction
from itertools import combinations

import numpy as np
import pytest

from p2pfusion.methods import Member, Method, PlanContext, build_method
from p2pfusion.methods.msfusion import MSfusion
from p2pfusion.split import layout as layout_module
from p2pfusion.split.layout import Axis, Dimension, Initial, Layout, ParameterSpec
from p2pfusion.split.windows import (
    full_overlap,
    overlapping_step,
    peer_offsets,
    stands_still,
    window_width,
)

QUARTER = Fraction(1, 4)


@pytest.fixture
def one_index_per_cell(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(layout_module, "MAX_CELLS_PER_AXIS", 512)


def model(*widths: int) -> Layout:
    """Axes of these widths, and a weight matrix between every two of them."""
    axes = [Axis(f"group{n}", width) for n, width in enumerate(widths)]
    pairs = combinations(axes, 2)
    return Layout(
        tuple(axes),
        tuple(
            ParameterSpec(
                f"{out.name} {into.name}",
                (Dimension(out.size, out.name), Dimension(into.size, into.name)),
                Initial("zeros"),
            )
            for out, into in pairs
        ),
    )


def swarm(layout: Layout, mu: float | Fraction, peers: int) -> PlanContext:
    fraction = Fraction(str(mu))
    roster = tuple(Member(f"peer{n:02}", fraction) for n in range(peers))
    return PlanContext(0, 1_000, layout, roster)


def trained(method: Method, context: PlanContext, rounds: int) -> list[float]:
    """The part of every weight matrix that somebody trained, matrix by matrix."""
    touched = [np.zeros(p.shape, dtype=bool) for p in context.layout.parameters]
    for round_index in range(rounds):
        for rank in range(len(context.roster)):
            split = method.split(context, round_index, rank)
            for segment in split.segments(context.layout):
                rows, columns = (list(indices) for indices in segment.sets)
                touched[segment.parameter][np.ix_(rows, columns)] = True
    return [float(matrix.mean()) for matrix in touched]


# --- Section 2.2: window starts ------------------------------------------------------

VECTORS = [
    # overlap o, gap g, rho, step s, starts at t = 0, 1, 2
    ("0", 4, "0", 4, [[0, 4, 8, 12], [4, 8, 12, 0], [8, 12, 0, 4]]),
    ("0", 4, "1/2", 3, [[0, 4, 8, 12], [3, 7, 11, 15], [6, 10, 14, 2]]),
    ("1/2", 2, "0", 4, [[0, 2, 4, 6], [4, 6, 8, 10], [8, 10, 12, 14]]),
    ("1/2", 2, "1/2", 3, [[0, 2, 4, 6], [3, 5, 7, 9], [6, 8, 10, 12]]),
]


@pytest.mark.parametrize(("overlap", "gap", "rho", "step", "starts"), VECTORS)
def test_section_2_2_starts_from_the_formulas(
    overlap: str, gap: int, rho: str, step: int, starts: list[list[int]]
) -> None:
    """K = 16, mu = 0.25, N = 4: start(n, t) = (t s + n g) mod K."""
    width = window_width(16, QUARTER)
    offsets = peer_offsets(16, [QUARTER] * 4, Fraction(overlap))
    assert width == 4
    assert offsets[1] == gap
    assert overlapping_step(width, Fraction(rho)) == step
    for round_index, row in enumerate(starts):
        assert [(round_index * step + offset) % 16 for offset in offsets] == row


@pytest.mark.parametrize(("overlap", "gap", "rho", "step", "starts"), VECTORS[1:])
def test_section_2_2_starts_from_the_method(
    overlap: str, gap: int, rho: str, step: int, starts: list[list[int]]
) -> None:
    context = swarm(model(16), QUARTER, 4)
    pace: int | str = "half" if rho == "1/2" else step
    method = MSfusion(shift="tied", overlap=f"constant {overlap}", step=pace)
    for round_index, row in enumerate(starts):
        for rank, start in enumerate(row):
            held = method.split(context, round_index, rank)["group0"]
            assert set(held) == {(start + i) % 16 for i in range(4)}


def test_section_2_2_the_degenerate_first_row_is_avoided() -> None:
    """g N = K and s = g: the set of windows is the same every round.

    Differs: the step becomes one cell longer, so that other windows occur.
    """
    assert stands_still(16, [(0, 4), (4, 4), (8, 4), (12, 4)], 4)
    context = swarm(model(16), QUARTER, 4)
    method = MSfusion(shift="tied", overlap="constant 0", step=4)
    starts = [min(method.split(context, 1, rank)["group0"]) for rank in range(3)]
    assert starts == [5, 9, 0]
    assert min(method.split(context, 1, 3)["group0"]) == 1


@pytest.mark.parametrize(
    ("mu", "expected"), [(0.1875, 0.519), (0.125, 0.222), (0.1, 0)]
)
def test_section_2_2_largest_overlap_that_covers(mu: float, expected: float) -> None:
    """o_full = 1 - (1 - mu) / ((N - 1) mu), for N = 10."""
    found = full_overlap([Fraction(str(mu))] * 10)
    assert float(found) == pytest.approx(expected, abs=5e-4)


@pytest.mark.parametrize(
    ("mu", "fewest", "most", "mean"),
    [(0.125, 1, 2, 1.25), (0.1875, 1, 2, 1.875), (0.25, 2, 3, 2.5), (0.5, 5, 5, 5)],
)
def test_section_2_2_holders_per_index(
    mu: float, fewest: int, most: int, mean: float
) -> None:
    """Uniform spacing, N = 10, K = 512."""
    fraction = Fraction(str(mu))
    holders = np.zeros(512, dtype=int)
    for start in peer_offsets(512, [fraction] * 10, None):
        window = (start + np.arange(window_width(512, fraction))) % 512
        holders[window] += 1
    assert (holders.min(), holders.max()) == (fewest, most)
    assert holders.mean() == pytest.approx(mean, abs=1e-9)


# --- Section 2.4: which entries are ever trained -------------------------------------

SAME_WIDTH = [(0.125, 0.234), (0.1875, 0.359), (0.25, 0.484), (0.5, 0.984)]


@pytest.mark.usefixtures("one_index_per_cell")
@pytest.mark.parametrize(
    ("mu", "expected"), [(0.125, 0.016), (0.25, 0.0625), (0.5, 0.25)]
)
def test_section_2_4_heterofl_trains_the_square(mu: float, expected: float) -> None:
    found = trained(build_method("heterofl", {}), swarm(model(64, 128), mu, 3), 70)
    assert found == [mu * mu]
    assert found[0] == pytest.approx(expected, abs=5e-4)


@pytest.mark.usefixtures("one_index_per_cell")
@pytest.mark.parametrize(("mu", "expected"), SAME_WIDTH)
@pytest.mark.parametrize("name", ["fedrolex", "msfusion"])
def test_section_2_4_windows_with_equal_starts_train_a_band(
    name: str, mu: float, expected: float
) -> None:
    """Two axes of K = 64: min(1, (2 w - 1) / K), forever."""
    context = swarm(model(64, 64), mu, 4)
    arguments = {"shift": "tied"} if name == "msfusion" else {}
    method = build_method(name, arguments)
    (found,) = trained(method, context, 64)
    assert found == (2 * round(mu * 64) - 1) / 64
    assert found == pytest.approx(expected, abs=5e-4)
    assert trained(method, context, 150) == [found]


@pytest.mark.usefixtures("one_index_per_cell")
@pytest.mark.parametrize(
    ("mu", "expected"), [(0.125, 0.359), (0.1875, 0.547), (0.25, 0.734)]
)
def test_section_2_4_fedrolex_across_widths(mu: float, expected: float) -> None:
    """From 64 to 128 with start t mod K on each."""
    (found,) = trained(build_method("fedrolex", {}), swarm(model(64, 128), mu, 1), 128)
    assert found == pytest.approx(expected, abs=5e-4)


@pytest.mark.parametrize(
    ("mu", "cells"), [(0.125, 4), (0.1875, 6), (0.25, 8), (0.5, 16)]
)
@pytest.mark.parametrize("name", ["fedrolex", "msfusion"])
def test_section_2_4_on_the_grid_all_widths_train_the_same_band(
    name: str, mu: float, cells: int
) -> None:
    """Proportional starts fall back to the figure for equal widths: 32 cells here."""
    context = swarm(model(64, 128), mu, 2)
    arguments = {"shift": "tied", "step": 1} if name == "msfusion" else {}
    method = build_method(name, arguments)
    assert trained(method, context, 64) == [(2 * cells - 1) / 32]


SKEWED = [
    (0.0625, 10, 34),
    (0.125, 10, 22),
    (0.1875, 10, 7),
    (0.25, 5, 14),
    (0.25, 10, 7),
]


@pytest.mark.usefixtures("one_index_per_cell")
@pytest.mark.parametrize(("mu", "peers", "rounds"), SKEWED)
def test_section_2_4_skewed_windows_train_everything(
    mu: float, peers: int, rounds: int
) -> None:
    """Seven groups of widths 64 to 512, each meeting every other: 100 % after M S."""
    context = swarm(model(64, 64, 128, 128, 256, 256, 512), mu, peers)
    method = MSfusion(shift="skewed")
    assert method.cycle_rounds(context) == rounds
    assert min(trained(method, context, rounds)) == 1.0
    assert min(trained(method, context, rounds - 1)) < 1.0


@pytest.mark.parametrize(("mu", "peers", "rounds"), SKEWED)
def test_section_2_4_skewed_windows_train_everything_on_the_grid_too(
    mu: float, peers: int, rounds: int
) -> None:
    context = swarm(model(64, 64, 128, 128, 256, 256, 512), mu, peers)
    assert min(trained(MSfusion(shift="skewed"), context, rounds)) == 1.0
