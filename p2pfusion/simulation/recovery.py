"""Whether a swarm recovers: one roster, rounds that go on, nothing lost at the end.

Looked at now and then, from outside. Before the last fault is over nothing is expected;
then all that live must know the same facts within three epochs, somebody must seal a
round now and then, and in the end all are done, and what an export would assemble is
the newest that anybody has.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from p2pfusion.protocol.course import Standing
from p2pfusion.protocol.events import ExportRequested
from p2pfusion.protocol.timing import TIMINGS
from p2pfusion.protocol.waiting import waiting_for
from p2pfusion.simulation.machine import Life
from p2pfusion.simulation.witness import is_quorum

if TYPE_CHECKING:
    from p2pfusion.simulation.world import World

LOOK_EVERY_S = 0.25

EPOCHS_TO_AGREE = 3
"""A fact counts one full epoch ahead, so everybody must have it within two."""

AGREE = 7.5
"""The same bound where no round goes on any more, in silences of the network."""

STALL = 25.0
"""Rounds close at deadlines, restarts and tables have theirs; nothing waits longer.
In silences of the network."""

OVER = (Standing.DONE, Standing.LEFT)

MIN_SILENCE_S = 4.0
EXPORT_S = 30.0
"""So long an export may take."""


def _is_over(life: Life, now: float) -> bool:
    """Whether a peer is done, and lacks nothing, or knows nobody whom it could ask."""
    if life.peer.standing is Standing.DONE:
        return life.peer.exchange.upkeep.is_at_rest(now)
    return life.peer.standing in OVER


class Recovery:
    """Watches a world from outside."""

    def __init__(self, world: World, quiet_at: float) -> None:
        """From ``quiet_at`` on nothing goes wrong any more."""
        self._world = world
        self.quiet_at = quiet_at
        silence_s = TIMINGS[world.manifest.network].silence_s
        self._agree_s = AGREE * max(silence_s, MIN_SILENCE_S)
        self._stall_s = STALL * max(silence_s, MIN_SILENCE_S)
        self.agreed_at: float | None = None
        self._agreed_once = False
        self._epoch_limit: int | None = None
        self._progress: object = None
        self._progress_at = quiet_at

    def _is_stuck(self) -> bool:
        """Whether so many are gone for good that the others must wait for an admin."""
        world, lives = self._world, self._expected()
        if not lives or world.manifest.partition_policy != "majority":
            return False
        furthest = max(lives, key=lambda life: life.peer.gossip.round_index)
        facts, number = furthest.peer.gossip.facts, furthest.peer.gossip.round_index
        roster = [m.peer for m in facts.roster(world.manifest.epoch(number))]
        alive = {life.name for life in world.alive()}
        return not is_quorum(roster, alive, facts.lost)

    def is_done(self) -> bool:
        """Whether nothing more will happen that is worth waiting for."""
        lives = self._expected()
        over = all(_is_over(life, self._world.now) for life in lives)
        if not lives and not self._world.is_idle:
            return False  # somebody may come back
        quiet = self._world.now >= self.quiet_at
        if self._world.now > self._progress_at + self._stall_s and self._is_stuck():
            return quiet
        return quiet and over and self.agreed_at is not None

    def look(self) -> bool:
        """Looks at everybody; False if there is no use in going on."""
        world = self._world
        lives = self._expected()
        digests = {life.peer.gossip.facts.digest for life in lives}
        if len(digests) > 1:
            self.agreed_at = None
        elif self.agreed_at is None:
            self.agreed_at = world.now
        if world.now < self.quiet_at:
            return True
        return self._agrees(lives) and self._goes_on(lives)

    def _expected(self) -> list[Life]:
        """The daemons that run, and must get somewhere."""
        return self._world.alive()

    def _agrees(self, lives: list[Life]) -> bool:
        world = self._world
        furthest = max((life.peer.gossip.round_index for life in lives), default=0)
        epoch = world.manifest.epoch(furthest)
        if self._epoch_limit is None:
            self._epoch_limit = epoch + EPOCHS_TO_AGREE
        self._agreed_once = self._agreed_once or self.agreed_at is not None
        late = epoch > self._epoch_limit or (
            furthest >= world.manifest.rounds
            and world.now > self.quiet_at + self._agree_s
        )
        if self._agreed_once or not late:
            return True
        known = {life.name: len(life.peer.gossip.facts.records) for life in lives}
        text = f"no common roster after {EPOCHS_TO_AGREE} epochs; members known: "
        world.checks.violated("roster", lives[0].name, text + str(known))
        return False

    def _goes_on(self, lives: list[Life]) -> bool:
        world = self._world
        progress = tuple(
            (life.name, life.machine.sealed, life.peer.standing) for life in lives
        )
        if progress != self._progress:
            self._progress, self._progress_at = progress, world.now
        if world.now <= self._progress_at + self._stall_s:
            return True
        if not lives or self._is_stuck():
            return False
        for life in lives:
            if life.peer.standing in OVER and not _is_over(life, world.now):
                lacking = life.peer.exchange.upkeep.lacking
                text = f"is done, but not at rest; lacks {lacking} cells"
                world.checks.violated("stall", life.name, text)
            elif life.peer.standing not in OVER:
                at = f"round {life.peer.gossip.round_index}, {life.peer.standing}"
                text = f"nothing happens for {self._stall_s:.0f} s: {at}, waits for "
                text += str(waiting_for(life.peer, world.now))
                world.checks.violated("stall", life.name, text)
        return False

    # --- At the end ------------------------------------------------------------------

    def export(self) -> None:
        """One peer assembles the model: nothing that anybody has is older in it."""
        world = self._world
        done = [x for x in world.alive() if x.peer.standing is Standing.DONE]
        if not done:
            return
        life = done[0]
        if life.numbers is not None:
            life.numbers.begin_export()
        plan = life.plans[max(life.plans)]
        here = world.geometry.grids(life.holdings.cells().claimed)
        pairs = zip(here, plan.homes.version, strict=True)
        world.give(life, ExportRequested(1, tuple(a < b for a, b in pairs)))
        ends_at = world.now + EXPORT_S
        while 1 not in life.assembled and world.now < ends_at:
            world.run(min(world.now + LOOK_EVERY_S, ends_at))
        missing = life.assembled.get(1)
        if missing is None:
            world.checks.violated("lost", life.name, "an export does not end")
            return
        found = life.holdings.cells().content.copy()
        for parcel in life.exported:
            for places, content in parcel.blocks:
                if content is not None:
                    found[places] = content
        if missing:
            return  # it has said so
        planned = world.geometry.flat(plan.homes.version)
        newest, there = np.zeros_like(found), np.zeros(len(found), np.bool_)
        for other in world.alive():
            content = other.holdings.cells().content
            newest = np.maximum(newest, content)
            there |= content == planned
        for check, mask in (
            ("lost", there & (found < planned)),
            ("phantom", ~there & (found < newest) & (newest < planned)),
            ("lineage", ~there & (found < newest) & (newest > planned)),
        ):
            count = int(mask.sum())
            if count:
                text = f"{count} of {len(found)} cells are older than somebody has them"
                world.checks.violated(check, life.name, text)
