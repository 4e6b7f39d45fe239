"""Machines that are so busy that their daemons are held up again and again."""

from __future__ import annotations

import itertools
import random

from p2pfusion.protocol.course import Standing
from p2pfusion.protocol.events import Report
from p2pfusion.simulation.machine import Life
from p2pfusion.simulation.run import Setting, populate
from p2pfusion.simulation.world import World

ROUNDS = 20
HELD_S = (0.6, 0.95)
"""Longer than between two probes, shorter than half a silence."""

RUNS_S = 1.8
"""Between two of them, on average: a third of the time nothing runs."""

SLOWEST_S = 6.0
"""Between two seals; alone a round takes 1.2 s."""


class Busy:
    """A swarm whose daemons are all held up, and what they report."""

    def __init__(self) -> None:
        setting = Setting(peers=6, rounds=ROUNDS, faults="none")
        self.world = World(setting.manifest())
        self.slept = 0
        self.missing: list[object] = []
        self.sealed_at: dict[str, list[float]] = {}
        self._chance = random.Random(0)
        self._reported = self.world.checks.reported
        self.world.checks.reported = self._note  # type: ignore[method-assign]
        populate(self.world, setting)

    def _note(self, life: Life, effect: Report) -> None:
        self.slept += effect.kind == "slept"
        if effect.kind == "round-sealed":
            self.missing.append(effect.details["missing"])
            self.sealed_at.setdefault(life.name, []).append(self.world.now)
        self._reported(life, effect)

    def hold(self, name: str) -> None:
        self.world.pause(name)
        until = self.world.now + self._chance.uniform(*HELD_S)
        self.world.at(until, self.go_on, name)

    def go_on(self, name: str) -> None:
        self.world.resume(name)
        runs_s = self._chance.expovariate(1 / RUNS_S)
        self.world.at(self.world.now + runs_s, self.hold, name)


def test_busy_machines_take_themselves_for_no_sleepers_and_wait_for_nobody() -> None:
    busy = Busy()
    world = busy.world
    world.run(4.0)
    for number, name in enumerate(world.machines):
        world.at(4.0 + 0.3 * number, busy.hold, name)
    while any(life.peer.standing is not Standing.DONE for life in world.alive()):
        world.run(world.now + 1.0)
        assert world.now < 8 * ROUNDS
    assert world.checks.violations == []
    assert busy.slept == 0 and not any(busy.missing)
    for times in busy.sealed_at.values():
        pairs = itertools.pairwise(times)
        assert max(later - at for at, later in pairs) < SLOWEST_S
