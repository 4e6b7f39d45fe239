"""Random faults in swarms whose rounds close with lists, and whose members announce."""

from __future__ import annotations

from dataclasses import replace

import pytest

from p2pfusion.protocol.manifest import Manifest
from p2pfusion.protocol.messages import PeerRecord
from p2pfusion.simulation.run import Outcome, Setting, simulate, small_perceptron
from p2pfusion.simulation.seeds import random_setting
from p2pfusion.simulation.world import World
from tests.methods.toy import SHARING, said, toy_methods

SEEDS = (0, 2, 3, 4, 9)
"""Of small swarms, with many kinds of incidents between them."""


def announces(record: PeerRecord) -> bytes:
    """What follows from a peer's name and fraction, as its data would give it."""
    return said(record.split_fraction, sum(record.peer.encode()) % 16)


def outcome(setting: Setting, *, least: int = 0) -> tuple[Outcome, World]:
    worlds: list[World] = []

    def begin(world: World) -> None:
        world.announces = announces
        worlds.append(world)

    like = Manifest(
        name="toys",
        model="mlp",
        layout=small_perceptron(),
        method=SHARING,
        method_arguments={"least": least},
    )
    with toy_methods():
        return simulate(replace(setting, like=like), on_world=begin), worlds[0]


@pytest.mark.parametrize("seed", SEEDS)
def test_random_swarms_keep_every_promise(seed: int) -> None:
    found, _ = outcome(random_setting(seed), least=99 * (seed % 2))
    assert not found.violations, "\n".join(map(str, found.violations))


def test_everybody_announces_and_late_updates_count() -> None:
    found, world = outcome(Setting(peers=5, rounds=12, faults="none"))
    assert not found.violations and found.rounds_completed_min == 12
    machines = world.machines.values()
    assert all(machine.reports["announced"] == 1 for machine in machines)
    assert sum(machine.reports["late-update"] for machine in machines) > 5
    facts = next(iter(world.alive())).peer.gossip.facts
    for record in facts.members():
        assert facts.announcements.fits(record) and record.announced
