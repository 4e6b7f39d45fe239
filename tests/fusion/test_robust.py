"""Robust rules, against loops over single elements."""

from __future__ import annotations

import math
import statistics
import tracemalloc
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pfusion.fusion import RobustChange, kept
from p2pfusion.fusion.robust import CENTRED_STEPS, CLIP, WEIGHT_CAP
from p2pfusion.fusion.rules import RULES

values_of = st.integers(-64, 64).map(lambda n: n / 8)
weights_of = st.integers(1, 30).map(float)


@dataclass(frozen=True)
class Sent:
    """One contribution: whole, or broken off after ``arrived`` values."""

    positions: tuple[int, ...]
    weight: float
    values: tuple[float, ...]
    arrived: int
    absent: tuple[bool, ...]


@st.composite
def rounds(draw: st.DrawFn) -> tuple[list[int], list[Sent], list[float]]:
    """Ranges, contributions to them, and the values of before."""
    sizes = draw(st.lists(st.integers(1, 4), min_size=1, max_size=5))
    sent = []
    for _ in range(draw(st.integers(0, 7))):
        whole = st.just(list(range(len(sizes))))
        some = st.lists(st.integers(0, len(sizes) - 1), unique=True).map(sorted)
        positions = tuple(draw(whole | some))
        count = sum(sizes[p] for p in positions)
        sent.append(
            Sent(
                positions,
                draw(weights_of),
                tuple(draw(st.lists(values_of, min_size=count, max_size=count))),
                draw(st.just(count) | st.integers(0, count)),
                tuple(draw(st.booleans()) and draw(st.booleans()) for _ in positions),
            )
        )
    count = sum(sizes)
    return sizes, sent, draw(st.lists(values_of, min_size=count, max_size=count))


def fused(
    rule: str,
    sizes: list[int],
    sent: Sequence[Sent],
    old: list[float],
    look_at: Sequence[int] = (),
) -> RobustChange:
    total = RobustChange(sizes, rule)
    total.look_at(np.array(look_at, np.int64))
    for number, each in enumerate(sent):
        absent = np.array(each.absent, np.bool_)
        name = f"peer-{number}"
        cursor = total.open(each.positions, each.weight, absent=absent, source=name)
        values = np.array(each.values[: each.arrived], np.float32)
        for part in np.array_split(values, 3):
            cursor.add(part)
    total.begin(np.arange(len(sizes)), np.array(old, np.float32))
    total.close()
    return total


# --- The slow version ----------------------------------------------------------------

Ranges = dict[int, list[float]]


def whole_ranges(sizes: list[int], each: Sent) -> Ranges:
    """What came whole of a contribution, range by range."""
    found: Ranges = {}
    at = 0
    for position, lacks in zip(each.positions, each.absent, strict=True):
        end = at + sizes[position]
        if end <= each.arrived and not lacks:
            found[position] = list(each.values[at:end])
        at = end
    return found


