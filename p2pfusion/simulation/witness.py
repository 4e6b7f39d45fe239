"""What was said of others, against what the network really let through.

A peer knows what it has heard; only the world knows what was there to be heard. The
witness notes which daemon got something from whom, and when. Then nobody may accuse a
peer that it heard a moment ago, and who seals one round after the other has really
heard from most of the roster.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING

from p2pfusion.limits import OBSERVERS
from p2pfusion.protocol.statements import read_accusation
from p2pfusion.protocol.timing import LONG_AGO, TIMINGS
from p2pfusion.simulation.keys import NAMES
from p2pfusion.simulation.machine import Life, State

if TYPE_CHECKING:
    from p2pfusion.simulation.world import World

SLACK_S = 0.05
"""Between arriving and being handled: the disk may be busy for a moment."""

LATE_S = 3.0
"""A round that was complete when the others fell silent is sealed a little later."""

TOLERATED = 1
"""Rounds that may be sealed in a row without a quorum: the first silence is unseen."""


class Witness:
    """Knows who really heard whom."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._alone: dict[Life, int] = {}

    @property
    def _silence_s(self) -> float:
        return TIMINGS[self._world.manifest.network].silence_s

    def reached(self, life: Life, within_s: float) -> set[str]:
        """From whom something has arrived lately, and the peer itself."""
        since = self._world.now - within_s
        reached = {peer for peer, at in life.heard.items() if at >= since}
        reached.add(life.name)
        return reached

    def accusing(self, life: Life) -> None:
        """Somebody was accused: not one that the accuser has just heard."""
        signer, world = life.machine.signer, self._world
        for signed in signer.accusations:
            said = read_accusation(signed, NAMES, swarm=world.manifest.swarm_id)
            silent_s = world.now - life.heard.get(said.peer, LONG_AGO)
            if silent_s < self._silence_s - SLACK_S:
                text = f"accuses {said.peer}, heard {silent_s:.3f} s ago"
                world.checks.violated("accused", life.name, text)
        signer.accusations.clear()

    def sealing(self, life: Life, number: int) -> None:
        """A round is sealed: by one that is in touch with most of the others."""
        world = self._world
        manifest = world.manifest
        if manifest.partition_policy != "majority" or number >= manifest.rounds:
            return
        facts = life.peer.gossip.facts
        roster = [m.peer for m in facts.roster(manifest.epoch(number - 1))]
        reached = self.reached(life, 2 * self._silence_s + LATE_S)
        if len(roster) > OBSERVERS:
            # Nobody listens to all of so many: who could have been heard counts.
            reached |= {name for name in roster if self._could_be_heard(name, life)}
        if life.name not in roster or is_quorum(roster, reached, facts.lost):
            self._alone.pop(life, None)
            return
        self._alone[life] = self._alone.get(life, 0) + 1
        if self._alone[life] > TOLERATED:
            heard = len(reached.intersection(roster))
            text = f"seals {number} with {heard} of {len(roster)} in reach"
            world.checks.violated("no quorum", life.name, text)

    def _could_be_heard(self, name: str, life: Life) -> bool:
        world = self._world
        machine = world.machines.get(name)
        is_alive = machine is not None and machine.state is State.ALIVE
        return is_alive and world.network.is_open(name, life.name)


def is_quorum(
    roster: Collection[str], reached: Collection[str], lost: Collection[str]
) -> bool:
    """Whether these are enough of a roster in the order of ranks."""
    counted = [peer for peer in roster if peer not in lost]
    there = sum(peer in reached for peer in counted)
    has_first = not counted or counted[0] in reached
    return 2 * there > len(counted) - has_first
