"""How a sum of masked contributions is opened: whom a reducer asks for which seeds.

When every contribution has come or was given up, the reducer asks those whose came for
their seeds, once, and names whose did not. Nobody becomes missing after that: its own
seed may be on the way, and with the seeds that others share with it, it would show a
contribution. What cannot be opened without such a one keeps its values of before. A
holder answers for one sum what it was asked first, and nothing else.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from p2pfusion.protocol.events import Effect
from p2pfusion.protocol.reduction import Reduction
from p2pfusion.protocol.stream import StreamKey, stream_elements
from p2pfusion.protocol.transfer import Pulls
from p2pfusion.split.groups import ELEMENT_BYTES, pack_missing, unpack_missing
from p2pfusion.split.plan import ExchangePlan, Hop


@dataclass
class Openings:
    """The sums of one round that this peer opens, or helps to open."""

    plan: ExchangePlan
    me: str
    pulls: Pulls
    asked_at: dict[str, float]
    """When the seeds of each sum were asked for."""
    _given: dict[tuple[str, str], bytes] = field(default_factory=dict)

    def ask(self, reduction: Reduction, has_own: bool, now: float) -> list[Effect]:
        """Asks everybody whose contribution came for its seeds, once."""
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

    def readiness(self, stream: StreamKey) -> str:
        """``ready``, or the reason of a refusal, for seeds asked of us."""
        if len(stream.asked) != -(-len(self.plan.peers) // 8):
            return "plan"
        if self.plan.peers.index(self.me) in unpack_missing(self.plan, stream.asked):
            return "lacking"
        first = self._given.setdefault((stream.target, stream.instead_of), stream.asked)
        return "ready" if first == stream.asked else "lacking"
