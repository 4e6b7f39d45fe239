"""One round in which no reducer is simply believed.

What a reducer sends is first only *here*: its backups are asked for the same, as they
would be if it were silent, and the round waits for them. They gather the contributions
once more. When all have answered, or will not, the own side compares and takes what is
to be believed (``Settle``). Where there is nobody to ask, that is what was sent.

Everybody asks, always: if only some did, they would go on with other values than the
rest, and honest reducers would contradict each other from then on.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from p2pfusion.protocol.events import Effect, Settle
from p2pfusion.protocol.reduction import Reduction
from p2pfusion.protocol.round import Round
from p2pfusion.protocol.stream import StreamKey
from p2pfusion.protocol.transfer import Pull
from p2pfusion.split.plan import Hop


@dataclass
class WeighedRound(Round):
    """The exchange of a round whose reducers are checked."""

    weighed: dict[str, StreamKey] = field(default_factory=dict)
    """Streams that are here, and that somebody else was asked for, by reducer."""
    _whole: set[str] = field(default_factory=set)
    """Reducers whose streams lacked nothing."""
    _asking: str = ""

    def arrived(
        self, stream: StreamKey, absent_count: int, online: set[str], now: float
    ) -> list[Effect]:
        """A stream is complete; a reducer's counts when it was compared."""
        if stream.hop != Hop.FUSED or stream.instead_of:
            effects = super().arrived(stream, absent_count, online, now)
            return effects + self._settle()
        self.attendance.fused(stream, now)
        self.weighed[stream.source] = stream
        if not absent_count:
            self._whole.add(stream.source)
        self._asking = stream.source
        effects = self._elsewhere(stream, online or self.online, now)
        self._asking = ""
        return effects + self._settle()

    def gave_up(
        self, pull: Pull, reason: str, online: set[str], now: float
    ) -> list[Effect]:
        """A stream will not come (any more): go on without it, or ask somebody else."""
        return super().gave_up(pull, reason, online, now) + self._settle()

    def _close_if_done(self, reduction: Reduction, now: float) -> list[Effect]:
        return super()._close_if_done(reduction, now) + self._settle()

    def _count_stale(self, stream: StreamKey) -> None:
        """What a reducer has sent is here, even if nobody else has it."""
        reducer = stream.instead_of or stream.source
        if stream.hop != Hop.FUSED or reducer not in self._whole:
            super()._count_stale(stream)

    def _settle(self) -> list[Effect]:
        """Of whose work everybody asked has answered."""
        awaited = {need.instead_of for need in self.needs if need.hop == Hop.FUSED}
        effects: list[Effect] = []
        for reducer, stream in self.weighed.items():
            own = self.reductions.get(reducer) if reducer in self.required else None
            waits = reducer in awaited or (own is not None and not own.closed)
            if stream in self.needs and not waits and reducer != self._asking:
                self.needs.discard(stream)
                effects.append(Settle(self.number, reducer))
        return effects