def low_median(numbers: list[float]) -> float:
    return sorted(numbers)[(len(numbers) - 1) // 2]


def square(values: list[float]) -> float:
    return math.fsum(v * v for v in values)


def slow_clips(came: list[Ranges], clip: float) -> list[float]:
    """Of each contribution the factor that bounds its length over shared ranges."""
    factors = []
    for ranges in came:
        own = usual = 0.0
        for group, members in grouped(came).items():
            shared = [p for p in group if p in ranges]
            if not shared or len(members) < 2:
                continue
            lengths = [math.fsum(square(m[p]) for p in group) for m in members]
            own += math.fsum(square(ranges[p]) for p in group)
            usual += low_median(lengths)
        factors.append(clip * math.sqrt(usual / own) if own > clip**2 * usual else 1.0)
    return factors


def grouped(came: list[Ranges]) -> dict[tuple[int, ...], list[Ranges]]:
    """Ranges with the same holders, and these."""
    holders: dict[int, list[int]] = {}
    for number, ranges in enumerate(came):
        for position in ranges:
            holders.setdefault(position, []).append(number)
    by_holders: dict[tuple[int, ...], list[int]] = {}
    for position, numbers in sorted(holders.items()):
        by_holders.setdefault(tuple(numbers), []).append(position)
    return {
        tuple(group): [came[n] for n in numbers]
        for numbers, group in by_holders.items()
    }


def slow_rule(rule: str, changes: list[float], weights: list[float]) -> float:
    count = len(changes)
    if rule in ("clipped", "centred"):
        return math.fsum(
            c * w for c, w in zip(changes, weights, strict=True)
        ) / math.fsum(weights)
    if count == 1:
        return changes[0]
    if count == 2:
        return sorted([0.0, *changes])[1]
    pairs = sorted(zip(changes, weights, strict=True), key=lambda pair: pair[0])
    if rule == "trimmed" and count >= 5:
        inner = pairs[count // 4 : count - count // 4]
        return math.fsum(c * w for c, w in inner) / math.fsum(w for _, w in inner)
    return statistics.median(changes)


def slow(
    rule: str, sizes: list[int], sent: Sequence[Sent], old: list[float]
) -> list[float]:
    all_of_them = [whole_ranges(sizes, each) for each in sent]
    said = [
        number for number, each in enumerate(sent) if any(each.values[: each.arrived])
    ]
    came = [all_of_them[number] for number in said]
    weights = [sent[number].weight for number in said]
    cap = WEIGHT_CAP * low_median(weights) if weights else 0.0
    weights = [min(weight, cap) for weight in weights]
    factors = slow_clips(came, CLIP)
    per_element = [
        math.fsum(square(v) for v in ranges.values()) / sum(map(len, ranges.values()))
        for ranges in came
        if ranges
    ]
    change: Ranges = {}
    for position, size in enumerate(sizes):
        members = [number for number, ranges in enumerate(came) if position in ranges]
        scales = [factors[m] for m in members]
        if len(members) == 1:
            group = next(
                group
                for group, holders in grouped(came).items()
                if position in group and len(holders) == 1
            )
            own = math.fsum(square(came[members[0]][p]) for p in group)
            elements = sum(sizes[p] for p in group)
            most = CLIP**2 * low_median(per_element) * elements
            if len(came) == 1:
                most = square(old)
            if own and most:
                scales = [min(scales[0], math.sqrt(most / own))]
        values = [
            [scale * v for v in came[m][position]]
            for m, scale in zip(members, scales, strict=True)
        ]
        heavy = [weights[m] for m in members]
        change[position] = [
            slow_rule(rule, [v[i] for v in values], heavy) if members else 0.0
            for i in range(size)
        ]
    if rule == "centred":
        for _ in range(CENTRED_STEPS):
            change = recentred(change, came, weights)
    flat = [v for position in range(len(sizes)) for v in change[position]]
    return [before + v for before, v in zip(old, flat, strict=True)]


def recentred(change: Ranges, came: list[Ranges], weights: list[float]) -> Ranges:
    away = [
        {p: [a - b for a, b in zip(v, change[p], strict=True)] for p, v in each.items()}
        for each in came
    ]
    factors, found = slow_clips(away, 1.0), dict(change)
    for position, centre in change.items():
        members = [number for number, each in enumerate(away) if position in each]
        if len(members) > 1:
            heavy = [weights[m] for m in members]
            found[position] = [
                value
                + math.fsum(
                    factors[m] * away[m][position][i] * weights[m] for m in members
                )
                / math.fsum(heavy)
                for i, value in enumerate(centre)
            ]
    return found


@pytest.mark.parametrize("rule", sorted(RULES))
@given(rounds())
def test_it_is_what_loops_over_elements_give(
    rule: str, given_: tuple[list[int], list[Sent], list[float]]
) -> None:
    sizes, sent, old = given_
    total = fused(rule, sizes, sent, old)
    expected = slow(rule, sizes, sent, old)
    assert total.result.tolist() == pytest.approx(expected, rel=1e-5, abs=1e-5)
    for position in range(len(sizes)):
        weight = math.fsum(
            each.weight for each in sent if position in whole_ranges(sizes, each)
        )
        assert total.weights[position] == weight
        assert total.absent[position] == (weight == 0)


# --- Single properties ---------------------------------------------------------------


def changes(rule: str, *rows: list[float], weight: float = 1.0) -> RobustChange:
    """Of one range that all hold, each with its row, from nothing."""
    size = len(rows[0])
    sent = [Sent((0,), weight, tuple(row), size, (False,)) for row in rows]
    return fused(rule, [size], sent, [0.0] * size)


def test_two_holders_move_as_far_as_both_agree() -> None:
    total = changes("median", [1, 2, -1, 3], [2, 1, 1, 0])
    assert total.result.tolist() == [1, 1, 0, 0]


@pytest.mark.parametrize("rule", ["trimmed", "median"])
@pytest.mark.parametrize("times", [-1, 10, -1000])
def test_of_two_a_liar_leads_the_honest_one_nowhere_else(rule: str, times: int) -> None:
    honest = np.array([1.0, -2.0, 0.5, 4.0], np.float32)
    total = changes(rule, honest.tolist(), (times * honest).tolist())
    assert (total.result * honest >= 0).all()
    assert (np.abs(total.result) <= np.abs(honest)).all()


@pytest.mark.parametrize("rule", sorted(RULES))
def test_what_a_thousandfold_change_moves_is_bounded(rule: str) -> None:
    honest = [[1.0, 1.0, 1.0, 1.0 + number / 10] for number in range(4)]
    total = changes(rule, *honest, [-1000.0] * 4)
    assert np.abs(total.result).max() < 2
    assert total.result.min() > 0


@pytest.mark.parametrize("rule", sorted(RULES))
def test_what_comes_out_is_finite(rule: str) -> None:
    largest = float(np.finfo(np.float32).max)
    total = changes(rule, [largest, -largest], [largest, largest], [1.0, -largest])
    assert np.isfinite(total.result).all()


@pytest.mark.parametrize("rule", sorted(RULES))
@given(rounds(), st.data())
def test_the_order_of_arrival_does_not_matter(
    rule: str, given_: tuple[list[int], list[Sent], list[float]], data: st.DataObject
) -> None:
    sizes, sent, old = given_
    order = data.draw(st.permutations(range(len(sent))))
    one = fused(rule, sizes, sent, old)
    other = RobustChange(sizes, rule)
    for number in order:
        each = sent[number]
        cursor = other.open(
            each.positions,
            each.weight,
            absent=np.array(each.absent, np.bool_),
            source=f"peer-{number}",
        )
        cursor.add(np.array(each.values[: each.arrived], np.float32))
    other.begin(np.arange(len(sizes)), np.array(old, np.float32))
    other.close()
    assert one.result.tobytes() == other.result.tobytes()
    assert one.deviations == other.deviations


def test_a_range_that_broke_off_is_left_out_and_the_ones_before_count() -> None:
    whole = Sent((0, 1), 1.0, (1.0, 1.0, 1.0, 1.0), 4, (False, False))
    torn = Sent((0, 1), 1.0, (3.0, 3.0, 3.0, 3.0), 3, (False, False))
    total = fused("clipped", [2, 2], [whole, torn], [0.0] * 4)
    assert total.weights.tolist() == [2, 1]
    # The torn one is three times as long where both have something: cut to twice.
    assert total.result.tolist() == [1.5, 1.5, 1.0, 1.0]


def test_who_changes_nothing_does_not_hold_back_the_other() -> None:
    total = changes("median", [1, 2], [0, 0])
    assert total.result.tolist() == [1, 2]
    assert total.deviations["peer-1"].cosine == 0
    assert total.deviations["peer-1"].norm_ratio == 0


def test_claimed_samples_weigh_four_times_the_median_at_most() -> None:
    sent = [
        Sent((0,), weight, (value,), 1, (False,))
        for weight, value in ((10, 1.0), (10, 1.0), (1e9, 2.0))
    ]
    total = fused("clipped", [1], sent, [0.0])
    assert total.result[0] == pytest.approx((10 + 10 + 40 * 2) / 60)


@pytest.mark.parametrize("rule", ["median", "trimmed"])
def test_claimed_samples_do_not_move_a_median(rule: str) -> None:
    honest = [Sent((0,), 1.0, (value,), 1, (False,)) for value in (1.0, 1.1)]
    liar = Sent((0,), 1e9, (2.0,), 1, (False,))
    total = fused(rule, [1], [liar, *honest], [0.0])
    assert total.result[0] == pytest.approx(1.1)


def test_lengths_are_compared_over_all_that_is_shared() -> None:
    """One short range that is long in one contribution is nobody's fault."""
    honest = Sent((0, 1), 1.0, (0.1, *[1.0] * 9), 10, (False, False))
    other = Sent((0, 1), 1.0, (1.0, *[1.0] * 9), 10, (False, False))
    total = fused("clipped", [1, 9], [honest, other, other], [0.0] * 10)
    assert total.result[0] == pytest.approx(0.7)


@given(rounds(), st.data())
def test_what_each_says_of_what_is_looked_at_is_kept(
    case: tuple[list[int], list[Sent], list[float]], data: st.DataObject
) -> None:
    sizes, sent, old = case
    elements = data.draw(st.lists(st.integers(0, sum(sizes) - 1), unique=True))
    total = fused("median", sizes, sent, old, look_at=elements)
    starts = np.cumsum([0, *sizes]).tolist()
    assert total.sayings.keys() == {f"peer-{n}" for n in range(len(sent))}
    for number, each in enumerate(sent):
        whole = {
            starts[position] + at: value
            for position, values in whole_ranges(sizes, each).items()
            for at, value in enumerate(values)
        }
        wanted = [whole.get(element, math.nan) for element in elements]
        assert np.array_equal(total.sayings[f"peer-{number}"], wanted, equal_nan=True)


def test_deviations_say_who_lies() -> None:
    rows = [[1.0, 2.0, 3.0], [1.0, 2.0, 2.5], [1.5, 2.0, 3.0], [-10.0, -20.0, -30.0]]
    told = changes("median", *rows).deviations
    assert [told[f"peer-{n}"].cosine > 0.9 for n in range(4)] == [1, 1, 1, 0]
    assert told["peer-3"].cosine < -0.9
    assert told["peer-3"].norm_ratio > 5
    assert all(each.elements == 3 for each in told.values())


def test_of_two_nobody_is_measured() -> None:
    """Each is as far from the other."""
    assert changes("median", [1, 2], [-1, -2]).deviations == {}
    assert len(changes("median", [1, 2], [-1, -2], [1, 2]).deviations) == 3


def test_two_liars_of_five_that_agree_are_still_the_ones_that_differ() -> None:
    rows = [[1.0, 2.0], [1.0, 2.1], [1.0, 1.9], [-1.0, -2.0], [-1.0, -2.0]]
    told = changes("trimmed", *rows).deviations
    assert [told[f"peer-{n}"].cosine > 0 for n in range(5)] == [1, 1, 1, 0, 0]


@given(rounds())
def test_deviations_are_those_of_pairs_of_contributions(
    given_: tuple[list[int], list[Sent], list[float]],
) -> None:
    """Over the ranges that came whole from three at least."""
    sizes, sent, old = given_
    came = {
        f"peer-{number}": whole_ranges(sizes, each)
        for number, each in enumerate(sent)
        if any(each.values[: each.arrived])
    }
    there = {
        position: [name for name, ranges in came.items() if position in ranges]
        for position in range(len(sizes))
    }
    counted = {p for p, names in there.items() if len(names) >= 3}
    told = fused("median", sizes, sent, old).deviations
    for name, ranges in came.items():
        shared = counted & set(ranges)
        assert (name in told) == bool(shared)
        if not shared:
            continue
        cosines = []
        for other, others in came.items():
            both = shared & set(others)
            ours = [v for p in sorted(both) for v in ranges[p]]
            theirs = [v for p in sorted(both) for v in others[p]]
            if other != name and any(ours):
                product = math.fsum(a * b for a, b in zip(ours, theirs, strict=True))
                length = math.sqrt(square(ours) * square(theirs))
                cosines.append(product / length if length else 0.0)
        wanted = sorted(cosines)[len(cosines) // 2] if cosines else 0.0
        assert told[name].cosine == pytest.approx(wanted, abs=1e-9)
        assert told[name].elements == sum(sizes[p] for p in shared)


def test_ranges_without_old_values_are_absent_and_can_be_kept() -> None:
    total = RobustChange([1, 1], "median")
    total.open([0, 1], 1.0, source="a").add(np.ones(2, np.float32))
    total.begin(np.array([0]), np.array([5.0], np.float32))
    total.close()
    assert total.absent.tolist() == [False, True]
    assert total.result[0] == 6
    total.keep(np.array([1]), np.array([7.0], np.float32))
    assert total.absent.tolist() == [False, False]


def test_large_ranges_pass_through_in_blocks() -> None:
    count = kept.BLOCK_ELEMENTS * 2 + 3
    values = np.arange(count, dtype=np.float32)
    total = RobustChange([count, 2], "median")
    for number, times in enumerate((1, 2, 3)):
        cursor = total.open([0, 1], 1.0, source=str(number))
        cursor.add(np.concatenate([values * times, np.ones(2, np.float32)]))
    total.begin(np.arange(2), np.zeros(count + 2, np.float32))
    total.close()
    assert np.allclose(total.result[:count], values * 2, rtol=1e-6)


def test_memory_is_that_of_the_contributions_and_of_the_result() -> None:
    count, holders = 1 << 20, 4
    sent = np.ones(count, np.float32)
    tracemalloc.start()
    try:
        total = RobustChange([count], "trimmed")
        for number in range(holders):
            total.open([0], 1.0, source=str(number)).add(sent)
        total.begin(np.array([0]), sent)
        total.close()
        held_bytes, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert (total.result == 2).all()
    assert held_bytes < 4 * count + (1 << 18)
    assert peak_bytes < 4 * count * (holders + 1) + (1 << 22)
