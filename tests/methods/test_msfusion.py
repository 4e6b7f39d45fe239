"""MSfusion: arguments, pace, spacing, and the step that would change nothing."""

from __future__ import annotations

import dataclasses
from fractions import Fraction
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pfusion.errors import ConfigError
from p2pfusion.methods.base import Member, PlanContext
from p2pfusion.methods.msfusion import MSfusion
from p2pfusion.split.indices import IndexSet
from p2pfusion.split.layout import Axis, Dimension, Initial, Layout, ParameterSpec
from tests.strategies import contexts, plain_data

FINE, COARSE = Axis("fine", 64), Axis("coarse", 8)
MATRIX = ParameterSpec(
    "w", (Dimension(64, "fine"), Dimension(8, "coarse")), Initial("zeros")
)
LAYOUT = Layout((FINE, COARSE), (MATRIX,))


def tied(**arguments: object) -> MSfusion:
    """The published kind of windows."""
    return MSfusion(shift="tied", **arguments)  # type: ignore[arg-type]


def swarm(*fractions: str, rounds: int = 20, layout: Layout = LAYOUT) -> PlanContext:
    members = (Member(f"p{n}", Fraction(mu)) for n, mu in enumerate(fractions))
    return PlanContext(0, rounds, layout, tuple(members))


def start_cell(axis: Axis, indices: IndexSet) -> int:
    """The cell that a window starts with: the one without a predecessor."""
    cells = axis.cells_in(indices)
    (start,) = (c for c in cells if (c - 1) % axis.cell_count not in cells)
    return start


def starts(method: MSfusion, context: PlanContext, round_index: int) -> list[int]:
    ranks = range(len(context.roster))
    splits = (method.split(context, round_index, rank) for rank in ranks)
    return [start_cell(FINE, split["fine"]) for split in splits]


# --- Arguments -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        ({"shift": "both"}, "shift"),
        ({"shift": None}, "shift"),
        ({"shift": "lines", "blocks": 6}, "blocks"),
        ({"shift": "lines", "step": 3}, "overlap and step"),
        ({"overlap": "sometimes"}, "overlap"),
        ({"overlap": {"constant": 1}}, "overlap"),
        ({"step": 0}, "step"),
        ({"step": 33}, "step"),
        ({"step": True}, "step"),
        ({"step": 1.0}, "step"),
        ({"step": "third"}, "step"),
        ({"dwell": -1}, "dwell"),
        ({"dwell": "4"}, "dwell"),
        ({"dwell": 10**9}, "dwell"),
        ({"shift": "skewed", "step": 2}, "step"),
        ({"shift": "skewed", "overlap": "constant 0.5"}, "overlap"),
    ],
)
def test_bad_arguments_are_named(arguments: dict[str, object], name: str) -> None:
    with pytest.raises(ConfigError, match=name):
        MSfusion(**arguments)  # type: ignore[arg-type]


@given(st.sampled_from(["shift", "overlap", "step", "dwell"]), plain_data)
def test_any_value_gives_a_method_or_a_config_error(name: str, value: object) -> None:
    try:
        method = MSfusion(**{name: value})  # type: ignore[arg-type]
    except ConfigError:
        return
    assert method.split(swarm("1/4", "1/4"), 3, 1)["fine"]


def test_the_same_schedule_makes_the_same_method() -> None:
    one = tied(overlap={"cosine": [0.25, "full"]})
    other = tied(overlap="cosine 1/4 full")
    assert one == other
    assert hash(one) == hash(other)


# --- Tied windows --------------------------------------------------------------------


def test_windows_move_one_cell_a_round_and_stay_evenly_spaced() -> None:
    context = swarm("1/4", "1/4", "1/4", "1/4")
    method = tied(step=1)
    assert starts(method, context, 0) == [0, 8, 16, 24]
    assert starts(method, context, 1) == [1, 9, 17, 25]
    assert starts(method, context, 33) == [1, 9, 17, 25]


def test_windows_dwell() -> None:
    context = swarm("1/4", "1/4")
    method = tied(step=1, dwell=3)
    found = [starts(method, context, t)[0] for t in range(8)]
    assert found == [0, 0, 0, 1, 1, 1, 2, 2]


def test_half_a_window_a_round() -> None:
    context = swarm("1/4", "1/4", "1/4")
    assert starts(tied(), context, 2) == [10, 20, 31]


def test_the_narrowest_window_sets_the_pace() -> None:
    assert starts(tied(step="half"), swarm("1/2", "1/8"), 1)[0] == 3


def test_one_shift_serves_all_axes_scaled_by_width() -> None:
    context = swarm("1/4", "1/4")
    for round_index in range(40):
        split = tied().split(context, round_index, 1)
        fine = start_cell(FINE, split["fine"])
        coarse = start_cell(COARSE, split["coarse"])
        assert coarse == fine * 8 // 32


def test_unequal_peers_stand_apart_by_their_own_widths() -> None:
    context = swarm("1/2", "1/4", "1/8", "1/8")
    assert starts(tied(), context, 0) == [0, 16, 24, 28]
    assert starts(tied(overlap="constant 0.5"), context, 0) == [0, 8, 12, 14]


@pytest.mark.parametrize(
    ("overlap", "first", "last"),
    [("linear 0 0.5", 8, 4), ("cosine 0.5 0", 4, 8), ("cosine 0 full", 8, 3)],
)
def test_the_overlap_follows_its_schedule(overlap: str, first: int, last: int) -> None:
    context = swarm(*["1/4"] * 8, rounds=20)
    for round_index, gap in ((0, first), (20, last), (99, last)):
        found = starts(tied(overlap=overlap), context, round_index)
        assert (found[1] - found[0]) % 32 == gap


