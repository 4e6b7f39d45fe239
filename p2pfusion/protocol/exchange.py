"""All streams of one peer, in whichever round: asked for, served, failed.

The rounds say what they need and what is ready; this is where requests of others meet
that readiness, where arriving bytes find their pull, and where the loss of a peer turns
into decisions of the rounds that waited for it. Two more kinds of
streams belong to no round: the table of homes, which a newcomer pulls before it can
plan, and exports.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from p2pfusion.errors import RemoteProtocolError
from p2pfusion.limits import MAX_TABLE_BYTES
from p2pfusion.protocol.events import (
    Absorb,
    Assembled,
    CloseSink,
    Effect,
    Forget,
    OpenSink,
    Send,
    StreamKey,
)
from p2pfusion.protocol.gossip import Gossip
from p2pfusion.protocol.messages import (
    TABLE,
    Chunk,
    Credit,
    Offer,
    Refusal,
    Request,
    StreamStart,
)
from p2pfusion.protocol.round import Round
from p2pfusion.protocol.transfer import Pull, Pulls, Serve, Serves
from p2pfusion.split.homes import Homes
from p2pfusion.split.plan import ExchangePlan, Hop
from p2pfusion.split.segment import Segment

NO_DIGEST = bytes(16)
"""A table of homes is asked for before its plan is known."""

REFUSAL_TEXTS = {
    "gone": "is a round ahead",
    "plan": "plans with another roster",
    "not-training": "does not train in this round",
    "busy": "is busy",
}


@dataclass
class Export:
    """The whole model on its way here: streams to come, homes that were silent."""

    wanted: set[StreamKey] = field(default_factory=set)
    missing: set[str] = field(default_factory=set)


class Exchange:
    """Pulls, serves, and the rounds that they belong to."""

    def __init__(self, gossip: Gossip) -> None:
        self.gossip = gossip
        # What still travels to an earlier incarnation must not meet a new pull.
        self.pulls = Pulls((gossip.record.incarnation & 0x3FFFFFFF) << 32 | 1)
        self.serves = Serves()
        self.rounds: dict[int, Round] = {}
        self.homes: dict[int, Homes] = {}
        self._early: dict[str, tuple[float, Offer]] = {}
        self._exports: dict[int, Export] = {}
        self._table = bytearray()
        self._complete_table: bytes | None = None

    @property
    def round(self) -> Round | None:
        """The round that this peer is in."""
        return self.rounds[max(self.rounds)] if self.rounds else None

    def online(self, now: float) -> set[str]:
        """Who can be asked for something, this peer included."""
        return {*self.gossip.detector.worth_asking(now), self.gossip.me}

    def tick(self, now: float) -> list[Effect]:
        """Gives up and repeats what is due."""
        effects: list[Effect] = []
        online = self.online(now)
        for round_ in list(self.rounds.values()):
            effects += round_.tick(online, now)
        return effects + self.pulls.retry(now)

    def deadline(self) -> float | None:
        """When ``tick`` has something to do."""
        instants = [round_.deadline() for round_ in self.rounds.values()]
        instants.append(self.pulls.deadline())
        return min((i for i in instants if i is not None), default=None)

    # --- Rounds and offers -----------------------------------------------------------

    def enter(self, round_: Round, homes: Homes) -> None:
        """A round begins; some of the others may have been faster."""
        self.rounds[round_.number] = round_
        self.homes[round_.number] = homes
        for peer, (at, offer) in self._early.items():
            if offer.round_index == round_.number:
                round_.offered(peer, offer, at)

    def forget(self, before: int, now: float) -> list[Effect]:
        """Rounds before the previous one are served, and waited for, no more."""
        effects: list[Effect] = self.serves.drop_where(before=before)
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
            round_.offered(peer, offer, now)
        elif offer.round_index > max(self.rounds, default=-1):
            self._early[peer] = (now, offer)
        return round_

    # --- Serving ---------------------------------------------------------------------

    def asked(self, peer: str, request: Request, now: float) -> list[Effect]:
        """Another peer wants a stream: now, or when it is ready."""
        me = self.gossip.me
        stream = StreamKey(
            request.hop, request.round_index, me, peer, request.instead_of
        )
        serve = self.serves.asked(peer, request, stream)
        if isinstance(serve, Refusal):
            return [Send(peer, serve)]
        return self._serve(serve, now)

    def serve_waiting(self, now: float) -> list[Effect]:
        """Whoever waits for data that is ready by now gets it."""
        effects: list[Effect] = []
        for number in self.rounds:
            for serve in self.serves.waiting(number):
                effects += self._serve(serve, now)
        return effects

    def _serve(self, serve: Serve, now: float) -> list[Effect]:
        stream = serve.stream
        if stream.round_index > max(self.rounds, default=-1):
            return []
        round_ = self.rounds.get(stream.round_index)
        if round_ is None:
            return self._refuse(serve, "gone")
        if stream.hop == TABLE:
            table = self.homes[stream.round_index].to_bytes()
            return self._begin(serve, len(table), 0)
        if serve.request.digest != round_.plan.digest:
            facts = self.gossip.send_facts(serve.peer, now)
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
        if stream.hop == Hop.FUSED and stream.instead_of:
            effects += round_.reduce(stream.instead_of, self.online(now), now)
        readiness = round_.readiness(stream)
        if readiness == "wait":
            return effects
        if readiness != "ready":
            return effects + self._refuse(serve, readiness)
        samples = round_.offer.samples if round_.offer else 0
        return effects + self._begin(serve, size, samples)

    def _begin(self, serve: Serve, size: int, samples: int) -> list[Effect]:
        if serve.offset > size:
            return self._refuse(serve, "plan")
        return self.serves.begin(serve, size, samples)

    def _refuse(self, serve: Serve, reason: str) -> list[Effect]:
        refusal = Send(serve.peer, Refusal(serve.request.pull, reason))
        return [refusal, *self.serves.drop(serve)]

    def credited(self, peer: str, credit: Credit) -> list[Effect]:
        """A receiver has room for more."""
        return self.serves.credit(peer, credit)

    # --- Receiving -------------------------------------------------------------------

    def data(self, peer: str, message: StreamStart | Chunk, now: float) -> list[Effect]:
        """A part of a stream arrived."""
        pull = self.pulls.find(message.pull, peer)
        if pull is None:
            return []
        if isinstance(message, StreamStart):
            effects = self.pulls.started(
                pull, message, self._weight(pull, message), now
            )
        else:
            effects = self.pulls.arrived(pull, message, now)
        if pull.stream.hop == TABLE:
            return self._table_part(effects)
        if any(isinstance(effect, CloseSink) for effect in effects):
            effects += self._arrived(pull.stream)
        return effects

    def _weight(self, pull: Pull, start: StreamStart) -> float:
        round_ = self.rounds.get(pull.stream.round_index)
        if pull.stream.hop != Hop.CONTRIBUTION or round_ is None:
            return 1.0
        if start.samples < 1:
            raise RemoteProtocolError("a contribution made of no samples")
        return round_.pace.weight(start.samples)

    def _arrived(self, stream: StreamKey) -> list[Effect]:
        if stream.hop == Hop.EXPORT:
            for export in self._exports.values():
                export.wanted.discard(stream)
            return self._finished_exports()
        return self.rounds[stream.round_index].arrived(stream)

    def refused(self, peer: str, refusal: Refusal, now: float) -> list[Effect]:
        """The other side will not send a stream."""
        pull = self.pulls.find(refusal.pull, peer)
        if pull is None:
            return []
        return self._fail(pull, REFUSAL_TEXTS[refusal.reason], now)

    def lose(self, peer: str, reason: str, now: float) -> list[Effect]:
        """A peer is gone, or new behind the same name: nothing pending will come."""
        effects = self.serves.drop_where(peer=peer)
        for round_ in self.rounds.values():
            round_.lose(peer, reason)
        for pull in self.pulls.of_source(peer):
            effects += self._fail(pull, reason, now)
        return effects

    def _fail(self, pull: Pull, reason: str, now: float) -> list[Effect]:
        stream = pull.stream
        if stream.hop == TABLE:
            self.cancel_table()
            return []
        if stream.hop == Hop.EXPORT:
            return self._export_failed(pull, now)
        round_ = self.rounds.get(stream.round_index)
        if round_ is None:
            return self.pulls.cancel(pull)
        return round_.gave_up(pull, reason, self.online(now), now)

    @property
    def export_left_bytes(self) -> int:
        """What is still to come of the exports that are under way."""
        pulls = self.pulls.of_hop(Hop.EXPORT)
        return sum((pull.total_bytes or 0) - pull.received for pull in pulls)

    # --- The table of homes ----------------------------------------------------------

    def pull_table(self, source: str, round_index: int, now: float) -> list[Effect]:
        """Asks a peer for its table as of the beginning of a round."""
        self.cancel_table()
        stream = StreamKey(TABLE, round_index, source, self.gossip.me)
        return self.pulls.open(stream, NO_DIGEST, None, now)

    def cancel_table(self) -> None:
        """Drops the table that is being pulled, if any."""
        for pull in self.pulls.of_hop(TABLE):
            self.pulls.cancel(pull)
        self._table.clear()
        self._complete_table = None

    @property
    def table_source(self) -> str | None:
        """The peer that was asked for its table and has not sent it yet."""
        return next((p.stream.source for p in self.pulls.of_hop(TABLE)), None)

    @property
    def table_progress(self) -> int | None:
        """Bytes here of the table that was asked for; None if none is awaited."""
        return next((p.received for p in self.pulls.of_hop(TABLE)), None)

    def _table_part(self, effects: list[Effect]) -> list[Effect]:
        """Takes the table's bytes out of the effects: they concern nobody else."""
        rest: list[Effect] = []
        for effect in effects:
            if isinstance(effect, OpenSink):
                if effect.total_bytes > MAX_TABLE_BYTES:
                    self.cancel_table()
                    raise RemoteProtocolError("a table of homes is too long")
            elif isinstance(effect, Absorb):
                self._table += effect.payload
            elif isinstance(effect, CloseSink):
                self._complete_table = bytes(self._table)
            else:
                rest.append(effect)
        return rest

    def take_table(self) -> bytes | None:
        """The table, once it is complete, once."""
        table, self._complete_table = self._complete_table, None
        return table

    # --- Exports ---------------------------------------------------------------------

    def export(self, number: int, now: float) -> list[Effect]:
        """Pulls from every home what lives there."""
        round_, me = self.round, self.gossip.me
        export = self._exports[number] = Export()
        if round_ is None:
            return self._finished_exports()
        plan, online = round_.plan, self.online(now)
        if me not in plan.peers:
            # Not a member yet: the plan has no streams for it.
            export.missing.update(plan.peers)
        effects: list[Effect] = []
        for source in plan.sources(Hop.EXPORT, me):
            stream = StreamKey(Hop.EXPORT.value, round_.number, source, me)
            effects += self._want(export, stream, round_, online, now)
        return effects + self._finished_exports()

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
            return self.pulls.open(stream, round_.plan.digest, size, now)
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

    def _export_failed(self, pull: Pull, now: float) -> list[Effect]:
        """A stream of an export will not come from where it was asked for."""
        stream = pull.stream
        effects = self.pulls.cancel(pull)
        round_ = self.rounds.get(stream.round_index)
        online = self.online(now) - {stream.source}
        for export in list(self._exports.values()):
            if stream not in export.wanted:
                continue
            export.wanted.discard(stream)
            if round_ is None:
                export.missing.add(stream.instead_of or stream.source)
            else:
                effects += self._want(export, stream, round_, online, now)
        return effects + self._finished_exports()

    def _finished_exports(self) -> list[Effect]:
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
