"""Exports: the whole model, pulled from every home.

What a home does not answer for, or lacks, is asked of others that have the newest
values by the plans. What nobody has is named as missing.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from p2pfusion.protocol.events import Assembled, Effect, StreamKey
from p2pfusion.protocol.round import Round
from p2pfusion.protocol.transfer import Pull, Pulls
from p2pfusion.split.plan import ExchangePlan, Hop
from p2pfusion.split.segment import Segment


@dataclass
class Export:
    """The whole model on its way here: streams to come, homes that gave nothing."""

    wanted: set[StreamKey] = field(default_factory=set)
    missing: set[str] = field(default_factory=set)


class Exports:
    """All exports of one peer that are under way."""

    def __init__(self, pulls: Pulls) -> None:
        self._pulls = pulls
        self._exports: dict[int, Export] = {}

    @property
    def left_bytes(self) -> int:
        """What is still to come."""
        pulls = self._pulls.of_hop(Hop.EXPORT)
        return sum((pull.total_bytes or 0) - pull.received for pull in pulls)

    def begin(
        self,
        number: int,
        round_: Round | None,
        *,
        me: str,
        online: set[str],
        now: float,
        lacks_own: bool,
    ) -> list[Effect]:
        """Pulls from every home what lives there as this round begins.

        ``lacks_own``: of what lives here by the table of homes something is not here,
        because this peer was away, or the table says how rounds were planned.
        """
        export = self._exports[number] = Export()
        if round_ is None:
            return self._finished()
        plan = round_.plan
        if me not in plan.peers:
            # Not a member yet: the plan has no streams for it.
            export.missing.update(plan.peers)
        effects: list[Effect] = []
        for source in plan.sources(Hop.EXPORT, me):
            stream = StreamKey(Hop.EXPORT.value, round_.number, source, me)
            effects += self._want(export, stream, round_, online, now)
        if lacks_own:
            own = StreamKey(Hop.EXPORT.value, round_.number, me, me)
            effects += self._want(export, own, round_, online - {me}, now)
        return effects + self._finished()

    def _want(
        self,
        export: Export,
        stream: StreamKey,
        round_: Round,
        online: set[str],
        now: float,
    ) -> list[Effect]:
        """Asks for a stream; if its source is silent, for what others have of it."""
        if stream.source in online:
            export.wanted.add(stream)
            size = round_.stream_bytes(stream)
            return self._pulls.open(stream, round_.plan.digest, size, now)
        home, me = stream.instead_of or stream.source, stream.target
        if stream.instead_of or not _has_copies(round_.plan, home, me):
            export.missing.add(home)
        if stream.instead_of:
            return []
        effects: list[Effect] = []
        for other in round_.plan.substitutes(Hop.EXPORT, source=home, target=me):
            second = StreamKey(stream.hop, stream.round_index, other, me, home)
            effects += self._want(export, second, round_, online, now)
        return effects

    def ended(
        self, pull: Pull, round_: Round | None, *, online: set[str], now: float
    ) -> list[Effect]:
        """A stream has ended: what it lacks is asked for elsewhere.

        One that was given up lacks everything; ``round_`` is gone for one of the past.
        """
        effects: list[Effect] = []
        stream, others = pull.stream, online - {pull.stream.source}
        for export in list(self._exports.values()):
            if stream not in export.wanted:
                continue
            export.wanted.discard(stream)
            if not pull.absent_count:
                continue
            if round_ is None:
                export.missing.add(stream.instead_of or stream.source)
            else:
                effects += self._want(export, stream, round_, others, now)
        return effects + self._finished()

    def _finished(self) -> list[Effect]:
        done = [number for number, export in self._exports.items() if not export.wanted]
        effects: list[Effect] = []
        for number in done:
            missing = self._exports.pop(number).missing
            effects.append(Assembled(number, tuple(sorted(missing))))
        return effects


def _has_copies(plan: ExchangePlan, home: str, me: str) -> bool:
    """Whether others, or we, have the newest of all that lives at a silent home."""
    lacking = plan.homes.segments(plan.layout, home=home, lacking=me)
    second: dict[int, list[Segment]] = {}
    for other in plan.substitutes(Hop.EXPORT, source=home, target=me):
        for part in plan.stream(Hop.EXPORT, source=other, target=me, instead_of=home):
            second.setdefault(part.parameter, []).append(part)
    return all(
        segment.size
        == sum((segment & part).size for part in second.get(segment.parameter, ()))
        for segment in lacking
    )
