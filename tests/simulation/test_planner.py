"""The shared planner: the same results as the plain one, computed once."""

from __future__ import annotations

from fractions import Fraction

from p2pfusion.methods import build_method
from p2pfusion.protocol.facts import FactSet
from p2pfusion.protocol.messages import Facts
from p2pfusion.protocol.planning import PLANNER, Planner
from p2pfusion.protocol.statements import sign_start
from p2pfusion.simulation.keys import NAMES, NamedKey
from p2pfusion.simulation.planner import Memory, SharedPlanner
from p2pfusion.split.homes import Homes
from p2pfusion.split.plan import ExchangePlan
from tests.protocol.names import membership, record
from tests.protocol.stage import small_manifest

MANIFEST = small_manifest()
METHOD = build_method("msfusion", {})


def facts(*peers: str, sequence: int = 0) -> FactSet:
    found = FactSet(NAMES, MANIFEST)
    members = tuple(
        membership(record(peer, sequence=sequence), MANIFEST.swarm_id) for peer in peers
    )
    start = sign_start(MANIFEST.swarm_id, sorted(peers), NamedKey("p0"))
    found.merge(Facts(members, start))
    return found


def planned(planner: Planner, known: FactSet, rounds: int) -> list[ExchangePlan]:
    homes, plans = Homes.initial(MANIFEST.layout), []
    current = planner.splits(MANIFEST, METHOD, known, 0)
    for number in range(rounds):
        following = planner.splits(MANIFEST, METHOD, known, number + 1)
        plan = planner.plan(MANIFEST, number, current, following, homes)
        plans.append(plan)
        current, homes = following, planner.homes_after(plan)
    return plans


def test_it_gives_what_the_plain_one_gives() -> None:
    known = facts("p0", "p1", "p2")
    pairs = zip(
        planned(SharedPlanner(), known, 6), planned(PLANNER, known, 6), strict=True
    )
    for shared, plain in pairs:
        assert shared.digest == plain.digest
        assert (shared.reducer == plain.reducer).all()
        assert shared.homes_after().digest == plain.homes_after().digest


def test_equal_facts_give_the_very_same_plans() -> None:
    planner = SharedPlanner()
    one = planned(planner, facts("p0", "p1", "p2"), 4)
    other = planned(planner, facts("p2", "p1", "p0"), 4)
    assert all(a is b for a, b in zip(one, other, strict=True))


def test_facts_with_the_same_roster_share_and_others_do_not() -> None:
    planner = SharedPlanner()
    one = planner.splits(MANIFEST, METHOD, facts("p0", "p1"), 0)
    newer = planner.splits(MANIFEST, METHOD, facts("p0", "p1", sequence=4), 0)
    other = planner.splits(MANIFEST, METHOD, facts("p0", "p1", "p2"), 0)
    assert one is newer
    assert set(other) == {"p0", "p1", "p2"}


def test_plans_without_anybody_to_train_are_told_apart_by_their_round() -> None:
    planner = SharedPlanner()
    splits = planner.splits(MANIFEST, METHOD, facts("p0", "p1"), 0)
    homes = Homes.initial(MANIFEST.layout)
    one = planner.plan(MANIFEST, 5, {}, splits, homes)
    again = planner.plan(MANIFEST, 5, {}, splits, homes)
    other = planner.plan(MANIFEST, 6, {}, splits, homes)
    assert one is again and one.digest != other.digest


def test_only_the_newest_results_are_kept() -> None:
    memory = Memory(2)
    calls: list[int] = []

    def compute(key: int) -> int:
        return memory.get(key, lambda: calls.append(key) or key)

    assert [compute(key) for key in (1, 2, 1, 3, 2, 1)] == [1, 2, 1, 3, 2, 1]
    assert calls == [1, 2, 3, 1] and memory.computed == 4


def test_split_fractions_make_other_splits() -> None:
    planner = SharedPlanner()
    half = planner.splits(MANIFEST, METHOD, facts("p0"), 0)
    assert half["p0"].size(MANIFEST.layout) < MANIFEST.layout.size
    assert Fraction(half["p0"].size(MANIFEST.layout), MANIFEST.layout.size) > 0
