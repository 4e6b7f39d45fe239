"""Windows, offsets, overlap schedules and skewed starts against plain counting."""

from __future__ import annotations

import math
from fractions import Fraction
from itertools import pairwise, product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pfusion.errors import ConfigError
from p2pfusion.split.indices import IndexSet
from p2pfusion.split.layout import Axis, Dimension, Initial, Layout, ParameterSpec
from p2pfusion.split.windows import (
    Overlap,
    Skew,
    check_fraction,
    cosine,
    exact_fraction,
    full_overlap,
    overlapping_step,
    peer_offsets,
    prefix_window,
    rolling_window,
    shifted_window,
    skew_constants,
    stands_still,
    window_cells,
    window_width,
)
from tests.strategies import axes, layouts, split_fractions

HALF = Fraction(1, 2)
fraction_lists = st.lists(split_fractions, min_size=1, max_size=8)


def held(start: int, width: int, count: int) -> set[int]:
    return {(start + step) % count for step in range(width)}


# --- Numbers -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (0.1, Fraction(1, 10)),
        (1, Fraction(1)),
        ("0.30", Fraction(3, 10)),
        ("3/16", Fraction(3, 16)),
        (1e-05, Fraction(1, 100_000)),
        (Fraction(2, 7), Fraction(2, 7)),
    ],
)
def test_numbers_are_taken_as_they_are_written(
    value: object, expected: Fraction
) -> None:
    assert exact_fraction(value) == expected


@pytest.mark.parametrize(
    "value",
    [True, None, "", "1/0", "1e999999999", "nan", float("nan"), float("inf"), [], b"1",
     "9" * 5_000, 10**5_000],
    ids=range(12),
)  # fmt: skip
def test_everything_else_is_no_number(value: object) -> None:
    with pytest.raises(ValueError, match=r"not|zero|digits|NaN|Invalid"):
        exact_fraction(value)


# --- Windows -------------------------------------------------------------------------


@given(axes(), split_fractions)
def test_a_window_is_the_fraction_of_the_cells_rounded_up(
    axis: Axis, fraction: Fraction
) -> None:
    width_cells = window_cells(axis, fraction)
    assert width_cells == math.ceil(fraction * axis.cell_count)
    assert 1 <= width_cells <= axis.cell_count


@given(axes(), split_fractions, st.integers(-200, 200))
def test_a_rolling_window_is_cyclic_and_made_of_cells(
    axis: Axis, fraction: Fraction, start: int
) -> None:
    width_cells = window_cells(axis, fraction)
    found = axis.cells_in(rolling_window(axis, width_cells, start))
    assert set(found) == held(start, width_cells, axis.cell_count)


@given(axes(), split_fractions)
def test_a_prefix_is_a_window_that_starts_at_the_first_index(
    axis: Axis, fraction: Fraction
) -> None:
    found = prefix_window(axis, window_cells(axis, fraction))
    assert found.ranges[0][0] == 0
    assert len(found.ranges) == 1


@given(axes(), st.integers(0, 99), st.integers(0, 99))
def test_both_shifts_add_up(axis: Axis, offset: int, shift: int) -> None:
    found = shifted_window(axis, 1, peer_offset_cells=offset, round_shift_cells=shift)
    assert found == rolling_window(axis, 1, offset + shift)


@given(layouts(), split_fractions)
def test_a_fraction_of_less_than_one_cell_is_refused(
    layout: Layout, fraction: Fraction
) -> None:
    # A layer is there or not, whatever the fraction.
    deep = len(layout.widths) < len(layout.axes)
    fits = deep or all(fraction * axis.cell_count >= 1 for axis in layout.axes)
    if fits:
        check_fraction(layout, fraction, "peer.split_fraction")
    else:
        with pytest.raises(ConfigError, match=r"peer\.split_fraction.*too small") as it:
            check_fraction(layout, fraction, "peer.split_fraction")
        least = Fraction(it.value.hint.split()[-1])
        check_fraction(layout, least, "the advice that the error gave")


# --- Offsets between peers -----------------------------------------------------------


@given(st.integers(1, 70), fraction_lists)
def test_even_spacing_covers_the_axis_if_the_fractions_suffice(
    count: int, fractions: list[Fraction]
) -> None:
    offsets = peer_offsets(count, fractions, None)
    assert len(offsets) == len(fractions)
    covered: set[int] = set()
    for offset, fraction in zip(offsets, fractions, strict=True):
        covered |= held(offset, window_width(count, fraction), count)
    if sum(fractions) >= 1:
        assert covered == set(range(count))


