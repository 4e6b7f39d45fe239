"""What random seeds have found in the protocol: as scenarios, and the seeds themselves.

Seeds age: after a change of the protocol or of the scripts they lead elsewhere. They
cost little and stay; where it could be said in a few lines, there is a scenario too.
"""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction

import pytest

from p2pfusion.protocol.course import Standing
from p2pfusion.simulation.run import Setting, populate, simulate
from p2pfusion.simulation.seeds import random_setting
from p2pfusion.simulation.world import World

SEEDS = [
    # A home that was away in a round says what it lacks, and nobody asked elsewhere.
    (5, 20, 2, "1/2"),
    (5, 20, 4, "1/2"),
    (5, 20, 8, "1/2"),
    # All who were further have died, and who caught up with them waited for ever.
    (3, 40, 12, "1/4"),
    (3, 40, 37, "1/4"),
    # Who caught up waited for the offers of peers that were in quite another round.
    (3, 40, 9, "1/4"),
    (3, 40, 16, "1/4"),
    (3, 40, 31, "1/4"),
    # A newcomer that restarted ran ahead through rounds in which it has no part.
    (2, 30, 2071, "1/2"),
    (2, 30, 2136, "1/2"),
    (4, 30, 258, "1/4"),
    (4, 30, 401, "1/4"),
]


RANDOM_SEEDS = [
    # Who was away in a round, or gave a range up, counted as a copy of it for ever.
    *(224, 320, 340, 350, 402),
    # The same, where each side of a partition goes on by itself.
    *(231, 262, 325, 382),
    # What nobody trained was planned to be new, and hid older values that one had.
    599,
    # In a slower network.
    *(395,),
    # Who asked for copies in the last round asked too early, and never again.
    *(135, 138, 184, 968),
    # Two that ran ahead of all others trained by a plan of their own to the end.
    885,
]


@pytest.mark.parametrize("seed", RANDOM_SEEDS)
def test_what_a_random_swarm_has_found_once_stays_mended(seed: int) -> None:
    outcome = simulate(random_setting(seed))
    assert outcome.violations == outcome.gaps == []


@pytest.mark.parametrize(("peers", "rounds", "seed", "fraction"), SEEDS)
def test_what_a_seed_has_found_once_stays_mended(
    peers: int, rounds: int, seed: int, fraction: str
) -> None:
    setting = Setting(peers, rounds, seed, Fraction(fraction))
    assert simulate(setting).violations == []


def swarm(peers: int, rounds: int, policy: str = "majority") -> World:
    setting = Setting(peers=peers, rounds=rounds, faults="none", policy=policy)
    world = World(setting.manifest())
    populate(world, setting)
    return world


def run_until(world: World, condition: Callable[[], bool], limit_s: float) -> None:
    end = world.now + limit_s
    while not condition():
        assert world.now < end, "it never happened"
        world.run(world.now + 0.01)


def standing(world: World, name: str) -> Standing:
    life = world.machines[name].life
    assert life is not None
    return life.peer.standing


def test_who_was_about_to_catch_up_goes_on_alone_when_the_others_are_gone() -> None:
    world = swarm(peers=2, rounds=14, policy="fork")
    world.run(3.0)
    world.kill("p0")
    p0, p1 = world.machines["p0"], world.machines["p1"]
    run_until(world, lambda: p1.sealed >= p0.sealed + 3, 60.0)
    world.kill("p1")
    world.start("p0")
    world.start("p1")
    run_until(world, lambda: p0.reports["catching-up"] == 1, 20.0)
    world.kill("p1")
    run_until(world, lambda: standing(world, "p0") is Standing.DONE, 200.0)
    assert p0.sealed == 14 and world.checks.violations == []


def test_a_newcomer_that_restarts_does_not_run_ahead() -> None:
    world = swarm(peers=1, rounds=20)
    world.run(2.0)
    world.add("p1")
    world.join("p1", "p0")
    newcomer = world.machines["p1"]
    run_until(world, lambda: newcomer.reports["admitted"] == 1, 5.0)
    world.kill("p0")
    world.kill("p1")
    world.start("p1")
    world.run(world.now + 30.0)
    life = newcomer.life
    assert life is not None
    assert newcomer.sealed == 0 and life.peer.gossip.round_index == 0
    world.start("p0")
    done = {"p0", "p1"}
    run_until(
        world,
        lambda: all(standing(world, name) is Standing.DONE for name in done),
        200.0,
    )
    assert world.machines["p0"].reports["round-sealed"] == 20, "it trained every round"
    assert world.checks.violations == []


def test_whoever_is_held_in_a_round_that_is_over_can_say_so() -> None:
    setting = Setting(6, 14, 333, Fraction(1, 2), network="lan")
    assert simulate(setting).violations == []