@pytest.mark.parametrize("step", [8, 16, 32])
def test_a_step_that_would_change_nothing_is_one_cell_longer(step: int) -> None:
    context = swarm(*["1/4"] * 4)
    found = starts(tied(step=step), context, 1)
    assert found == [(start + step + 1) % 32 for start in (0, 8, 16, 24)]


def test_a_schedule_that_would_come_to_rest_at_its_end_is_seen_too() -> None:
    method = tied(overlap="linear 0.5 0", step=8)
    assert starts(method, swarm(*["1/4"] * 4), 1)[0] == 9


def test_a_step_that_changes_something_is_kept() -> None:
    assert starts(tied(step=4), swarm(*["1/4"] * 4), 1)[0] == 4
    assert starts(tied(step=8), swarm("1/4", "1/4", "1/2"), 1)[0] == 8


def test_where_every_cell_starts_a_window_the_step_is_kept() -> None:
    assert starts(tied(step=2), swarm(*["1/4"] * 32), 1)[0] == 2


@given(contexts(), st.integers(1, 32), st.integers(1, 3), st.integers(0, 40))
def test_windows_begin_again_after_a_cycle(
    context: PlanContext, step: int, dwell: int, round_index: int
) -> None:
    method = tied(step=step, dwell=dwell)
    later = round_index + method.cycle_rounds(context)
    for rank in range(len(context.roster)):
        found = method.split(context, later, rank)
        assert found == method.split(context, round_index, rank)


# --- Skewed windows ------------------------------------------------------------------


@given(contexts(), st.integers(1, 3), st.integers(0, 40))
def test_skewed_windows_begin_again_after_a_cycle(
    context: PlanContext, dwell: int, round_index: int
) -> None:
    method = MSfusion(shift="skewed", dwell=dwell)
    later = round_index + method.cycle_rounds(context)
    for rank in range(len(context.roster)):
        found = method.split(context, later, rank)
        assert found == method.split(context, round_index, rank)


def test_skewed_axes_move_against_each_other() -> None:
    context = swarm("1/4", "1/4", "1/4", "1/4", "1/4")
    method = MSfusion(shift="skewed")
    pairs = set()
    for round_index in range(method.cycle_rounds(context)):
        split = method.split(context, round_index, 0)
        fine, coarse = split["fine"], split["coarse"]
        pairs.add((start_cell(FINE, fine), start_cell(COARSE, coarse)))
    assert len({fine for fine, _ in pairs}) == len({coarse for _, coarse in pairs}) > 1
    assert len(pairs) == method.cycle_rounds(context)


@pytest.mark.parametrize(("fraction", "count"), [("1/4", 1), ("1/2", 2)])
def test_lines_train_every_pair_of_cells_within_a_turn(
    fraction: str, count: int
) -> None:
    wide = Axis("fine", 64), Axis("coarse", 16)
    matrix = ParameterSpec(
        "w", (Dimension(64, "fine"), Dimension(16, "coarse")), Initial("zeros")
    )
    layout = Layout(wide, (matrix,))
    context = swarm(*[fraction] * 4, layout=layout)
    method = MSfusion(shift="lines", start="silent", blocks=4, dwell=2)
    pairs: set[tuple[int, int]] = set()
    for turn in range(5):
        splits = [method.split(context, 2 * turn, rank) for rank in range(4)]
        assert splits == [method.split(context, 2 * turn + 1, n) for n in range(4)]
        assert {len(split["fine"]) for split in splits} == {16 * count}
        assert sum(len(split["coarse"]) for split in splits) == 16 * count
        for split in splits:
            pairs |= set(product(split["fine"], split["coarse"]))
    assert len(pairs) == 64 * 16
    later = method.cycle_rounds(context)
    assert later == 5 * 4 * 2
    assert method.split(context, later, 1) == method.split(context, 0, 1)


def test_who_has_no_room_for_a_line_trains_its_first_cells() -> None:
    layout = Layout((Axis("fine", 64),), ())
    context = swarm("1/4", "1/8", layout=layout)
    method = MSfusion(shift="lines", blocks=4)
    for round_index in range(20):
        whole = swarm("1/4", "1/4", layout=layout)
        cells = list(method.split(whole, round_index, 1)["fine"])
        assert list(method.split(context, round_index, 1)["fine"]) == cells[:8]


def test_lines_need_an_axis_that_their_points_divide() -> None:
    with pytest.raises(ConfigError, match="'coarse' has 8 separable cells"):
        MSfusion(shift="lines", blocks=4).initial(LAYOUT)
    assert MSfusion(shift="lines", start="dense", blocks=2).initial(LAYOUT) == LAYOUT


@given(contexts(), st.integers(0, 40), st.integers(0, 40))
def test_a_split_is_the_same_whoever_has_asked_before(
    context: PlanContext, one: int, other: int
) -> None:
    methods = [
        MSfusion(blocks=2),
        MSfusion(blocks=3, dwell=2),
        MSfusion(shift="lines", blocks=3),
        MSfusion(shift="skewed"),
        MSfusion(shift="tied", start="dense"),
        MSfusion(shift="tied", step=3, overlap="cosine 0.25 full"),
    ]
    for method in methods:
        for round_index in (one, other):
            for rank in range(len(context.roster)):
                found = method.split(context, round_index, rank)
                alone = dataclasses.replace(context)
                assert found == method.split(alone, round_index, rank)