@given(st.integers(1, 70), st.integers(1, 12), split_fractions)
def test_equal_peers_are_spaced_uniformly(
    count: int, peers: int, fraction: Fraction
) -> None:
    offsets = peer_offsets(count, [fraction] * peers, None)
    assert offsets == tuple(n * count // peers for n in range(peers))


@given(st.integers(1, 70), fraction_lists, st.fractions(0, 1, max_denominator=50))
def test_with_an_overlap_offsets_are_cumulative_gaps(
    count: int, fractions: list[Fraction], overlap: Fraction
) -> None:
    position, expected = 0, []
    for fraction in fractions:
        expected.append(position)
        exact = window_width(count, fraction) * (1 - overlap)
        half_up = math.floor(exact) + (exact - math.floor(exact) >= HALF)
        position += max(1, half_up)
    assert list(peer_offsets(count, fractions, overlap)) == expected


@given(
    st.integers(1, 40),
    st.lists(st.tuples(st.integers(0, 90), st.integers(1, 40)), max_size=6),
    st.integers(0, 90),
)
def test_stands_still_means_that_the_same_index_sets_remain(
    count: int, windows: list[tuple[int, int]], step: int
) -> None:
    before = {frozenset(held(start, width, count)) for start, width in windows}
    after = {frozenset(held(start + step, width, count)) for start, width in windows}
    assert stands_still(count, windows, step) == (before == after)


# --- Overlap schedules ---------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("auto", "auto"),
        ("constant 0.5", "constant 1/2"),
        ({"constant": 0.5}, "constant 1/2"),
        ("linear 0 0.25", "linear 0 1/4"),
        ({"linear": [0.25, 0]}, "linear 1/4 0"),
        ("cosine full 0.1", "cosine full 1/10"),
        ({"cosine": [0.25, "full"]}, "cosine 1/4 full"),
        ({"auto": []}, "auto"),
        ("cosine min(0.25,full) full", "cosine min(1/4,full) full"),
        ("cosine full min(1/4,full)", "cosine full min(1/4,full)"),
        ({"linear": ["min(0,full)", 0.5]}, "linear min(0,full) 1/2"),
    ],
)
def test_schedules_are_read_and_written(value: object, text: str) -> None:
    schedule = Overlap.parse(value, "overlap")
    assert str(schedule) == text
    assert Overlap.parse(str(schedule), "overlap") == schedule


@pytest.mark.parametrize(
    "value",
    [
        "", "none", "auto 1", "constant", "linear 0.5", "cosine 0 1 2", "constant 1",
        "constant -0.1", "linear 0 nan", {}, {"linear": 0.5}, {"linear": [0, True]},
        {"constant": 0, "linear": [0, 1]}, None, 0.5, ["constant", 0.5],
        {"constant": [[0]]}, "constant 1e9999999", "constant min(full,full)",
        "constant min(1,full)", "constant min(0.5,0.6)", "constant min(,full)",
        "constant min(min(0,full),full)", "constant min(0.5, full)",
    ],
)  # fmt: skip
def test_other_schedules_are_refused_by_name(value: object) -> None:
    with pytest.raises(ConfigError, match="method argument"):
        Overlap.parse(value, "method argument")


@pytest.mark.parametrize("kind", ["linear", "cosine"])
@pytest.mark.parametrize(("start", "end"), [("0", "1/2"), ("1/2", "0")])
def test_schedules_run_from_end_to_end_in_both_directions(
    kind: str, start: str, end: str
) -> None:
    schedule = Overlap.parse(f"{kind} {start} {end}", "overlap")
    values = [schedule.at(Fraction(t, 8), [HALF]) for t in range(9)]
    assert values[0] == Fraction(start)
    assert values[4] == Fraction(1, 4)
    assert values[8] == Fraction(end) == schedule.at(Fraction(2), [HALF])
    assert sorted(values, reverse=start > end) == values  # type: ignore[type-var]


@given(st.integers(1, 40), st.integers(1, 12), st.fractions(0, 1), st.booleans())
def test_a_capped_end_is_never_more_than_what_covers_the_axis(
    parts: int, peers: int, progress: Fraction, rises: bool
) -> None:
    """So both directions cover it in every round, as far as any overlap does."""
    fractions = [Fraction(1, parts)] * peers
    full = full_overlap(fractions)
    ends = ["min(0.25,full)", "full"]
    words = ends if rises else ends[::-1]
    found = Overlap.parse(f"cosine {' '.join(words)}", "").at(progress, fractions)
    assert found is not None
    assert min(full, Fraction(1, 4)) <= found <= full
    first, last = (
        Overlap.parse({"cosine": words}, "").at(t, fractions)
        for t in (Fraction(0), Fraction(1))
    )
    assert (first, last)[rises] == full
    assert (last, first)[rises] == min(full, Fraction(1, 4))


