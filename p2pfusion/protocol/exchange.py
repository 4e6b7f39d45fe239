"""All streams of one peer, in whichever round: asked for, served, failed.

The rounds say what they need and what is ready; this is where requests of others meet
that readiness, where arriving bytes find their pull, and where the loss of a peer turns
into decisions of the rounds that waited for it. Two more kinds of
streams belong to no round: the table of homes, which a newcomer pulls before it can
plan, and exports.
"""

from __future__ import annotations

from collections.abc import Iterable

from p2pfusion.errors import RemoteProtocolError
from p2pfusion.protocol.closing import Steps
from p2pfusion.protocol.events import (
    CloseSink,
    Effect,
    Forget,
    FoundLacking,
    Send,
    StreamKey,
)
from p2pfusion.protocol.exclusion import leave_out
from p2pfusion.protocol.exports import Exports
from p2pfusion.protocol.fetching import Fetching
from p2pfusion.protocol.gossip import Gossip
from p2pfusion.protocol.messages import (
    CHECKPOINT,
    TABLE,
    Chunk,
    Offer,
    Refusal,
    Request,
    StreamStart,
)
from p2pfusion.protocol.offering import Offering
from p2pfusion.protocol.pause import Pause
from p2pfusion.protocol.promises import Promises
from p2pfusion.protocol.restoring import Restoring
from p2pfusion.protocol.round import Round
from p2pfusion.protocol.table_pull import TablePull
from p2pfusion.protocol.timing import NEVER_S
from p2pfusion.protocol.transfer import Pull, Pulls, Serve, Serves
from p2pfusion.protocol.upkeep import Upkeep
from p2pfusion.split.homes import Homes
from p2pfusion.split.hops import BESIDE, CONTRIBUTION, FUSED, RESTORE
from p2pfusion.split.keeping import Cells
from p2pfusion.split.restoring import Said

REFUSAL_TEXTS = {
    "gone": "is a round ahead",
    "plan": "plans with another roster",
    "not-training": "does not train in this round",
    "busy": "is busy",
    "lacking": "does not have it either",
}


