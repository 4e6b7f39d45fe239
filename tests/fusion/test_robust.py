"""Robust rules, against loops over single elements."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pfusion.fusion import RobustChange
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
    rule: str, sizes: list[int], sent: Sequence[Sent], old: list[float]
) -> RobustChange:
    total = RobustChange(sizes, rule)
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
    half, below, lower = math.fsum(weights) / 2, 0.0, None
    for change, weight in pairs:
        below += weight
        if lower is None and below >= half:
            lower = change
        if below > half:
            assert lower is not None
            return (lower + change) / 2
    raise AssertionError


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
