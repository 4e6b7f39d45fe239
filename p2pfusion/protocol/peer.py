"""One peer's whole behaviour, behind one door.

``Peer.handle(event, now)`` returns the effects, in order; ``deadline`` says when a
``Tick`` is due. There is no clock, socket, thread, file or generator of random numbers
behind it: the same events give the same effects, byte for byte.

``Peer`` composes five parts and passes every event to the one that it concerns:
``Gossip`` (who belongs to the swarm, who is online), ``Door`` (who is let in),
``Exchange`` (streams), ``Course`` (which round), and in each round its ``Round`` (what
is waited for).
"""

from __future__ import annotations

from collections.abc import Callable

from p2pfusion.errors import RemoteProtocolError
from p2pfusion.protocol.access import (
    Decided,
    Introduced,
    Invited,
    InviteRevoked,
    JoinBy,
    KnockFailed,
    Revoke,
)
from p2pfusion.protocol.arrival import Arrival
from p2pfusion.protocol.beginning import BadCheckpoint, HasCheckpoint, LacksCheckpoint
from p2pfusion.protocol.course import Course, Standing
from p2pfusion.protocol.detector import ROUNDING_S
from p2pfusion.protocol.door import Door
from p2pfusion.protocol.events import (
    Adopt,
    Announced,
    Arriving,
    Bar,
    Came,
    Caught,
    ChangeFraction,
    Drain,
    Effect,
    Event,
    Expect,
    ExportRequested,
    Found,
    FoundLacking,
    Hashed,
    Leave,
    Misbehaved,
    Moved,
    Pardon,
    Received,
    Recover,
    Report,
    Resume,
    Stopping,
    Tick,
    TrainingFailed,
    TrainingFinished,
)
from p2pfusion.protocol.exchange import Exchange
from p2pfusion.protocol.exclusion import shut_out
from p2pfusion.protocol.gossip import Gossip
from p2pfusion.protocol.leaving import Leaving
from p2pfusion.protocol.lists import Lists
from p2pfusion.protocol.manifest import Manifest
from p2pfusion.protocol.meeting import Meeting
from p2pfusion.protocol.messages import (
    Chunk,
    Credit,
    Digests,
    Facts,
    Goodbye,
    Hello,
    Known,
    ManifestPart,
    Message,
    PeerRecord,
    Ping,
    Pong,
    ProbeFor,
    Refusal,
    Refused,
    Request,
    Seen,
    SignedClosing,
    SignedOffer,
    StreamStart,
    Wanted,
    Welcome,
)
from p2pfusion.protocol.offers import Offers
from p2pfusion.protocol.planning import PLANNER, Planner
from p2pfusion.protocol.round import Round
from p2pfusion.protocol.suspicion import Suspicion
from p2pfusion.protocol.twin import Twin
from p2pfusion.security import ED25519, Scheme, Signer

MEMBERSHIP = frozenset({Hello, Welcome, ManifestPart, Refused, Facts})