class Exchange:
    """Pulls, serves, and the rounds that they belong to."""

    def __init__(self, gossip: Gossip) -> None:
        self.gossip = gossip
        # What still travels to an earlier incarnation must not meet a new pull.
        self.pulls = Pulls((gossip.record.incarnation & 0x3FFFFFFF) << 32 | 1)
        self.serves = Serves()
        self.offering = Offering(gossip, self.serves)
        self.rounds: dict[int, Round] = {}
        self.round: Round | None = None
        """The round that this peer is in."""
        self.changed: set[int] = set()
        """The rounds in which something may have become ready for those who wait."""
        self.homes: dict[int, Homes] = {}
        self._early: dict[str, tuple[float, Offer]] = {}
        self.exports = Exports(self.pulls)
        self.restoring = Restoring(self.pulls)
        self.upkeep = Upkeep(gossip, self.restoring)
        self.pause = Pause(gossip)
        self.steps = Steps()
        self.promises = Promises(gossip.me)
        self.fetching = Fetching(gossip, self.pulls)
        self.table = TablePull(self.pulls, gossip.me)

    def online(self, now: float) -> set[str]:
        """Who can be asked for something, this peer included.

        Those on whose silence nobody has acted yet are among them.
        """
        pending = self.gossip.quarantine.among(self.pause.pending)
        return {*self.gossip.giving(now), *pending, self.gossip.me}

    def tick(self, now: float) -> list[Effect]:
        """Gives up and repeats what is due; while rounds stand still, only that."""
        if self.pause.is_held:
            return self.pulls.retry(now)
        effects, online = list[Effect](), self.online(now)
        for round_ in list(self.rounds.values()):
            if not round_.trains:
                away = self.gossip.claims.far_from(round_.number)
                round_.attendance.pass_over(away & round_.attendance.expected)
            effects += round_.tick(online, now)
        for again in self.pulls.retry(now):
            if isinstance(again, Send):
                self.gossip.detector.doubt(again.peer, now)
            effects.append(again)
        return effects

    def deadline(self, before: float = NEVER_S) -> float:
        """When ``tick`` may have something to do; ``before`` if not earlier."""
        pulls = self.pulls
        if not pulls.by_round:
            return before
        soonest = pulls.retry_at if pulls.retry_at < before else before
        if self.pause.is_held:
            return soonest
        for number in pulls.by_round:
            round_ = self.rounds.get(number)
            if round_ is not None and round_.attendance.patient_until < soonest:
                soonest = min(soonest, round_.deadline())
        return soonest

    @property
    def is_disturbed(self) -> bool:
        """Whether ``act_on_silence`` is due although nobody is silent."""
        pause, round_ = self.pause, self.round
        if pause.is_held or pause.settled_at != NEVER_S:
            return True
        return round_ is not None and round_.is_over

    def act_on_silence(self, silent: Iterable[str], now: float) -> list[Effect]:
        """Goes on without those that have been silent for a moment, or stands still."""
        effects: list[Effect] = []
        for peer in silent:
            effects += self.lose(peer, self.gossip.why_absent(peer, now), now)
        for round_ in self.rounds.values():
            effects += round_.hold(self.pause.is_held, now)
        return effects

    def woke(self, slept_s: float, now: float) -> None:
        """This process did not run for so long: rounds stand still until it has heard
        where the others are, and that time counts for nobody's deadline."""
        self.pause.woke(now)
        self.fetching.slept(slept_s)
        for round_ in self.rounds.values():
            round_.attendance.slept(slept_s)
            round_.hold(True, now)  # at once: the next event may be a refusal

    # --- Rounds and offers -----------------------------------------------------------

    def enter(self, round_: Round, homes: Homes) -> None:
        """A round begins; some of the others may have been faster."""
        self.rounds[round_.number] = round_
        self.round = round_
        round_.changed = self.changed
        self.changed.add(round_.number)
        self.pause.round_index = round_.number
        attendance = round_.attendance
        attendance.expected = self.offering.expected(round_.plan, attendance.expected)
        leave_out(self.gossip.quarantine, round_)
        self.homes[round_.number] = homes
        for peer, (at, offer) in self._early.items():
            if offer.round_index == round_.number:
                attendance.offered(peer, offer, at)

    def forget(self, before: int, now: float) -> list[Effect]:
        """Rounds before the previous one are served, and waited for, no more."""
        effects = self.serves.drop_where(before=before) + self.restoring.end()
        self.promises.forget(before)
        for number in [n for n in self.rounds if n < before]:
            del self.rounds[number], self.homes[number]
            for pull in self.pulls.of_round(number):
                if pull.stream.hop != TABLE:
                    effects += self._fail(pull, "overtaken", now)
            effects.append(Forget(number))
        return effects

    def offered(self, peer: str, offer: Offer, now: float) -> Round | None:
        """A peer announced its values: to its round, or kept until that begins."""
        round_ = self.rounds.get(offer.round_index)
        if round_ is not None:
            round_.attendance.offered(peer, offer, now)
        elif offer.round_index > max(self.rounds, default=-1):
            self._early[peer] = (now, offer)
        return round_

    # --- Serving ---------------------------------------------------------------------

    def asked(self, peer: str, request: Request, now: float) -> list[Effect]:
        """Another peer wants a stream: now, or when it is ready; or no more of it."""
        if request.limit == request.offset:
            return self.serves.withdrawn(peer, request)
        me = self.gossip.me
        hop, number, more = request.hop, request.round_index, request.instead_of
        stream = StreamKey(hop, number, me, peer, more, request.asked, request.least)
        serve = self.serves.asked(peer, request, stream)
        if isinstance(serve, Refusal):
            return [Send(peer, serve)]
        told = self.offering.asked(peer, request.round_index)
        return told + self._serve(serve, now)

    def comes_in(self, source: str, round_index: int, now: float) -> list[Effect]:
        """Asks for the table of a round. If it is to be the first here, those before it
        will not begin: whoever waits for something of them is told so."""
        effects = self.table.begin(source, round_index, now)
        for serve in [serve for serve in self.serves if serve.total_bytes is None]:
            effects += self._serve(serve, now)
        return effects

    def serve_waiting(self, now: float) -> list[Effect]:
        """Whoever waits for data that is ready by now gets it."""
        effects: list[Effect] = []
        changed = sorted(self.changed & self.rounds.keys())
        self.changed.clear()
        for number in changed:
            for serve in self.serves.waiting(number):
                effects += self._serve(serve, now)
        return effects

    def _serve(self, serve: Serve, now: float) -> list[Effect]:
        stream = serve.stream
        if stream.hop == CHECKPOINT:
            reason = self.fetching.why_not(serve.request)
            if reason:
                return self._refuse(serve, reason)
            return self._begin(serve, self.fetching.held_bytes, None)
        round_ = self.rounds.get(stream.round_index)
        if round_ is None:
            last = max(self.rounds) if self.rounds else self.table.round_index - 1
            return [] if stream.round_index > last else self._refuse(serve, "gone")
        if stream.hop == TABLE:
            table = self.homes[stream.round_index].to_bytes()
            return self._begin(serve, len(table), None)
        if serve.request.digest != round_.plan.digest:
            facts = self.gossip.spread.compare(serve.peer, now)
            return [*self._refuse(serve, "plan"), *facts]
        return self._serve_planned(serve, round_, now)

    def _serve_planned(self, serve: Serve, round_: Round, now: float) -> list[Effect]:
        stream = serve.stream
        effects: list[Effect] = []
        if serve.planned_bytes is None:
            serve.planned_bytes = round_.stream_bytes(stream)
        size = serve.planned_bytes
        if size == 0:
            return self._refuse(serve, "plan")
        if stream.hop == FUSED and stream.instead_of:
            effects += round_.reduce(stream.instead_of, self.online(now), now)
        readiness = round_.readiness(stream)
        if readiness == "wait":
            return effects
        if readiness != "ready":
            return effects + self._refuse(serve, readiness)
        offer = round_.offer if stream.hop == CONTRIBUTION else None
        return effects + self._begin(serve, size, offer)

    def _begin(self, serve: Serve, size: int, offer: Offer | None) -> list[Effect]:
        if serve.offset > size:
            return self._refuse(serve, "plan")
        if offer is None:
            return self.serves.begin(serve, size, 0)
        return self.serves.begin(serve, size, offer.samples, offer.base_round)

    def _refuse(self, serve: Serve, reason: str) -> list[Effect]:
        refusal = Send(serve.peer, Refusal(serve.request.pull, reason))
        return [refusal, *self.serves.drop(serve)]

    def owes(self) -> bool:
        """Whether somebody asked for a part of the present round and has not got it."""
        last = max(self.rounds, default=-1)
        return any(
            serve.offset != serve.total_bytes
            for serve in self.serves
            if serve.stream.round_index <= last
        )

    # --- Receiving -------------------------------------------------------------------

    def moves(self, peer: str, now: float) -> None:
        """Bytes come in a peer's name, of a part that is not whole."""
        self.pulls.sign(peer, now)
        self.gossip.detector.moves(peer, now)

    def data(self, peer: str, message: StreamStart | Chunk, now: float) -> list[Effect]:
        """A part of a stream arrived."""
        self.pulls.sign(peer, now)
        pull = self.pulls.find(message.pull, peer)
        if pull is None:
            return []
        if isinstance(message, StreamStart):
            weight = self._weight(pull, message)
            effects = self.pulls.started(pull, message, weight, now)
            incarnation = self.gossip.facts.records[peer].incarnation
            self.promises.begun(pull.stream, message, incarnation)
        else:
            effects = self.pulls.arrived(pull, message, now)
        if pull.stream.hop == TABLE:
            return self.table.took(effects)
        if pull.stream.hop == CHECKPOINT:
            return self.fetching.took(pull, effects, now)
        if effects and type(effects[-1]) is CloseSink:  # the last that is said of one
            effects += self._arrived(pull, now)
        return effects

    def _weight(self, pull: Pull, start: StreamStart) -> float:
        round_ = self.rounds.get(pull.stream.round_index)
        if pull.stream.hop != CONTRIBUTION or round_ is None:
            return 1.0
        if start.samples < 1:
            text = "a contribution made of no samples"
            raise RemoteProtocolError(text, offence="stream")
        late = max(0, round_.number - start.base_round)
        if late > self.max_staleness:
            text = f"a contribution that is {late} rounds too late"
            raise RemoteProtocolError(text, offence="stream")
        return round_.weight(pull.stream.source, start.samples, late)

    @property
    def max_staleness(self) -> int:
        """How many rounds too late an update still counts."""
        manifest = self.gossip.manifest
        return 0 if manifest is None else manifest.max_staleness

    def _arrived(self, pull: Pull, now: float) -> list[Effect]:
        stream, absent = pull.stream, pull.absent_count
        if stream.hop in BESIDE:
            return self._ended_beside(pull, now)
        online = self.online(now) if absent else set()
        return self.rounds[stream.round_index].arrived(stream, absent, online, now)

    def refused(self, peer: str, refusal: Refusal, now: float) -> list[Effect]:
        """The other side will not send a stream."""
        pull = self.pulls.find(refusal.pull, peer)
        if pull is None:
            return []
        round_ = self.rounds.get(pull.stream.round_index)
        if refusal.reason == "plan" and round_ is not None:
            round_.attendance.plans_otherwise(peer)
        return self._fail(pull, REFUSAL_TEXTS[refusal.reason], now)

    def lose(self, peer: str, reason: str, now: float) -> list[Effect]:
        """A peer is gone, or new behind the same name: nothing pending will come."""
        effects = self.serves.drop_where(peer=peer)
        self.promises.lose(peer)
        for round_ in self.rounds.values():
            round_.lose(peer, reason)
        for pull in self.pulls.of_source(peer):
            effects += self._fail(pull, reason, now)
        return effects

    def _fail(self, pull: Pull, reason: str, now: float) -> list[Effect]:
        stream = pull.stream
        if stream.hop == TABLE:
            self.table.cancel()
            return []
        if stream.hop == CHECKPOINT:
            self.fetching.failed(pull, now)
            return []
        if stream.hop in BESIDE:
            pull.absent_count = max(1, pull.absent_count)
            return self.pulls.cancel(pull) + self._ended_beside(pull, now)
        round_ = self.rounds.get(stream.round_index)
        if round_ is None:
            return self.pulls.cancel(pull)
        return round_.gave_up(pull, reason, self.online(now), now)

    # --- Beside the rounds -----------------------------------------------------------

    def found_lacking(self, found: FoundLacking, now: float) -> list[Effect]:
        """Something is not here that is said to be: others are asked for it."""
        round_, before = self.round, self.rounds.get(found.round_index - 1)
        if round_ is None or round_.number != found.round_index:
            return []
        said = Said.by(round_.plan).without(self.gossip.quarantine.peers)
        if self.upkeep.is_asked:
            if not self.upkeep.found(found, now):
                return []
            said = self._said(round_)
        online = self.online(now)
        return self.restoring.begin(round_, before, found, said, online=online, now=now)

    def _said(self, round_: Round) -> Said:
        """Who has what; those in quarantine have nothing."""
        return self.upkeep.said(round_.plan).without(self.gossip.quarantine.peers)

    def export(self, number: int, lacks: Cells, now: float) -> list[Effect]:
        """Pulls from every home what lives there."""
        round_, online = self.round, self.online(now)
        said = None if round_ is None else self._said(round_)
        return self.exports.begin(
            number, round_, said, lacks=lacks, online=online, now=now
        )

    def _ended_beside(self, pull: Pull, now: float) -> list[Effect]:
        round_ = self.rounds.get(pull.stream.round_index)
        online = self.online(now)
        if pull.stream.hop == RESTORE:
            return self.restoring.ended(pull, round_, online=online, now=now)
        said = None if round_ is None else self._said(round_)
        return self.exports.ended(pull, round_, said, online=online, now=now)
