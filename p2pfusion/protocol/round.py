"""One round at one peer: what it waits for, from whom, and until when.

The phases and what moves a round between them stand in ``phases.py``. As soon as the
plan is known, the round asks for everything it will need: as a reducer, the holders'
contributions; as a next holder, fused ranges from the reducers and untouched ones from
their homes. Those requests wait at the other side until the data is ready, so nothing
here polls. What remains is bookkeeping of two kinds:
* A ``Reduction`` is a set of ranges that this peer averages. It closes when every
  contribution has arrived or was given up.
* A *need* is a stream that this peer must receive before it can seal. If its source
  fails, the need moves to the backups, and after them counts as stale.
What is given up has a reason, for the round's report.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from p2pfusion.errors import LocalProtocolError
from p2pfusion.protocol.attendance import Attendance
from p2pfusion.protocol.events import AddOwn, CloseReduction, Effect, OpenReduction
from p2pfusion.protocol.lateness import Pace
from p2pfusion.protocol.messages import Offer
from p2pfusion.protocol.opening import Openings
from p2pfusion.protocol.phases import EXCHANGE, TRAIN, TRANSITIONS, Phase, Signal
from p2pfusion.protocol.reduction import BY_HOLDERS, Reduction
from p2pfusion.protocol.stream import StreamKey, stream_bytes, stream_segments
from p2pfusion.protocol.timing import NEVER_S
from p2pfusion.protocol.transfer import Pull, Pulls
from p2pfusion.split.hops import CONTRIBUTION, FUSED, ROUND_HOPS, SEEDS, Hop
from p2pfusion.split.keeping import Cells, cells_to_keep, held_by, keepers
from p2pfusion.split.plan import ExchangePlan
from p2pfusion.split.segment import Split


@dataclass
class Round:
    """The exchange of one round, from the plan to the seal."""

    plan: ExchangePlan
    me: str
    pulls: Pulls
    pace: Pace
    splits: Mapping[str, Split]
    trains: bool
    catches_up: bool
    started_at: float
    phase: Phase = Phase.PLAN
    offer: Offer | None = None
    missing: dict[str, str] = field(default_factory=dict)
    needs: set[StreamKey] = field(default_factory=set)
    reductions: dict[str, Reduction] = field(default_factory=dict)
    required: set[str] = field(default_factory=lambda: {""})
    online: set[str] = field(default_factory=set)
    """Who could be asked for something when that was last looked at."""
    stale_ranges: int = 0
    held: bool = False
    """Whether it stands still, because too few of the swarm can be reached."""
    is_over: bool = False
    """Whether the others have gone on without this peer: nothing counts any more."""
    changed: set[int] = field(default_factory=set)
    """The rounds in which something may have become ready since those who wait were
    looked at: one set for all of a peer."""

    def __post_init__(self) -> None:
        self.number = self.plan.round_index
        """The round's number, from 0."""
        others, at = set(self.splits) - {self.me}, self.started_at
        self.attendance = Attendance(
            self.pace, others, self.trains, at, me=self.me, number=self.number
        )
        asked = self.attendance.seeds_asked_at
        self.openings = Openings(self.plan, self.me, self.pulls, asked)

    @property
    def offers(self) -> dict[str, tuple[float, Offer]]:
        """Who has offered, when, and what it said."""
        return self.attendance.offers

    @property
    def offered_at(self) -> float | None:
        """When the own values were ready, or known never to be."""
        return self.attendance.offered_at

    # --- Moving on -------------------------------------------------------------------

    def _signal(self, signal: Signal) -> None:
        following = TRANSITIONS[self.phase].get(signal)
        if following is None:
            raise LocalProtocolError(
                f"round {self.number} cannot take {signal} in phase {self.phase}"
            )
        self.phase = following
        self.changed.add(self.number)

    def begin(self, online: set[str], now: float) -> list[Effect]:
        """Asks for everything that this peer will need in this round."""
        self._signal(Signal.TRAIN if self.trains else Signal.CATCH_UP)
        self.attendance.lost = self.attendance.expected - online
        self.online = online
        effects = self.reduce("", online, now)
        for hop in (FUSED, Hop.CATCH_UP if self.catches_up else Hop.HOME):
            for source in self.plan.sources(hop, self.me):
                effects += self._need(self._key(hop, source), online, now)
        return effects

    def trained(self, offer: Offer, now: float) -> list[Effect]:
        """The own values are ready; ``samples`` 0 says that there are none."""
        self._signal(Signal.TRAINED)
        self.offer = offer
        self.attendance.own(now, trained=True)
        effects: list[Effect] = []
        for reduction in self.reductions.values():
            effects += self._add_own(reduction, now)
        self._signal(Signal.ANNOUNCED)
        return effects

    def failed(self, reason: str, now: float) -> list[Effect]:
        """The own training gave nothing: go on as one who only receives."""
        self._signal(Signal.FAILED)
        self.missing[self.me] = reason
        self.attendance.own(now, trained=False)
        effects: list[Effect] = []
        for reduction in self.reductions.values():
            reduction.own_pending = False
            effects += self._close_if_done(reduction, now)
        return effects

    def complete(self) -> bool:
        """Whether the round may be sealed now; if so, it is."""
        if self.phase is not EXCHANGE or self.needs or self.held:
            return False
        if not all(self.reductions[name].closed for name in self.required):
            return False
        self._signal(Signal.COMPLETE)
        self.attendance.sealed(self.offer)
        return True

    def hold(self, held: bool, now: float) -> list[Effect]:
        """Stands still, or goes on: what is complete is closed then."""
        held = held or self.is_over
        if held is self.held:
            return []
        self.held = held
        effects: list[Effect] = []
        for reduction in self.reductions.values():
            effects += self._close_if_done(reduction, now)
        return effects

    # --- What others say and send ----------------------------------------------------

    def arrived(
        self, stream: StreamKey, absent_count: int, online: set[str], now: float
    ) -> list[Effect]:
        """A stream of this round is complete, but for so many of its parts."""
        self.online = online or self.online
        if stream.hop == FUSED:
            self.needs.discard(stream)  # nobody has trained what is absent
            self.attendance.fused(stream, now)
            return []
        if stream.hop == Hop.KEEP:
            return self._kept(stream, now, whole=not absent_count)
        if stream.hop not in BY_HOLDERS:
            self.needs.discard(stream)
            if stream.instead_of or not absent_count:
                self.stale_ranges += absent_count
                return []
            # The table says how the rounds were planned; this home was away in one.
            return self._elsewhere(stream, online, now)
        reduction = self.reductions[stream.instead_of]
        reduction.arrived(stream.hop, stream.source, whole=not absent_count)
        return self._close_if_done(reduction, now)

    def gave_up(
        self, pull: Pull, reason: str, online: set[str], now: float
    ) -> list[Effect]:
        """A stream will not come (any more): go on without it, or ask somebody else."""
        effects = self.pulls.cancel(pull)
        self.online, stream = online, pull.stream
        if stream.hop in BY_HOLDERS:
            self.missing.setdefault(stream.source, reason)
            reduction = self.reductions[stream.instead_of]
            reduction.gave_up(stream.source)
            return effects + self._close_if_done(reduction, now)
        if stream.hop == Hop.KEEP:
            return effects + self._kept(stream, now, whole=False)
        self.needs.discard(stream)
        return effects + self._elsewhere(stream, online, now)

    def lose(self, peer: str, reason: str) -> None:
        """A peer is gone: what it has not offered by now it will not offer."""
        if self.attendance.lose(peer) and peer not in self.offers:
            self.missing.setdefault(peer, reason)
        for reduction in self.reductions.values() if self.pace.wire.hides else ():
            reduction.forget(peer)

    def contributors(self) -> set[str]:
        """Whose values went into this round, as far as this peer knows: they may be
        here before their offer, which has a connection of its own."""
        offered = {peer for peer, (_, offer) in self.offers.items() if offer.samples}
        own = {self.me} if self.offer is not None else set[str]()
        came = (reduction.came for reduction in self.reductions.values())
        return offered.union(own, *came) - set(self.missing)

    # --- Waiting ---------------------------------------------------------------------

    def tick(self, online: set[str], now: float) -> list[Effect]:
        """Gives up what is overdue."""
        self.online = online
        effects: list[Effect] = []
        for pull in self._awaited():
            due = self.attendance.due(pull)
            if due is not None and now >= due:
                self.attendance.given_up(pull, now)
                effects += self.pulls.withdraw(pull)
                effects += self.gave_up(pull, self.attendance.why(pull), online, now)
        return effects

    def _awaited(self) -> list[Pull]:
        pulls = self.pulls.of_round(self.number)
        return [pull for pull in pulls if pull.stream.hop in ROUND_HOPS]

    def deadline(self) -> float:
        """When something becomes overdue."""
        dues = [self.attendance.due(pull) for pull in self._awaited()]
        return min((due for due in dues if due is not None), default=NEVER_S)

    def waiting_for(self) -> dict[str, str]:
        """Whom this round waits for, and for what; for people."""
        waits = {self.me: "training"} if self.phase is TRAIN else {}
        for reduction in self.reductions.values():
            waits |= reduction.waits_for(self.offers)
        for need in sorted(self.needs, key=lambda key: (key.source, key.hop)):
            what = "fused ranges" if need.hop == FUSED else "ranges at home there"
            waits.setdefault(need.source, what)
        return waits

    # --- Needs and reductions --------------------------------------------------------

    def _key(self, hop: Hop, source: str, instead_of: str = "") -> StreamKey:
        return StreamKey(str(hop), self.number, source, self.me, instead_of)

    def stream_bytes(self, stream: StreamKey) -> int:
        """Length of a stream on the wire, from the plan."""
        return stream_bytes(self.plan, self.pace.wire, stream)

    def _pull(self, stream: StreamKey, now: float) -> list[Effect]:
        size = self.stream_bytes(stream)
        return self.pulls.open(stream, self.plan.digest, size, now)

    def _need(self, stream: StreamKey, online: set[str], now: float) -> list[Effect]:
        if stream.source not in online:
            return self._elsewhere(stream, online, now)
        self.needs.add(stream)
        return self._pull(stream, now)

    def _elsewhere(
        self, stream: StreamKey, online: set[str], now: float
    ) -> list[Effect]:
        """Fused ranges whose reducer is silent come from the backups, if they can."""
        hop = Hop(stream.hop)
        if stream.instead_of:
            self._count_stale(stream)
            return []
        effects: list[Effect] = []
        substitutes = self.plan.substitutes(hop, source=stream.source, target=self.me)
        for substitute in substitutes:
            key = self._key(hop, substitute, stream.source)
            if substitute != self.me:
                effects += self._need(key, online, now)
            else:
                self.required.add(stream.source)
                effects += self.reduce(stream.source, online, now)
        if not substitutes:
            self._count_stale(stream)
        return effects

    def _count_stale(self, stream: StreamKey) -> None:
        self.stale_ranges += len(stream_segments(self.plan, stream))

    def reduce(self, instead_of: str, online: set[str], now: float) -> list[Effect]:
        """Begins to average own ranges, or a silent reducer's as its backup; once."""
        if instead_of in self.reductions:
            return []
        plan, me = self.plan, self.me
        failed = instead_of or None
        sources = set(plan.sources(CONTRIBUTION, me, instead_of=failed))
        own = self.trains and plan.own_ranges(me, instead_of=failed).size > 0
        # Own values that will not come any more are not waited for.
        own = own and (self.offer is not None or self.phase is TRAIN)
        reduction = Reduction(instead_of, sources & online, own)
        self.reductions[instead_of] = reduction
        effects: list[Effect] = [OpenReduction(self.number, instead_of)]
        for source in sorted(reduction.pending):
            key = self._key(CONTRIBUTION, source, instead_of)
            effects += self._pull(key, now)
        for source in sorted(sources - online):
            self.missing.setdefault(source, "silent")
        if self.offered_at is not None:
            effects += self._add_own(reduction, now)
        return effects + self._close_if_done(reduction, now)

    def _add_own(self, reduction: Reduction, now: float) -> list[Effect]:
        if not reduction.own_pending:
            return []
        reduction.own_pending = False
        effects: list[Effect] = []
        if self.offer is not None:
            weight = self.weight(self.me, self.offer.samples, self.offer.rounds_late)
            effects.append(AddOwn(self.number, reduction.instead_of, weight))
        return effects + self._close_if_done(reduction, now)

    def weight(self, source: str, samples: int, rounds_late: int) -> float:
        """How much a contribution counts, against the others."""
        return self.pace.weight(samples, rounds_late)

    def _close_if_done(self, reduction: Reduction, now: float) -> list[Effect]:
        if self.held or reduction.closed or reduction.waits:
            return []
        effects: list[Effect] = []
        if self.pace.wire.hides:
            effects += self.openings.ask(reduction, self.offer is not None, now)
            if reduction.opening:
                return effects
        if reduction.keeping is None:
            reduction.keeping = {}
            if cells := self._cells_to_keep(reduction):
                effects += self._keep(reduction, cells, now)
            if reduction.keeping:
                return effects
        reduction.closed = True
        self.changed.add(self.number)
        return [*effects, CloseReduction(self.number, reduction.instead_of)]

    def _cells_to_keep(self, reduction: Reduction) -> Cells:
        return cells_to_keep(
            self.plan,
            self.me,
            instead_of=reduction.instead_of,
            came=reduction.came,
            has_own=self.offer is not None and not self.offer.rounds_late,
        )

    def _keep(self, reduction: Reduction, cells: Cells, now: float) -> list[Effect]:
        """Asks for the newest values of cells to which nobody contributed.

        Only who has offered is asked: others may be in another round for long.
        """
        assert reduction.keeping is not None
        effects, there = list[Effect](), self.attendance
        among = self.online & there.offers.keys() - there.lost
        among -= reduction.asked | reduction.keeping.keys()
        for source in keepers(self.plan, cells, among):
            reduction.keeping[source] = held_by(self.plan.homes, cells, source)
            key = self._key(Hop.KEEP, source, reduction.instead_of)
            effects += self._pull(key, now)
        return effects

    def _kept(self, stream: StreamKey, now: float, *, whole: bool) -> list[Effect]:
        """Older values are here, or must come from somebody else."""
        reduction = self.reductions[stream.instead_of]
        assert reduction.keeping is not None  # it has asked for them
        cells, effects = reduction.keeping.pop(stream.source), list[Effect]()
        reduction.asked.add(stream.source)
        if not whole:
            effects += self._keep(reduction, cells, now)
        return effects + self._close_if_done(reduction, now)

    # --- Serving ---------------------------------------------------------------------

    def readiness(self, stream: StreamKey) -> str:
        """``ready``, ``wait``, or the reason of a refusal, for a stream asked of us."""
        if stream.hop == CONTRIBUTION:
            if self.offer is not None:
                return "ready"
            return "wait" if self.phase is TRAIN else "not-training"
        if stream.hop == SEEDS:
            return self.openings.readiness(stream) if self.pace.wire.hides else "plan"
        if stream.hop == FUSED:
            reduction = self.reductions.get(stream.instead_of)
            return "ready" if reduction is not None and reduction.closed else "wait"
        return "ready"
