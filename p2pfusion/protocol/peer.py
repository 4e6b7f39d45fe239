"""One peer's whole behaviour, behind one door.

``Peer.handle(event, now)`` returns the effects, in order; ``deadline`` says when a
``Tick`` is due. There is no clock, socket, thread, file or generator of random numbers
behind it: the same events give the same effects, byte for byte.

``Peer`` composes four parts and passes every event to the one that it concerns:
``Gossip`` (who belongs to the swarm, who is online), ``Exchange`` (streams), ``Course``
(which round), and in each round its ``Round`` (what is waited for).
"""

from __future__ import annotations

from p2pfusion.errors import RemoteProtocolError
from p2pfusion.protocol.course import Course, Standing
from p2pfusion.protocol.events import (
    Adopt,
    Effect,
    Event,
    Expect,
    ExportRequested,
    Found,
    JoinAddress,
    Misbehaved,
    Received,
    Report,
    Resume,
    Stopping,
    Tick,
    TrainingFailed,
    TrainingFinished,
)
from p2pfusion.protocol.exchange import Exchange
from p2pfusion.protocol.gossip import Gossip
from p2pfusion.protocol.manifest import Manifest
from p2pfusion.protocol.messages import (
    Chunk,
    Credit,
    Facts,
    Goodbye,
    Hello,
    ManifestPart,
    Message,
    Offer,
    PeerRecord,
    Ping,
    Pong,
    Refusal,
    Refused,
    Request,
    StreamStart,
    Welcome,
)
from p2pfusion.protocol.round import Round


class Peer:
    """Events in, effects out."""

    def __init__(self, record: PeerRecord) -> None:
        self.gossip = Gossip(record)
        self.exchange = Exchange(self.gossip)
        self.course = Course(self.exchange)

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
        effects = self._dispatch(event, now)
        effects += self._notice_silence(now)
        effects += self.course.progress(now)
        effects += self.exchange.serve_waiting(now)
        self.gossip.round_index = self.course.round_index
        return effects

    def deadline(self) -> float:
        """The instant of the next ``Tick``."""
        instants = [
            self.gossip.deadline(),
            self.exchange.deadline(),
            self.course.deadline(),
        ]
        return min(instant for instant in instants if instant is not None)

    def _dispatch(self, event: Event, now: float) -> list[Effect]:
        match event:
            case Received(peer, message):
                return self._received(peer, message, now)
            case Misbehaved(peer, reason):
                return self._misbehaved(peer, reason, now)
            case Tick():
                return self.gossip.tick(now) + self.exchange.tick(now)
            case TrainingFinished():
                return self.course.trained(event, now)
            case TrainingFailed():
                return self.course.training_failed(event, now)
            case Found(manifest):
                self.course.found()
                return self._adopted(self.gossip.adopt(manifest))
            case Expect(manifest):
                self.gossip.expected = manifest
            case Resume():
                return self._resume(event, now)
            case JoinAddress(host, port):
                self.gossip.knock_at(host, port)
                return self.gossip.tick(now)
            case ExportRequested(number):
                return self.exchange.export(number, now)
            case Stopping():
                return self.gossip.broadcast(Goodbye())
        return []

    # --- Messages --------------------------------------------------------------------

    def _received(self, peer: str, message: Message, now: float) -> list[Effect]:
        try:
            return self._heard(peer, now) + self._message(peer, message, now)
        except RemoteProtocolError as error:
            return self._misbehaved(peer, str(error), now)

    def _misbehaved(self, peer: str, reason: str, now: float) -> list[Effect]:
        report = Report("protocol-error", {"peer": peer, "reason": reason})
        return [report, *self.exchange.lose(peer, f"broke the rules: {reason}", now)]

    def _heard(self, peer: str, now: float) -> list[Effect]:
        if peer not in self.gossip.facts.records:
            return []
        if not self.gossip.detector.heard(peer, now):
            return []
        return [Report("peer-online", {"peer": peer})]

    def _message(self, peer: str, message: Message, now: float) -> list[Effect]:
        match message:
            case Hello():
                return self._hello(peer, message, now)
            case Welcome():
                return self.gossip.on_welcome(peer, message, now)
            case ManifestPart():
                return self._adopted(self.gossip.on_part(peer, message))
            case Refused():
                return self.gossip.on_refused(message)
            case Facts():
                return self.gossip.on_facts(peer, message, now)
        if self.manifest is None or peer not in self.gossip.facts.records:
            return []
        return self._from_member(peer, message, now)

    def _from_member(self, peer: str, message: Message, now: float) -> list[Effect]:
        match message:
            case Ping() | Pong():
                return self.gossip.on_probe(peer, message, now)
            case Goodbye():
                self.gossip.detector.goodbye(peer, now)
                return self.exchange.lose(peer, "stopped", now)
            case Offer():
                return self._offered(peer, message, now)
            case Request():
                return self.exchange.asked(peer, message, now)
            case Refusal():
                return self.exchange.refused(peer, message, now)
            case Credit():
                return self.exchange.credited(peer, message)
            case StreamStart() | Chunk():
                return self.exchange.data(peer, message, now)
        return []

    def _hello(self, peer: str, hello: Hello, now: float) -> list[Effect]:
        effects = self.gossip.on_hello(peer, hello, now)
        if peer in self.gossip.facts.records and self.gossip.greeted(hello.record):
            effects += self.exchange.lose(peer, "restarted", now)
        return effects + self._heard(peer, now)

    def _offered(self, peer: str, offer: Offer, now: float) -> list[Effect]:
        known = self.gossip.detector.watch(peer, now).round_index
        self.gossip.detector.in_round(peer, max(known, offer.round_index), now)
        round_ = self.exchange.offered(peer, offer, now)
        if round_ is None or offer.digest == round_.plan.digest:
            return []
        return self.gossip.send_facts(peer, now)

    # --- Beginnings and silences -----------------------------------------------------

    def _adopted(self, effects: list[Effect]) -> list[Effect]:
        """If a manifest was just adopted, prepares what follows from it."""
        if any(isinstance(effect, Adopt) for effect in effects):
            self.course.prepare()
        return effects

    def _resume(self, event: Resume, now: float) -> list[Effect]:
        self.gossip.remember(event.facts)
        effects = self._adopted(self.gossip.adopt(event.manifest))
        self.course.resume(event, now)
        return effects + self.gossip.introduce(now)

    def _notice_silence(self, now: float) -> list[Effect]:
        effects: list[Effect] = []
        for peer in self.gossip.detector.newly_silent(now):
            reason = self.gossip.detector.why_silent(peer, now)
            effects.append(Report("peer-silent", {"peer": peer, "reason": reason}))
            effects += self.exchange.lose(peer, reason, now)
        return effects
