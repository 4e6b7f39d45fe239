"""What must hold when everybody is done: who is in the roster, what is kept twice."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from p2pfusion.protocol.course import Standing
from p2pfusion.protocol.messages import NEVER
from p2pfusion.protocol.timing import TIMINGS
from p2pfusion.simulation.machine import Life, State

if TYPE_CHECKING:
    from p2pfusion.simulation.world import World

PATIENCE = 4
"""An accuser that does not trust its own machine waits some times as long."""

EPOCHS_TO_RETURN = 3
"""Who is there and was put out is back after so many epochs, at the latest."""

COPIES = 2


class Ending:
    """Looks at the world when all is over."""

    def __init__(self, world: World, quiet_at: float) -> None:
        """From ``quiet_at`` on nothing went wrong any more."""
        self._world = world
        self._timing = TIMINGS[world.manifest.network]
        self._quiet_at = quiet_at
        self._epochs = world.checks.epochs
        """When somebody first entered each epoch."""

    def look(self) -> None:
        """Notes what is wrong."""
        done = [x for x in self._world.alive() if x.peer.standing is Standing.DONE]
        if not done:
            return
        self._members(done[0])
        if len(done) >= COPIES:
            self._copies(done)

    def _members(self, life: Life) -> None:
        """The dead are out of the roster, and all who live are in it."""
        world = self._world
        last = world.manifest.epoch(max(life.plans))
        roster = {member.peer for member in life.peer.gossip.facts.roster(last)}
        for machine in world.machines.values():
            name, is_in = machine.name, machine.name in roster
            if machine.state is State.DEAD or machine.life is None:
                if is_in and self._is_long_dead(machine.ended_at, last):
                    text = f"died at {machine.ended_at:.1f} s, is in epoch {last}"
                    world.checks.violated("dead member", name, text)
                continue
            peer = machine.life.peer
            has_left = peer.gossip.record.leave_epoch != NEVER
            if peer.standing is Standing.LEFT and is_in:
                text = f"has left, is in epoch {last}"
                world.checks.violated("dead member", name, text)
            is_done = peer.standing is Standing.DONE and not has_left
            if is_done and not is_in and self._is_long_quiet(last):
                text = f"lives, and is not in the roster of epoch {last}"
                world.checks.violated("not back", name, text)

    def _is_long_dead(self, ended_at: float, last: int) -> bool:
        """Whether the others had the time to find out: two epochs before the last."""
        known_s = self._timing.silence_s + PATIENCE * self._timing.suspicion_s
        known_at = max(ended_at, self._quiet_at) + known_s
        return known_at < self._epochs.get(last - 1, 0.0)

    def _is_long_quiet(self, last: int) -> bool:
        """Whether whoever was put out had the time to come back."""
        heard_at = self._quiet_at + 2 * self._timing.silence_s
        return heard_at < self._epochs.get(last - EPOCHS_TO_RETURN + 1, 0.0)

    def _copies(self, done: list[Life]) -> None:
        """What anybody has of the newest values is not at that one only."""
        world, life = self._world, done[0]
        plan = life.plans[max(life.plans)]
        planned = world.geometry.flat(plan.homes.version)
        copies = np.zeros(len(planned), np.int64)
        for other in done:
            copies += other.holdings.cells().content >= planned
        short = (copies > 0) & (copies < COPIES) & (planned > 0)
        count = int(short.sum())
        if count:
            text = f"{count} of {len(planned)} cells are at one peer only"
            world.checks.violated("replication", life.name, text)
