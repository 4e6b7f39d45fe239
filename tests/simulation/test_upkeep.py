"""A swarm that is done, and loses one member after the other."""

from __future__ import annotations

import numpy as np
import pytest

from p2pfusion.protocol.course import Standing
from p2pfusion.simulation.recovery import Recovery
from p2pfusion.simulation.run import Setting, populate
from p2pfusion.simulation.world import World

LIMIT_S = 300.0
COPIES = 2


def finished(peers: int) -> World:
    """Everybody is done, and at rest."""
    setting = Setting(peers=peers, rounds=8, faults="none")
    world = World(setting.manifest())
    populate(world, setting)
    rest(world)
    return world


def rest(world: World) -> None:
    """Runs until everybody knows who is there, and nobody has anything to do."""
    end = world.now + LIMIT_S
    while not is_at_rest(world):
        assert world.now < end, "they never come to rest"
        world.run(world.now + 0.25)


def is_at_rest(world: World) -> bool:
    lives = world.alive()
    names = {life.name for life in lives}
    return all(
        life.peer.standing is Standing.DONE
        and life.peer.exchange.upkeep.is_at_rest(world.now)
        and {*life.peer.gossip.detector.online(world.now), life.name} == names
        for life in lives
    )


def copies(world: World) -> np.ndarray:
    """How many of the living have the newest values of each cell that was trained."""
    lives = world.alive()
    plan = lives[0].plans[max(lives[0].plans)]
    planned = world.geometry.flat(plan.homes.version)
    has = sum((x.holdings.cells().content >= planned).astype(int) for x in lives)
    return np.asarray(has)[planned > 0]


@pytest.mark.parametrize("peers", [4, 6])
def test_whoever_goes_is_replaced_until_two_are_left(peers: int) -> None:
    world = finished(peers)
    for gone in range(peers - 1, 1, -1):
        assert copies(world).min() >= COPIES
        world.kill(f"p{gone}")
        assert copies(world).min() < COPIES, "nothing has to be made up for"
        rest(world)
    assert copies(world).min() == COPIES
    Recovery(world, 0.0).export()
    assert [life.assembled[1] for life in world.alive() if life.assembled] == [()]
    assert world.checks.violations == world.checks.gaps == []


def test_what_a_dead_one_had_nobody_asks_for_twice_when_it_is_back() -> None:
    world = finished(5)
    world.kill("p3")
    rest(world)
    before = sum(machine.sent_bytes[8] for machine in world.machines.values())
    world.start("p3")
    rest(world)
    after = sum(machine.sent_bytes[8] for machine in world.machines.values())
    assert after == before and copies(world).min() >= COPIES
