"""One round at one peer: what it waits for, from whom, and until when.

The phases and what moves a round between them stand in ``TRANSITIONS``. As soon as the
plan is known, the round asks for everything it will need: as a reducer, the holders'
contributions; as a next holder, fused ranges from the reducers and untouched ones from
their homes. Those requests wait at the other side until the data is ready, so nothing
here polls. What remains is bookkeeping of two kinds:

* A ``Reduction`` is a set of ranges that this peer averages, as their reducer or, asked
  to, as the backup of a silent one. It closes when every contribution has arrived or
  was given up.
* A *need* is a stream that this peer must receive before it can seal. If its source
  fails, the need moves to the backups, and after them counts as stale.

Everything given up has a reason, which the round's report names.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from p2pfusion.errors import LocalProtocolError
from p2pfusion.protocol.events import (
    AddOwn,
    CloseReduction,
    Effect,
    OpenReduction,
    StreamKey,
)
from p2pfusion.protocol.lateness import Pace
from p2pfusion.protocol.messages import Offer
from p2pfusion.protocol.transfer import Pull, Pulls
from p2pfusion.split.plan import ExchangePlan, Hop
from p2pfusion.split.segment import Split


class Phase(StrEnum):
    """Where a round stands."""

    PLAN = "plan"
    TRAIN = "train"
    OFFER = "offer"
    EXCHANGE = "exchange"
    SEAL = "seal"


class Signal(StrEnum):
    """What moves a round on."""

    TRAIN = "train"
    CATCH_UP = "catch-up"
    TRAINED = "trained"
    FAILED = "failed"
    ANNOUNCED = "announced"
    COMPLETE = "complete"


TRANSITIONS: dict[Phase, dict[Signal, Phase]] = {
    Phase.PLAN: {Signal.TRAIN: Phase.TRAIN, Signal.CATCH_UP: Phase.EXCHANGE},
    Phase.TRAIN: {Signal.TRAINED: Phase.OFFER, Signal.FAILED: Phase.EXCHANGE},
    Phase.OFFER: {Signal.ANNOUNCED: Phase.EXCHANGE},
    Phase.EXCHANGE: {Signal.COMPLETE: Phase.SEAL},
    Phase.SEAL: {},
}

ROUND_HOPS = frozenset({Hop.CONTRIBUTION, Hop.FUSED, Hop.HOME, Hop.CATCH_UP})
"""The hops that a round waits for; tables and exports only name one."""

GRACE_S = 2.0
"""A reducer may need so long after its own deadline to divide and to begin to send."""


@dataclass
class Reduction:
    """Ranges that this peer averages; ``pending`` are the sources still awaited."""

    instead_of: str
    pending: set[str]
    own_pending: bool
    closed: bool = False


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
    offered_at: float | None = None
    offers: dict[str, tuple[float, Offer]] = field(default_factory=dict)
    expected: set[str] = field(default_factory=set)
    lost: set[str] = field(default_factory=set)
    missing: dict[str, str] = field(default_factory=dict)
    needs: set[StreamKey] = field(default_factory=set)
    reductions: dict[str, Reduction] = field(default_factory=dict)
    required: set[str] = field(default_factory=lambda: {""})
    stale_ranges: int = 0

    # --- Moving on -------------------------------------------------------------------

    @property
    def number(self) -> int:
        """The round's number, from 0."""
        return self.plan.round_index

    def _signal(self, signal: Signal) -> None:
        following = TRANSITIONS[self.phase].get(signal)
        if following is None:
            raise LocalProtocolError(
                f"round {self.number} cannot take {signal} in phase {self.phase}"
            )
        self.phase = following

    def begin(self, online: set[str], now: float) -> list[Effect]:
        """Asks for everything that this peer will need in this round."""
        self._signal(Signal.TRAIN if self.trains else Signal.CATCH_UP)
        self.expected = set(self.splits) - {self.me}
        self.lost = self.expected - online
        effects = self.reduce("", online, now)
        hops = [Hop.FUSED, Hop.CATCH_UP if self.catches_up else Hop.HOME]
        for hop in hops:
            for source in self.plan.sources(hop, self.me):
                effects += self._need(self._key(hop, source), online, now)
        return effects

    def trained(self, offer: Offer, now: float) -> list[Effect]:
        """The own values are ready; ``samples`` 0 says that there are none."""
        self._signal(Signal.TRAINED)
        self.offer, self.offered_at = offer, now
        for at, seen in self.offers.values():
            self._note_lateness(at, seen)
        effects: list[Effect] = []
        for reduction in self.reductions.values():
            effects += self._add_own(reduction)
        self._signal(Signal.ANNOUNCED)
        return effects

    def failed(self, reason: str, now: float) -> list[Effect]:
        """The own training gave nothing: go on as one who only receives."""
        self._signal(Signal.FAILED)
        self.missing[self.me] = reason
        self.offered_at = now
        effects: list[Effect] = []
        for reduction in self.reductions.values():
            reduction.own_pending = False
            effects += self._close_if_done(reduction)
        return effects

    def complete(self) -> bool:
        """Whether the round may be sealed now; if so, it is."""
        closed = all(self.reductions[name].closed for name in self.required)
        if self.phase is not Phase.EXCHANGE or self.needs or not closed:
            return False
        self._signal(Signal.COMPLETE)
        return True

    # --- What others say and send ----------------------------------------------------

    def offered(self, peer: str, offer: Offer, now: float) -> None:
        """A peer announced its values; one that does not train here has none."""
        if peer in self.offers or peer not in self.splits:
            return
        self.offers[peer] = (now, offer)
        if self.offered_at is not None:
            self._note_lateness(now, offer)

    def _note_lateness(self, at: float, offer: Offer) -> None:
        if self.offered_at is not None and offer.samples:
            self.pace.lateness.note(at - self.offered_at)

    def arrived(self, stream: StreamKey) -> list[Effect]:
        """A stream of this round is complete."""
        if stream.hop != Hop.CONTRIBUTION:
            self.needs.discard(stream)
            return []
        reduction = self.reductions[stream.instead_of]
        reduction.pending.discard(stream.source)
        return self._close_if_done(reduction)

    def gave_up(
        self, pull: Pull, reason: str, online: set[str], now: float
    ) -> list[Effect]:
        """A stream will not come (any more): go on without it, or ask somebody else."""
        effects = self.pulls.cancel(pull)
        stream = pull.stream
        if stream.hop == Hop.CONTRIBUTION:
            self.missing.setdefault(stream.source, reason)
            reduction = self.reductions[stream.instead_of]
            reduction.pending.discard(stream.source)
            return effects + self._close_if_done(reduction)
        self.needs.discard(stream)
        return effects + self._elsewhere(stream, online, now)

    def lose(self, peer: str, reason: str) -> None:
        """A peer is gone: what it has not offered by now it will not offer."""
        if peer in self.expected:
            self.lost.add(peer)
            if peer not in self.offers:
                self.missing.setdefault(peer, reason)

    def contributors(self) -> set[str]:
        """Whose values went into this round, as far as this peer knows."""
        offered = {peer for peer, (_, offer) in self.offers.items() if offer.samples}
        if self.offer is not None:
            offered.add(self.me)
        return offered - set(self.missing)

    # --- Waiting ---------------------------------------------------------------------

    def tick(self, online: set[str], now: float) -> list[Effect]:
        """Gives up what is overdue."""
        effects: list[Effect] = []
        base = self.base()
        for pull in self._awaited():
            due = self.due(pull, base)
            if due is not None and now >= due:
                effects += self.gave_up(pull, self._why(pull), online, now)
        return effects

    def _awaited(self) -> list[Pull]:
        pulls = self.pulls.of_round(self.number)
        return [pull for pull in pulls if pull.stream.hop in ROUND_HOPS]

    def deadline(self) -> float | None:
        """The earliest instant at which something becomes overdue."""
        base = self.base()
        dues = [self.due(pull, base) for pull in self._awaited()]
        return min((due for due in dues if due is not None), default=None)

    def base(self) -> float | None:
        """From when on the wait counts: we have offered, and so has half of the others.

        A peer that was held up in the previous round is thus not given up by one that
        was not. One that only catches up goes by the others' pace alone.
        """
        others = self.expected - self.lost
        times = sorted(at for peer, (at, _) in self.offers.items() if peer in others)
        half = (len(others) + 1) // 2
        own = [] if self.offered_at is None else [self.offered_at]
        if half > len(times) or (self.trains and not own):
            return None
        return max([*times[half - 1 : half], *own], default=self.started_at)

    def due(self, pull: Pull, base: float | None) -> float | None:
        """When a stream of this round is given up; None while nothing says when."""
        if base is None:
            if self.offered_at is None:
                return None
            return self.offered_at + self.pace.lateness.maximum_s
        stream, lateness = pull.stream, self.pace.lateness
        if pull.opened:
            return base + lateness.maximum_s + GRACE_S
        wait = lateness.wait_s()
        offered = self.offers.get(stream.source)
        if stream.hop == Hop.CONTRIBUTION:
            return base + (lateness.maximum_s if offered else wait)
        # A reducer waits for the others, counted from its own offer, before it divides.
        start = base if offered is None else max(base, offered[0])
        turns = 2 if stream.instead_of else 1
        return start + turns * (wait + GRACE_S)

    def _why(self, pull: Pull) -> str:
        if pull.opened:
            return "transfer not finished in time"
        if pull.stream.source in self.offers:
            return "offered, but sent nothing"
        return f"slow: no offer within {self.pace.lateness.wait_s():.1f} s"

    def waiting_for(self) -> dict[str, str]:
        """Whom this round waits for, and for what; for people."""
        waits: dict[str, str] = {}
        if self.phase is Phase.TRAIN:
            waits[self.me] = "training"
        for reduction in self.reductions.values():
            for peer in sorted(reduction.pending):
                seen = peer in self.offers
                waits[peer] = "its contribution" if seen else "its offer"
        for need in sorted(self.needs, key=lambda key: (key.source, key.hop)):
            what = "fused ranges" if need.hop == Hop.FUSED else "ranges at home there"
            waits.setdefault(need.source, what)
        return waits

    # --- Needs and reductions --------------------------------------------------------

    def _key(self, hop: Hop, source: str, instead_of: str = "") -> StreamKey:
        return StreamKey(hop.value, self.number, source, self.me, instead_of)

    def stream_bytes(self, stream: StreamKey) -> int:
        """Length of a stream on the wire, from the plan."""
        elements = self.plan.stream_elements(
            Hop(stream.hop),
            source=stream.source,
            target=stream.target,
            instead_of=stream.instead_of or None,
        )
        return elements * self.pace.bytes_per_element

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
        segments = self.plan.stream(
            Hop(stream.hop),
            source=stream.source,
            target=self.me,
            instead_of=stream.instead_of or None,
        )
        self.stale_ranges += len(segments)

    def reduce(self, instead_of: str, online: set[str], now: float) -> list[Effect]:
        """Begins to average own ranges, or a silent reducer's as its backup; once."""
        if instead_of in self.reductions:
            return []
        plan, me = self.plan, self.me
        failed = instead_of or None
        sources = set(plan.sources(Hop.CONTRIBUTION, me, instead_of=failed))
        own = self.trains and plan.own_ranges(me, instead_of=failed).size > 0
        # Own values that will not come any more are not waited for.
        own = own and (self.offer is not None or self.phase is Phase.TRAIN)
        reduction = Reduction(instead_of, sources & online, own)
        self.reductions[instead_of] = reduction
        effects: list[Effect] = [OpenReduction(self.number, instead_of)]
        for source in sorted(reduction.pending):
            key = self._key(Hop.CONTRIBUTION, source, instead_of)
            effects += self._pull(key, now)
        for source in sorted(sources - online):
            self.missing.setdefault(source, "silent")
        if self.offered_at is not None:
            effects += self._add_own(reduction)
        return effects + self._close_if_done(reduction)

    def _add_own(self, reduction: Reduction) -> list[Effect]:
        if not reduction.own_pending:
            return []
        reduction.own_pending = False
        effects: list[Effect] = []
        if self.offer is not None:
            weight = self.pace.weight(self.offer.samples)
            effects.append(AddOwn(self.number, reduction.instead_of, weight))
        return effects + self._close_if_done(reduction)

    def _close_if_done(self, reduction: Reduction) -> list[Effect]:
        if reduction.closed or reduction.pending or reduction.own_pending:
            return []
        reduction.closed = True
        return [CloseReduction(self.number, reduction.instead_of)]

    # --- Serving ---------------------------------------------------------------------

    def readiness(self, stream: StreamKey) -> str:
        """``ready``, ``wait``, or the reason of a refusal, for a stream asked of us."""
        if stream.hop == Hop.CONTRIBUTION:
            if self.offer is not None:
                return "ready"
            return "wait" if self.phase is Phase.TRAIN else "not-training"
        if stream.hop == Hop.FUSED:
            reduction = self.reductions.get(stream.instead_of)
            return "ready" if reduction is not None and reduction.closed else "wait"
        return "ready"
