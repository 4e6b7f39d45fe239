"""How a sum of masked contributions is opened: whom a reducer asks for which seeds.

When every contribution has come or was given up, the reducer asks those whose came for
their seeds, and names whose did not. Who does not answer is missing, too, and the rest
is asked once more. A holder answers about one sum as often as it is asked, but what was
missing stays missing, and it is never asked to do without itself: so no honest reducer
gets both seeds that hide one contribution.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from p2pfusion.protocol.events import Effect
from p2pfusion.protocol.reduction import Reduction
from p2pfusion.protocol.stream import StreamKey, stream_elements
from p2pfusion.protocol.transfer import Pulls
from p2pfusion.split.groups import pack_missing
from p2pfusion.split.plan import ExchangePlan, Hop

ELEMENT_BYTES = 4


@dataclass
class Openings:
    """The sums of one round that this peer opens, or helps to open."""

    plan: ExchangePlan
    me: str
    pulls: Pulls
    asked_at: dict[str, float]
    """When the seeds of each sum were last asked for."""
    _given: dict[tuple[str, str], int] = field(default_factory=dict)

    def ask(self, reduction: Reduction, has_own: bool, now: float) -> list[Effect]:
        """Asks everybody whose contribution came for its seeds; once, until some are
        not to be had."""
        if reduction.opening is not None:
            return []
        reduction.opening, effects = set(), list[Effect]()
        self.asked_at[reduction.instead_of] = now
        there = {*reduction.came, *([self.me] if has_own else [])}
        asked = pack_missing(self.plan, set(self.plan.peers) - there)
        for source in sorted(reduction.came):
            key = StreamKey(
                Hop.SEEDS.value,
                self.plan.round_index,
                source,
                self.me,
                reduction.instead_of,
                asked,
            )
            size = stream_elements(self.plan, key) * ELEMENT_BYTES
            if size:
                reduction.opening.add(source)
                effects += self.pulls.open(key, self.plan.digest, size, now)
        return effects

    def failed(self, stream: StreamKey, reduction: Reduction) -> list[Effect]:
        """A holder's seeds will not come: what it has contributed cannot be read."""
        reduction.came.discard(stream.source)
        reduction.opening, effects = None, list[Effect]()
        for pull in self.pulls.of_round(self.plan.round_index):
            key = pull.stream
            if key.hop == Hop.SEEDS and key.instead_of == reduction.instead_of:
                effects += self.pulls.withdraw(pull) + self.pulls.cancel(pull)
        return effects

    def readiness(self, stream: StreamKey) -> str:
        """``ready``, or the reason of a refusal, for seeds asked of us."""
        if len(stream.asked) != -(-len(self.plan.peers) // 8):
            return "plan"
        missing = int.from_bytes(stream.asked, "big")
        us = int.from_bytes(pack_missing(self.plan, [self.me]), "big")
        before = self._given.get((stream.target, stream.instead_of), 0)
        if missing & us or missing & before != before:
            return "lacking"
        self._given[stream.target, stream.instead_of] = missing
        return "ready"
