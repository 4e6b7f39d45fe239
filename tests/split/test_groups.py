"""Groups of ranges with the same holders, against a slow version range by range."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from p2pfusion.split.groups import (
    FEWEST,
    groups,
    pack_missing,
    seed_elements,
    unpack_missing,
    withheld_part,
)
from p2pfusion.split.plan import ExchangePlan
from tests.split.histories import NAMES, all_held_by, loose_splits, reduced_by_holders
from tests.strategies import layouts


@st.composite
def plans(draw: st.DrawFn) -> ExchangePlan:
    """A round of five peers with any splits, reduced by holders."""
    layout = draw(layouts().filter(lambda layout: layout.size <= 1_000))
    current = {name: draw(loose_splits(layout)) for name in NAMES}
    return reduced_by_holders(layout, current)


@settings(max_examples=40)
@given(plans())
def test_groups_are_the_ranges_with_the_same_holders(plan: ExchangePlan) -> None:
    withheld = 0
    for reducer in plan.peers:
        slow: dict[tuple[int, ...], list[int]] = {}
        for number in plan.reduced_by(reducer).tolist():
            holders = [p for p in range(len(plan.peers)) if plan.holders[p, number]]
            slow.setdefault(tuple(holders), []).append(number)
        found = groups(plan, reducer)
        assert {group.holders: group.ranges.tolist() for group in found} == slow
        small = [n for ids in slow for n in slow[ids] if len(ids) < FEWEST]
        withheld += int(plan.range_sizes[small].sum())
        me = plan.peers.index(reducer)
        for source in plan.peers:
            entries = sum(
                len(holders) - 1
                for holders in slow
                if len(holders) >= FEWEST and plan.peers.index(source) in holders
            )
            wanted = 0 if source == reducer else entries * 8
            assert seed_elements(plan, source, reducer) == wanted
        assert all(me in group.holders for group in found)
    trained = int(plan.range_sizes[plan.holders.any(axis=0)].sum())
    assert withheld_part(plan) == (withheld / trained if trained else 0.0)


@given(plans(), st.sets(st.sampled_from(NAMES)))
def test_who_is_missing_comes_back(plan: ExchangePlan, missing: set[str]) -> None:
    packed = pack_missing(plan, missing)
    assert {plan.peers[at] for at in unpack_missing(plan, packed)} == missing


def test_three_have_to_contribute() -> None:
    for group in groups(all_held_by(NAMES), NAMES[0]):
        assert group.is_hidden and group.hiders(0) == (1, 2, 3, 4)
        assert group.is_open_without([]) and group.is_open_without([1, 4])
        assert not group.is_open_without([0, 1, 4])