def test_constant_and_auto_do_not_move() -> None:
    assert Overlap.parse("constant 0.3", "").at(HALF, [HALF]) == Fraction(3, 10)
    assert Overlap().at(HALF, [HALF]) is None


@given(st.fractions(0, 1, max_denominator=500))
def test_cosine_agrees_with_the_floating_point_one(half_turns: Fraction) -> None:
    assert float(cosine(half_turns)) == pytest.approx(
        math.cos(math.pi * half_turns), abs=2e-9
    )
    assert cosine(half_turns) == -cosine(1 - half_turns)


@given(st.integers(1, 12), st.fractions(Fraction(1, 40), 1, max_denominator=40))
def test_full_overlap_is_the_largest_that_covers(peers: int, mu: Fraction) -> None:
    """On an axis so long that rounding to indices cannot matter."""
    count = 40 * 37 * 1000
    overlap = full_overlap([mu] * peers)
    width = window_width(count, mu)

    def reach(overlap: Fraction) -> int:
        return peer_offsets(count, [mu] * peers, overlap)[-1] + width

    if peers > 1 and mu * peers >= 1:
        assert reach(overlap) >= count - peers
        assert reach(overlap + Fraction(1, 1000)) < count or mu == 1
    else:
        assert overlap == 0


def test_full_overlap_ends_the_last_window_at_the_end_of_the_axis() -> None:
    mixed = [Fraction(1, 2), Fraction(1, 4), Fraction(1, 2)]
    assert full_overlap(mixed) == 1 - HALF / Fraction(3, 4)


@given(st.integers(1, 64), st.fractions(0, Fraction(99, 100), max_denominator=100))
def test_a_step_always_moves_and_overlaps_if_asked(width: int, rho: Fraction) -> None:
    step = overlapping_step(width, rho)
    assert 1 <= step <= width
    assert abs(width - step - width * rho) <= 1


# --- Skewed starts -------------------------------------------------------------------


@given(fraction_lists, st.integers(1, 6))
def test_positions_are_prime_and_no_gap_lies_between_them(
    fractions: list[Fraction], constant_count: int
) -> None:
    skew = Skew.of(fractions, constant_count)
    assert skew.positions >= max(constant_count, 2)
    assert skew.positions * min(fractions) >= 1
    assert all(skew.positions % divisor for divisor in range(2, skew.positions))
    assert skew.spread == math.ceil(skew.positions / len(fractions))


@given(fraction_lists, st.integers(2, 4), st.integers(1, 32), st.integers(1, 32))
def test_every_pair_of_cells_is_held_within_a_cycle(
    fractions: list[Fraction], constant_count: int, rows: int, columns: int
) -> None:
    skew = Skew.of(fractions, constant_count)
    seen: set[tuple[int, int]] = set()
    for step, rank in product(range(skew.cycle_steps), range(len(fractions))):
        sets = []
        for count, constant in ((rows, 1), (columns, constant_count)):
            start = skew.start_cell(
                count, constant=constant, step_index=step, rank=rank
            )
            sets.append(held(start, window_width(count, fractions[rank]), count))
        seen |= set(product(*sets))
    assert len(seen) == rows * columns


@given(layouts())
def test_axes_that_meet_have_different_small_constants(layout: Layout) -> None:
    constants = skew_constants(layout)
    assert list(constants) == [axis.name for axis in layout.axes]
    for parameter in layout.parameters:
        different = set(parameter.axes)
        assert len({constants[name] for name in different}) == len(different)
    assert 1 <= min(constants.values()) <= max(constants.values()) <= len(layout.axes)


def test_a_deep_chain_of_layers_needs_two_constants() -> None:
    names = [f"layer{n}" for n in range(40)]
    chain = Layout(
        tuple(Axis(name, 4) for name in names),
        tuple(
            ParameterSpec(
                name, (Dimension(4, name), Dimension(4, after)), Initial("zeros")
            )
            for name, after in pairwise(names)
        ),
    )
    assert set(skew_constants(chain).values()) == {1, 2}


def test_a_window_of_everything_is_everything() -> None:
    assert rolling_window(Axis("a", 67), 23, 11) == IndexSet.span(0, 67)
