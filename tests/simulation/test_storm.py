"""Large swarms, kept small here: who knows whom from the start, and what it costs."""

from __future__ import annotations

from dataclasses import replace

import pytest

from p2pfusion.protocol import spread
from p2pfusion.simulation.crowd import acquaint
from p2pfusion.simulation.run import Setting
from p2pfusion.simulation.storm import (
    MINUTE_S,
    Meter,
    Storm,
    faults,
    grown,
    is_agreed,
    main,
    prepared,
    storm,
)
from p2pfusion.simulation.world import World


def test_who_is_acquainted_starts_without_joining() -> None:
    setting = Setting(peers=3, rounds=6, faults="none")
    world = World(setting.manifest())
    names = ["p0", "p1", "p2"]
    for name in names:
        world.add(name)
    acquaint(world, names)
    for name in names:
        world.start(name)
    world.run(2.0)
    assert is_agreed(world)
    assert all(m.reports["joined"] == 1 for m in world.machines.values())
    world.run(20.0)
    assert {m.sealed for m in world.machines.values()} == {6}
    assert world.checks.violations == []


def test_what_a_swarm_costs_is_counted_per_peer_and_minute() -> None:
    found = grown(6, minutes=3)
    assert found.violations == [] and found.converged_s == 0.0
    assert 0 < found.control_median <= found.control_p99
    assert found.control_median < found.control_worst_minute
    assert found.starting_median > found.control_median
    assert found.rounds >= 3 and found.bulk_median > 0
    assert found.virtual_s == 3 * MINUTE_S


def test_the_worst_minute_is_that_of_one_peer() -> None:
    world = prepared(3, seats=3)
    meter = Meter(world)
    world.run(10.0)
    meter.read()
    world.machines["p1"].control_bytes += 5_000
    world.run(20.0)
    meter.read()
    before = meter.worst
    assert before >= 500.0
    world.run(30.0)
    meter.read()
    assert meter.worst == before


def test_a_small_storm_is_over_soon(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["20"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("20 peers: all known after ") and "never" not in out


def test_so_is_one_of_a_swarm_that_is_too_large_for_flooding(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with monkeypatch.context() as flooding:
        flooding.setattr(spread, "MAX_FLOODED", 8)
        found = storm(30)
    assert list(faults(found)) == []
    assert found.joined_s is not None and found.joined_s < 60.0
    assert found.longest_queue < 8 * 30


def test_a_storm_that_costs_too_much_is_told() -> None:
    good = Storm(100, joined_s=1.0, converged_s=1.0, longest_queue=90)
    assert not list(faults(good))
    assert list(faults(Storm(100))) == [
        "the newcomers and the others never knew the same"
    ]
    bad = replace(good, converged_s=None, control_median=5e3, longest_queue=10_000)
    assert list(faults(bad)) == [
        "the dead never left the roster",
        "half of the peers send more than 4000 B/s",
        "10000 messages waited in front of one peer",
    ]


def test_messages_queue_in_front_of_a_daemon_that_is_busy() -> None:
    world = prepared(4, seats=4)
    world.handling_s = 0.05
    world.run(10.0)
    assert max(m.longest_queue for m in world.machines.values()) > 1
