"""Who is gone leaves the roster, who is there stays, and who comes back is back."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from p2pfusion.protocol.course import Standing
from p2pfusion.protocol.events import ChangeFraction, Leave, Recover
from p2pfusion.protocol.timing import TIMINGS
from p2pfusion.simulation.machine import Life
from p2pfusion.simulation.run import Setting, populate
from p2pfusion.simulation.world import World

GONE_S = TIMINGS["local"].silence_s + TIMINGS["local"].suspicion_s


def swarm(peers: int, rounds: int = 40) -> World:
    """A swarm in the middle of its second epoch."""
    setting = Setting(peers=peers, rounds=rounds, faults="none")
    world = World(setting.manifest())
    populate(world, setting)
    world.run(1.6 * world.manifest.rounds_per_epoch)
    return world


def until(world: World, condition: Callable[[], bool], limit_s: float = 60.0) -> None:
    end = world.now + limit_s
    while not condition():
        assert world.now < end, "it never happened"
        world.run(world.now + 0.1)


def finish(world: World) -> None:
    until(
        world,
        lambda: all(life.peer.standing is Standing.DONE for life in world.alive()),
        300.0,
    )
    assert world.checks.violations == []


def life(world: World, name: str) -> Life:
    found = world.machines[name].life
    assert found is not None
    return found


def epoch(world: World) -> int:
    rounds = (each.peer.gossip.round_index for each in world.alive())
    return world.manifest.epoch(max(rounds))


def roster(world: World, name: str = "p0", later: int = 0) -> set[str]:
    facts = life(world, name).peer.gossip.facts
    return {member.peer for member in facts.roster(epoch(world) + later)}


def reports(world: World, kind: str) -> int:
    return sum(machine.reports[kind] for machine in world.machines.values())


def apart(world: World, some: Iterable[str], others: Iterable[str]) -> None:
    others = list(others)
    pairs = [(a, b) for a in some for b in others]
    world.network.cut([*pairs, *((b, a) for a, b in pairs)])


def test_who_dies_is_out_within_three_epochs() -> None:
    world = swarm(5)
    world.kill("p3")
    world.run(world.now + GONE_S + 1.0)
    known_in = epoch(world)
    until(world, lambda: "p3" not in roster(world, later=2))
    assert epoch(world) <= known_in + 1
    finish(world)
    assert not any("p3" in roster(world, name) for name in ("p0", "p1", "p2", "p4"))


def test_who_sleeps_too_long_is_out_and_is_back_within_three_epochs() -> None:
    world = swarm(5)
    world.pause("p3")
    until(world, lambda: "p3" not in roster(world))
    world.resume("p3")
    back_in = epoch(world) + 3
    until(world, lambda: "p3" in roster(world))
    assert epoch(world) <= back_in
    before = world.machines["p3"].sealed
    until(world, lambda: world.machines["p3"].sealed > before)
    finish(world)


def test_who_sleeps_for_a_moment_stays_and_accuses_nobody() -> None:
    world = swarm(4)
    world.pause("p3")
    world.run(world.now + TIMINGS["local"].silence_s + 1.0)
    world.resume("p3")
    finish(world)
    assert reports(world, "accused") == 0


def test_who_is_heard_by_one_only_is_accused_by_nobody() -> None:
    world = swarm(5)
    world.network.cut([("p3", name) for name in ("p0", "p1", "p4")])
    world.run(world.now + 3 * GONE_S)
    assert reports(world, "accused") == 0
    assert world.machines["p0"].reports["asymmetric"] >= 1
    world.carrier.flow(world.network.heal())
    finish(world)


def test_a_minority_waits_and_is_back_after_the_partition() -> None:
    world = swarm(5)
    apart(world, ["p3", "p4"], ["p0", "p1", "p2"])
    world.run(world.now + 4.0)
    sealed = {name: world.machines[name].sealed for name in ("p3", "p4")}
    until(world, lambda: roster(world) == {"p0", "p1", "p2"})
    assert {n: world.machines[n].sealed for n in sealed} == sealed
    assert life(world, "p3").peer.standing is Standing.PAUSED
    world.carrier.flow(world.network.heal())
    back_in = epoch(world) + 4
    until(world, lambda: {"p3", "p4"} <= roster(world))
    assert epoch(world) <= back_in
    finish(world)


def test_who_leaves_is_missed_by_nobody() -> None:
    world = swarm(4)
    world.give(life(world, "p2"), Leave())
    until(world, lambda: "p2" not in roster(world))
    world.kill("p2")
    finish(world)
    assert reports(world, "accused") == 0


def test_a_minority_goes_on_when_an_admin_declares_the_others_lost() -> None:
    world = swarm(5)
    for name in ("p2", "p3", "p4"):
        world.kill(name)
    world.run(world.now + 60.0)
    assert life(world, "p0").peer.standing is Standing.PAUSED
    sealed = world.machines["p0"].sealed
    world.give(life(world, "p0"), Recover(("p2", "p3", "p4"), "the cellar burnt"))
    until(world, lambda: world.machines["p0"].sealed > sealed + 2)
    finish(world)


def test_who_was_declared_lost_and_was_not_is_back() -> None:
    world = swarm(4)
    world.pause("p3")
    world.run(world.now + 1.0)
    world.give(life(world, "p0"), Recover(("p3",), "stolen"))
    until(world, lambda: "p3" not in roster(world))
    world.resume("p3")
    until(world, lambda: "p3" in roster(world))
    finish(world)


def test_all_that_were_off_for_an_hour_go_on_together() -> None:
    world = swarm(4)
    for name in ("p0", "p1", "p2", "p3"):
        world.kill(name, power=True)
    world.run(world.now + 3600.0)
    for number, name in enumerate(("p3", "p1", "p0", "p2")):
        world.at(world.now + 1.5 * number, world.start, name)
    world.run(world.now + 0.1)
    finish(world)
    assert reports(world, "evicted") == 0


def test_a_changed_fraction_counts_for_all_from_one_epoch_on() -> None:
    world = swarm(4)
    world.give(life(world, "p1"), ChangeFraction("1/4"))
    changes_in = epoch(world) + 2
    until(world, lambda: epoch(world) >= changes_in)
    facts = [each.peer.gossip.facts for each in world.alive()]
    assert {str(f.fraction("p1", changes_in)) for f in facts} == {"1/4"}
    assert {str(f.fraction("p1", changes_in - 1)) for f in facts} == {"1/2"}
    finish(world)
