"""Plans for the case that a reducer or a home is silent."""

from __future__ import annotations

import itertools

from hypothesis import assume, given, settings
from hypothesis import strategies as st

from p2pfusion.split.plan import Hop
from tests.split.histories import (
    History,
    coordinates,
    histories,
    last_plan,
    streamed,
)

slow = settings(max_examples=30)


@slow
@given(histories())
def test_backups_do_all_of_a_silent_reducers_work(history: History) -> None:
    plan = last_plan(history)
    assume(len(plan.peers) > 1)
    for silent in plan.peers:
        duties = plan.reduced_by(silent)
        taken = [plan.reduced_by(p, instead_of=silent).tolist() for p in plan.peers]
        assert sorted(itertools.chain(*taken)) == duties.tolist()
        for target in plan.peers:
            owed = plan.ranges(Hop.FUSED, source=silent, target=target).tolist()
            if target == silent:
                continue
            got = [
                plan.ranges(
                    Hop.FUSED, source=backup, target=target, instead_of=silent
                ).tolist()
                for backup in plan.peers
            ]
            own = set(plan.reduced_by(target, instead_of=silent).tolist())
            assert sorted(itertools.chain(own & set(owed), *got)) == owed
            helpers = {p for p, numbers in zip(plan.peers, got, strict=True) if numbers}
            helpers |= {target} if own & set(owed) else set()
            found = plan.substitutes(Hop.FUSED, source=silent, target=target)
            assert found == plan.backups(silent, target) == tuple(sorted(helpers))


@slow
@given(histories())
def test_backups_collect_contributions_from_every_holder(history: History) -> None:
    plan = last_plan(history)
    for silent in plan.peers:
        for backup in plan.peers:
            duties = plan.reduced_by(backup, instead_of=silent)
            sources = plan.sources(Hop.CONTRIBUTION, backup, instead_of=silent)
            for position, source in enumerate(plan.peers):
                numbers = plan.ranges(
                    Hop.CONTRIBUTION, source=source, target=backup, instead_of=silent
                )
                held = duties[plan.holders[position, duties]].tolist()
                assert numbers.tolist() == (held if source != backup else [])
                assert (source in sources) == bool(len(numbers))
                assert plan.stream(
                    Hop.CONTRIBUTION, source=source, target=backup, instead_of=silent
                ) == plan.segments(numbers.tolist())


@slow
@given(histories(round_count=4), st.sampled_from([Hop.HOME, Hop.CATCH_UP, Hop.EXPORT]))
def test_other_copies_stand_in_for_a_silent_home(history: History, hop: Hop) -> None:
    plan = last_plan(history)
    for silent in plan.peers:
        for target in set(plan.peers) - {silent}:
            left = streamed(plan, hop, silent, target)
            for source in plan.substitutes(hop, source=silent, target=target):
                assert source not in (silent, target)
                segments = plan.stream(
                    hop, source=source, target=target, instead_of=silent
                )
                assert segments
                taken = coordinates(segments)
                assert taken <= left
                lacked = plan.homes.segments(plan.layout, home=silent, lacking=source)
                assert not taken & coordinates(lacked)
                left -= taken
            # What is left has no other copy here.
            for peer in set(plan.peers) - {silent, target}:
                lacked = plan.homes.segments(plan.layout, home=silent, lacking=peer)
                assert left <= coordinates(lacked)