class Peer:
    """Events in, effects out."""

    def __init__(
        self,
        record: PeerRecord,
        signer: Signer,
        scheme: Scheme = ED25519,
        *,
        wall_offset_s: float = 0.0,
        planner: Planner = PLANNER,
    ) -> None:
        """``wall_offset_s``: Unix time less the ``now`` of events; only the expiry of
        tickets reads it."""
        self.gossip = Gossip(record, signer, scheme)
        self.door = Door(self.gossip, wall_offset_s)
        self.arrival = Arrival(self.gossip)
        self.meeting = Meeting(self.gossip)
        self.suspicion = Suspicion(self.gossip)
        self.leaving = Leaving(self.gossip)
        self.twin = Twin(self.gossip)
        self.exchange = Exchange(self.gossip)
        self.course = Course(self.exchange, planner)
        self.lists = Lists(self.exchange, self.course.work)
        self.offers = Offers(self.exchange, self.lists.offered)
        self.gossip.wall_offset_s = wall_offset_s
        spread, exchange = self.gossip.spread, self.exchange
        self._from_member: dict[type, Callable[..., list[Effect]]] = {
            SignedOffer: self.offers.received,
            StreamStart: exchange.data,
            Chunk: exchange.data,
            Request: self._asked,
            SignedClosing: self.lists.received,
            Ping: self.meeting.on_probe,
            Pong: self.meeting.on_probe,
            Digests: spread.compared,
            Known: spread.known,
            Wanted: lambda peer, asked, _: spread.wanted(peer, asked),
            ProbeFor: self.meeting.on_probe_for,
            Seen: self.meeting.on_seen,
            Credit: lambda peer, credit, _: exchange.serves.credit(peer, credit),
            Refusal: exchange.refused,
            Goodbye: self._goodbye,
        }
        """What members say, but for what strangers may say as well."""

    @property
    def manifest(self) -> Manifest | None:
        """The swarm's manifest, once there is one."""
        return self.gossip.manifest

    @property
    def standing(self) -> Standing:
        """Where this peer stands in the swarm."""
        return self.course.standing

    @property
    def round(self) -> Round | None:
        """The round that this peer is in."""
        return self.exchange.round

    def handle(self, event: Event, now: float) -> list[Effect]:
        """What to do about an event. Never raises for anything that a peer sent."""
        gossip, exchange = self.gossip, self.exchange
        slept_s = gossip.probing.awake(now) if now > gossip.probing.next_at else 0.0
        effects = self._woke(slept_s, now) if slept_s else []
        if type(event) is Received:
            effects += self._received(event.peer, event.message, now)
        else:
            effects += self._lose_barred(self._dispatch(event, now), now)
        is_quiet = now + ROUNDING_S <= gossip.detector.quiet_until
        is_settled = is_quiet and self.course.is_settled()
        if not is_settled or self.lists.are_made or gossip.quarantine.has_news():
            effects += self._settle(now)
        if exchange.changed:
            effects += exchange.serve_waiting(now)
        if exchange.fetching.is_on:
            effects += exchange.fetching.look(now)
        return effects

    def _settle(self, now: float) -> list[Effect]:
        """What follows from an event for who is waited for, and for the round."""
        effects: list[Effect] = []
        gossip = self.gossip
        if gossip.detector.misses(now) or self.exchange.is_disturbed:
            effects += self._notice_silence(now)
        if gossip.quarantine.has_news():
            effects += shut_out(self.exchange, now)
        if self.lists.are_made or not self.course.is_settled():
            effects += self._progress(now)
            gossip.round_index = self.course.round_index
        return effects

    def _progress(self, now: float) -> list[Effect]:
        """Closes and takes up what can be, and goes on to a next round."""
        if self.twin.address or self.exchange.fetching.is_on:
            return []  # rounds are out of the question: for a twin, or without a store
        before, are_made = self.exchange.round, self.lists.are_made
        effects = self.lists.look(now) if are_made else []
        effects += self.course.progress(now)
        if are_made and self.exchange.round is not before:
            effects += self.lists.look(now)
        return effects + self.exchange.upkeep.look(self.exchange.round, now)

    def deadline(self) -> float:
        """The instant of the next ``Tick``."""
        exchange, soon = self.exchange, self.gossip.deadline()
        if self.lists.are_made:
            soon = min(soon, self.lists.deadline())
        if self.twin.address or exchange.fetching.is_on:
            return exchange.deadline(min(soon, exchange.fetching.deadline()))
        soon = self.course.deadline(soon)
        if exchange.upkeep.due_at < soon:
            soon = min(soon, exchange.upkeep.deadline())
        return exchange.deadline(soon)

    def _dispatch(self, event: Event, now: float) -> list[Effect]:
        """What to do about anything but a message."""
        match event:
            case Misbehaved(peer, reason, kind):
                error = RemoteProtocolError(reason, offence=kind)
                return self._misbehaved(peer, error, now)
            case Caught() | Pardon():
                return self.gossip.quarantine.told(event)
            case Hashed():
                return self.course.work.hashed(event, now)
            case Came():
                return self.offers.came(event)
            case Tick():
                effects = self.gossip.tick(now) + self.meeting.tick(now)
                effects += self.suspicion.tick(now) + self.door.remind(now)
                asked = self.course.work.tick(now) + self.exchange.tick(now)
                return [*effects, *asked, *self.lists.repeated(asked)]
            case Arriving(peer):
                self.exchange.moves(peer, now)
            case TrainingFinished():
                return self.course.work.trained(event, now)
            case TrainingFailed():
                return self.course.work.failed(event, now)
            case Moved():
                self.course.work.moved(event)
            case Found(manifest):
                self.course.found()
                # After a restart before round 0 the facts are there already.
                known = self.manifest is not None
                return [] if known else self._adopted(self.gossip.adopt(manifest, b""))
            case Expect(manifest):
                self.gossip.expected = manifest
            case Resume():
                return self._resume(event, now)
            case JoinBy(way):
                self.gossip.joining.try_way(way)
                return self.leaving.come_back(now) + self.gossip.tick(now)
            case Introduced(host, port, peer, key):
                self.gossip.joining.introduced(host, port, peer, key)
                return self.gossip.tick(now)
            case KnockFailed():
                return self.arrival.knock_failed(event)
            case ExportRequested(number, lacks):
                return self.exchange.export(number, lacks, now)
            case LacksCheckpoint() | HasCheckpoint() | BadCheckpoint():
                return self.exchange.fetching.told(event, now)
            case FoundLacking():
                return self.exchange.found_lacking(event, now)
            case Drain():
                self.course.draining.is_wanted = True
            case Stopping():
                return self.gossip.broadcast(Goodbye())
        return self._access(event, now)

    def _access(self, event: Event, now: float) -> list[Effect]:
        """What the user decides about who is in."""
        match event:
            case Invited(invite):
                return self.door.invite(invite, now)
            case InviteRevoked(invite):
                return self.door.revoke_invite(invite)
            case Decided(peer, accepted):
                return self._decided(peer, accepted, now)
            case Revoke(peer, reason):
                return self.door.revoke(peer, reason, self.course.round_index)
            case Recover(peers, reason):
                return self.door.recover(peers, reason, self.course.round_index)
            case Leave():
                return self.leaving.leave(now)
            case Announced(announced):
                return self.leaving.announce(announced, now)
            case ChangeFraction(fraction):
                return self.leaving.change_fraction(fraction, now)
        return []

    def _decided(self, peer: str, accepted: bool, now: float) -> list[Effect]:
        try:
            return self.door.decided(peer, accepted=accepted, now=now)
        except RemoteProtocolError as error:  # of its record, or of one too many
            return self._misbehaved(peer, error, now)

    def _lose_barred(self, effects: list[Effect], now: float) -> list[Effect]:
        """The same, and what follows for those who are barred by it."""
        for peer in [effect.peer for effect in effects if isinstance(effect, Bar)]:
            effects = effects + self.exchange.lose(peer, "put out", now)
        return effects

    # --- Messages --------------------------------------------------------------------

    def _received(self, peer: str, message: Message, now: float) -> list[Effect]:
        gossip, kind = self.gossip, type(message)
        try:
            is_member = gossip.spread.is_member(peer)
            is_back = is_member and gossip.detector.heard(peer, now)
            effects = self._is_back(peer) if is_back else []
            if kind in MEMBERSHIP:
                effects += self._about_membership(peer, message, now)
                return self._lose_barred(effects, now)
            if is_member:
                return effects + self._from_member[kind](peer, message, now)
            return effects
        except RemoteProtocolError as error:
            return self._misbehaved(peer, error, now)

    def _misbehaved(
        self, peer: str, error: RemoteProtocolError, now: float
    ) -> list[Effect]:
        reason = str(error)
        report = Report("protocol-error", {"peer": peer, "reason": reason})
        noted = self.gossip.quarantine.note(peer, error.offence, reason)
        lost = self.exchange.lose(peer, f"broke the rules: {reason}", now)
        return [report, *noted, *lost]

    def _is_back(self, peer: str) -> list[Effect]:
        """A sign of life from a member that was silent, or never heard."""
        self.exchange.pause.heard(peer)
        return [Report("peer-online", {"peer": peer})]

    def _asked(self, peer: str, request: Request, now: float) -> list[Effect]:
        told = self.lists.asked(peer, request)
        return told + self.exchange.asked(peer, request, now)

    def _goodbye(self, peer: str, message: Goodbye, now: float) -> list[Effect]:
        self.gossip.detector.goodbye(peer, now)
        return self.exchange.lose(peer, "stopped", now)

    def _about_membership(
        self, peer: str, message: Message, now: float
    ) -> list[Effect]:
        """What somebody may say who is no member, or not known to be one."""
        match message:
            case Hello():
                return self._hello(peer, message, now)
            case Welcome():
                return self.arrival.welcomed(peer, message, now)
            case ManifestPart():
                return self._adopted(self.arrival.part(peer, message))
            case Refused():
                return self.arrival.refused(peer, message)
            case Facts():
                news = self.gossip.on_facts(peer, message, now)
                for restarted in self.gossip.take_restarted():
                    news += self.exchange.lose(restarted, "restarted", now)
                answer = self.suspicion.answer(now) if news else []
                return [*news, *answer, *self.twin.look(message.members)]
        return []

    def _hello(self, peer: str, hello: Hello, now: float) -> list[Effect]:
        effects = self.door.hello(peer, hello, now)
        record = self.gossip.facts.records.get(peer)
        if record is not None and self.gossip.greeted(record):
            effects += self.exchange.lose(peer, "restarted", now)
        if self.gossip.is_member(peer) and self.gossip.detector.heard(peer, now):
            effects += self._is_back(peer)
        return effects

    # --- Beginnings and silences -----------------------------------------------------

    def _adopted(self, effects: list[Effect]) -> list[Effect]:
        """If a manifest was just adopted, prepares what follows from it."""
        if any(isinstance(effect, Adopt) for effect in effects):
            self.course.prepare()
            self.lists.prepare()
        return effects

    def _woke(self, slept_s: float, now: float) -> list[Effect]:
        self.suspicion.woke(now)
        self.exchange.woke(slept_s, now)
        return [Report("slept", {"seconds": round(slept_s, 3)})]

    def _resume(self, event: Resume, now: float) -> list[Effect]:
        self.suspicion.woke(now)
        effects = self._adopted(self.gossip.resume(event.manifest, event.facts))
        self.course.resume(event, now)
        return effects + self.meeting.introduce(now)

    def _notice_silence(self, now: float) -> list[Effect]:
        effects: list[Effect] = []
        for peer in self.gossip.detector.newly_silent(now):
            reason = self.gossip.detector.why_silent(peer, now)
            effects.append(Report("peer-silent", {"peer": peer, "reason": reason}))
            self.exchange.pause.silent(peer, now)
        return effects + self.course.act_on_silence(now)
