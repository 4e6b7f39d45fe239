"""One round in which fused values are looked at before they count.

A reducer may lie, too. So what it sends is first only *here*: the own side weighs it
(``fusion/weighing.py``) and says whether it doubts it, because it lies oddly far from
what was here, or because the lot fell on it. Then the backups are asked for the same,
as they would be if the reducer were silent, and the round waits for them. They gather
the contributions once more; nobody else need know why. When all have answered, or will
not, the own side compares and takes what it believes (``Settle``). Where there is
nobody to ask, that is what the reducer sent.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from p2pfusion.protocol.events import Effect, Settle, Weighed
from p2pfusion.protocol.reduction import Reduction
from p2pfusion.protocol.round import Round
from p2pfusion.protocol.stream import StreamKey
from p2pfusion.protocol.transfer import Pull
from p2pfusion.split.plan import Hop


@dataclass
class WeighedRound(Round):
    """The exchange of a round whose fusion is to withstand liars."""

    doubted: dict[str, StreamKey] = field(default_factory=dict)
    """Streams that somebody else was asked for, by their reducer."""
    _asking: str = ""

    def arrived(
        self, stream: StreamKey, absent_count: int, online: set[str], now: float
    ) -> list[Effect]:
        """A stream is complete; a reducer's counts when it was weighed."""
        if stream.hop == Hop.FUSED and not stream.instead_of:
            self.attendance.fused(stream, now)
            return []
        effects = super().arrived(stream, absent_count, online, now)
        return effects + self._settle()

    def weighed(self, event: Weighed, online: set[str], now: float) -> list[Effect]:
        """What a reducer has sent counts, or is asked for elsewhere."""
        stream, reducer = event.stream, event.stream.source
        if stream not in self.needs or reducer in self.doubted:
            return []
        if not event.doubted:
            self.needs.discard(stream)
            return []
        self.doubted[reducer] = stream
        self._asking = reducer
        effects = self._elsewhere(stream, online, now)
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
        """What a doubted reducer has sent is here, if nobody else has it."""
        if not {stream.source, stream.instead_of} & self.doubted.keys():
            super()._count_stale(stream)

    def _settle(self) -> list[Effect]:
        """Of whose work everybody asked has answered."""
        awaited = {need.instead_of for need in self.needs if need.hop == Hop.FUSED}
        effects: list[Effect] = []
        for reducer, stream in self.doubted.items():
            own = self.reductions.get(reducer) if reducer in self.required else None
            waits = reducer in awaited or (own is not None and not own.closed)
            if stream in self.needs and not waits and reducer != self._asking:
                self.needs.discard(stream)
                effects.append(Settle(self.number, reducer))
        return effects
