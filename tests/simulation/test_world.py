"""Whole swarms in virtual time: the same log every time, and faults that bite."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from p2pfusion.protocol.course import Standing
from p2pfusion.simulation.machine import State
from p2pfusion.simulation.run import Setting, populate, simulate
from p2pfusion.simulation.world import World

ROOT = Path(__file__).resolve().parents[2]
ROUGH = Setting(peers=5, rounds=14, seed=5)


def sound(peers: int = 3, rounds: int = 8) -> World:
    setting = Setting(peers=peers, rounds=rounds, faults="none")
    world = World(setting.manifest())
    populate(world, setting)
    return world


def rounds(world: World) -> dict[str, int]:
    return {name: machine.sealed for name, machine in world.machines.items()}


def finish(world: World, limit_s: float = 200.0) -> None:
    end = world.now + limit_s
    while any(life.peer.standing is not Standing.DONE for life in world.alive()):
        assert world.now < end
        world.run(world.now + 0.5)
    assert world.checks.violations == []


# --- Determinism ---------------------------------------------------------------------


def test_the_same_seed_gives_the_same_log_and_another_seed_another() -> None:
    first = simulate(ROUGH)
    assert simulate(ROUGH).event_log_hash == first.event_log_hash
    other = Setting(peers=5, rounds=14, seed=6)
    assert simulate(other).event_log_hash != first.event_log_hash


def test_the_same_seed_gives_the_same_log_in_any_process() -> None:
    code = (
        "from tests.simulation.test_world import ROUGH, simulate\n"
        "print(simulate(ROUGH).event_log_hash)"
    )
    here = simulate(ROUGH).event_log_hash
    for hash_seed in ("1", "2"):
        there = subprocess.run(
            [sys.executable, "-c", code],
            cwd=ROOT,
            env={**os.environ, "PYTHONHASHSEED": hash_seed, "PYTHONPATH": "."},
            capture_output=True,
            text=True,
            check=True,
        )
        assert there.stdout.strip() == here


@pytest.mark.parametrize("seed", [5, 11, 12])
def test_messages_that_are_not_decoded_make_no_difference(seed: int) -> None:
    """Nor do plans that are shared."""
    setting = Setting(peers=4, rounds=10, seed=seed)
    fast, exact = simulate(setting), simulate(setting, exact=True)
    assert fast.event_log_hash == exact.event_log_hash
    assert fast.to_data() == exact.to_data()


def test_somebody_who_watches_sees_every_line() -> None:
    lines: list[str] = []
    outcome = simulate(Setting(peers=2, rounds=2, faults="none"), watch=lines.append)
    assert len(lines) == outcome.events
    assert any(" p1 " in line and " #" in line for line in lines)
    assert any(line.startswith("seal 2 ") for line in lines)


# --- Machines ------------------------------------------------------------------------


def test_a_swarm_trains_to_the_end() -> None:
    world = sound()
    finish(world)
    assert rounds(world) == {"p0": 8, "p1": 8, "p2": 8}
    assert world.now < 8 * 1.6
    assert all(m.reports["round-sealed"] == 8 for m in world.machines.values())


def test_who_is_killed_comes_back_with_what_its_disk_has() -> None:
    world = sound(rounds=12)
    world.run(3.4)
    before = world.machines["p1"].disk.progress.content
    assert before is not None
    world.kill("p1")
    assert world.machines["p1"].state is State.DEAD
    world.kill("p1")  # once is enough
    world.run(4.0)
    world.start("p1")
    life = world.machines["p1"].life
    assert life is not None and life.incarnation == 2
    finish(world)
    assert rounds(world) == {"p0": 12, "p1": 12, "p2": 12}


def test_a_paused_daemon_says_nothing_and_hears_everything_afterwards() -> None:
    world = sound(rounds=12)
    world.run(3.2)
    world.pause("p2")
    sent = world.machines["p2"].control_bytes
    world.run(9.0)
    assert world.machines["p2"].control_bytes == sent
    assert world.machines["p0"].reports["peer-silent"] == 1
    world.resume("p2")
    world.run(9.5)
    assert world.machines["p2"].control_bytes > sent
    finish(world)


def test_who_stops_politely_is_missed_at_once() -> None:
    world = sound(rounds=12)
    world.run(3.2)
    world.stop("p1")
    while world.machines["p1"].state is not State.DEAD:
        assert world.now < 8.0
        assert world.machines["p0"].reports["peer-silent"] == 0
        world.run(world.now + 0.1)
    world.run(world.now + 0.1)
    assert world.machines["p0"].reports["peer-silent"] == 1
    assert world.machines["p1"].reports["drained"] == 1
    world.start("p1")
    finish(world)


def test_who_is_started_while_it_still_hands_over_is_started_afterwards() -> None:
    world = sound(rounds=12)
    world.run(3.2)
    world.stop("p1")
    world.start("p1")
    finish(world)
    assert world.machines["p1"].disk.incarnation == 2


def test_a_slow_trainer_and_a_failing_one_hold_nobody_up_for_ever() -> None:
    world = sound(rounds=10)
    world.run(2.5)
    world.machines["p1"].slowness = 30.0
    world.machines["p2"].failing = 2
    finish(world)
    assert world.machines["p2"].reports["training-failed"] == 2


def test_what_a_daemon_says_while_its_disk_is_busy_leaves_afterwards() -> None:
    world = sound(rounds=6)
    for machine in world.machines.values():
        machine.disk.sync_s = (0.3, 0.3)
    finish(world)
    assert world.now > 6 * 1.4


def test_a_crash_during_a_write_takes_back_what_came_after_it() -> None:
    """The round was sealed but for the fsync: nobody has heard of the next one."""
    world = sound(rounds=20)
    world.run(2.0)
    machine = world.machines["p1"]
    machine.disk.sync_s, machine.disk.loss = (0.5, 0.5), 1.0
    life = machine.life
    assert life is not None
    while life.busy_until <= world.now or machine.disk.progress.content is None:
        world.run(world.now + 0.01)
    progress = machine.disk.progress.as_of(world.now)[0]
    world.kill("p1", power=True)
    assert machine.disk.progress.content is progress
    machine.disk.sync_s, machine.disk.loss = (0.001, 0.001), 0.5
    world.start("p1")
    finish(world)


# --- The network ---------------------------------------------------------------------


def test_after_a_partition_all_are_in_one_round() -> None:
    world = sound(peers=4, rounds=24)
    world.run(5.2)
    apart = [("p3", name) for name in ("p0", "p1", "p2")]
    world.network.cut([*apart, *((b, a) for a, b in apart)])
    world.run(14.2)
    assert world.machines["p3"].reports["peer-silent"] == 3
    world.carrier.flow(world.network.heal())
    finish(world)
    assert set(rounds(world).values()) == {24}


def test_what_is_clogged_arrives_in_order_when_it_is_freed() -> None:
    world = sound(peers=3, rounds=12)
    world.run(3.0)
    pairs = [("p1", "p0"), ("p1", "p2")]
    world.network.clog(pairs)
    world.run(6.0)
    held = [len(link.held) for link in world.network.between(["p1"], ["p0", "p2"])]
    assert max(held) > 3
    world.carrier.flow(world.network.unclog(pairs))
    assert not any(link.held for link in world.network.between(["p1"], ["p0", "p2"]))
    finish(world)


def test_control_messages_wait_for_a_daemon_that_is_away_and_bulk_does_not() -> None:
    world = sound(rounds=12)
    world.run(3.2)
    world.kill("p2")
    world.run(6.0)
    held = [x for link in world.network.into("p2") for x in link.held]
    assert held and all(envelope.session is None for envelope in held)
    world.start("p2")
    world.run(7.0)
    assert not any(link.held for link in world.network.into("p2"))
    finish(world)


def test_bulk_is_sealed_for_one_life_of_its_receiver() -> None:
    world = sound(rounds=12)
    world.run(2.0)
    life = world.machines["p0"].life
    assert life is not None
    old = life.sessions["p1"]
    world.kill("p1")
    world.start("p1")
    world.run(3.0)
    again = world.machines["p1"].life
    assert again is not None
    assert life.sessions["p1"] == again.exchange_key != old


# --- The way in ----------------------------------------------------------------------


def test_a_newcomer_joins_by_an_address_and_trains() -> None:
    world = sound(peers=3, rounds=24)
    world.run(2.0)
    world.add("p3")
    world.join_address("p3", "p0")
    finish(world)
    assert world.machines["p3"].reports["round-sealed"] > 8


def test_whoever_answers_with_another_key_lets_nobody_in() -> None:
    world = sound(peers=3, rounds=6)
    world.run(2.0)
    world.add("p3")
    world.join("p3", "p0")
    machine = world.machines["p3"]
    life = machine.life
    assert life is not None
    knocking = life.peer.gossip.joining.knocking[0]
    assert knocking.last_error == "nobody has answered yet"
    world.run(3.0)
    assert life.peer.manifest is not None


def test_time_that_does_not_pass_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("p2pfusion.simulation.world.MAX_EVENTS_AT_ONCE", 1000)
    world = sound()

    def again(what: object) -> None:
        world.at(world.now, again, what)

    world.at(1.0, again, None)
    world.run(2.0)
    assert world.has_stopped
    assert [v.check for v in world.checks.violations] == ["time stands still"]
