"""How peers meet, and how news of membership travels.

A newcomer knocks until a member answers (``joining.py``); an admin decides about it
(``door.py``); its answer brings the manifest, a credential and the facts. From then on
every peer dials every other. News is flooded at once to all and every probe carries a
digest of the sender's facts, so two peers that differ notice within a second and send
each other what they have. The facts merge by union: no message needs an answer, an
order or a single delivery.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import replace

from p2pfusion.errors import ConfigError, RemoteProtocolError, VerificationError
from p2pfusion.methods import build_method
from p2pfusion.protocol.claims import Claims
from p2pfusion.protocol.detector import Detector
from p2pfusion.protocol.events import (
    Adopt,
    Ask,
    Bar,
    Dial,
    Effect,
    Knock,
    Report,
    SaveFacts,
    Send,
)
from p2pfusion.protocol.facts import FactSet, in_frames
from p2pfusion.protocol.joining import Joining, Way
from p2pfusion.protocol.manifest import Manifest
from p2pfusion.protocol.messages import (
    PROTOCOL_VERSION,
    Facts,
    Hello,
    ManifestPart,
    Membership,
    Message,
    Offer,
    PeerRecord,
    Ping,
    Pong,
    Refused,
    Signed,
    SignedOffer,
    Welcome,
)
from p2pfusion.protocol.statements import (
    OfferFact,
    author,
    sign_offer,
    sign_record,
    sign_start,
)
from p2pfusion.security import ED25519, Scheme, Signer, proof


class Gossip:
    """Membership at one peer: its own record, everybody's facts, who is online."""

    def __init__(
        self, record: PeerRecord, signer: Signer, scheme: Scheme = ED25519
    ) -> None:
        self.signer = signer
        self.scheme = scheme
        self.record = record
        self.signed: Signed = sign_record(record, signer)
        self.credential = b""
        self.facts = FactSet(scheme)
        self.detector = Detector()
        self.claims = Claims(self.detector)
        self.joining = Joining()
        self.manifest: Manifest | None = None
        self.expected: Manifest | None = None
        self.round_index = 0
        self._offers_made = 0
        self._facts_sent_at: dict[str, float] = {}
        self._incarnations: dict[str, int] = {}

    @property
    def me(self) -> str:
        """The own peer id."""
        return self.record.peer

    @property
    def swarm_id(self) -> str:
        """The swarm's id, or "" before there is one."""
        return self.manifest.swarm_id if self.manifest else ""

    def others(self) -> list[str]:
        """Every other member's id, sorted."""
        return [r.peer for r in self.facts.members() if r.peer != self.me]

    def why_absent(self, peer: str, now: float) -> str:
        """In words, why a peer does not count as online."""
        out = peer in self.facts.revoked
        return "put out" if out else self.detector.why_silent(peer, now)

    def is_member(self, peer: str) -> bool:
        """Whether a peer belongs to the swarm, and was not put out."""
        return peer in self.facts.records and peer not in self.facts.revoked

    def broadcast(self, message: Message, *, but: str = "") -> list[Effect]:
        """The message to every other member."""
        return [Send(peer, message) for peer in self.others() if peer != but]

    def announce(self, offer: Offer) -> list[Effect]:
        """The own offer of a round, signed, to every other member."""
        assert self.manifest is not None
        self._offers_made += 1
        said = OfferFact(self.record.incarnation, self._offers_made, offer)
        epoch = self.manifest.epoch(offer.round_index)
        statement = sign_offer(self.swarm_id, said, epoch, self.signer)
        return self.broadcast(SignedOffer(statement))

    # --- The own side ----------------------------------------------------------------

    def adopt(self, manifest: Manifest, credential: bytes) -> list[Effect]:
        """From now on this is the swarm, and this makes us a member of it.

        ``RemoteProtocolError``, and nothing changed, if the credential does not.
        """
        return self._adopt(manifest, credential, FactSet(self.scheme, manifest))

    def _adopt(
        self, manifest: Manifest, credential: bytes, facts: FactSet
    ) -> list[Effect]:
        facts.standing_of(self.record.key, credential)
        self.manifest, self.facts, self.credential = manifest, facts, credential
        self.claims.last_round = manifest.rounds
        self.joining.manifests.clear()
        self._renew(swarm=manifest.swarm_id)
        self.facts.merge(Facts((self.membership(),)))
        return [
            Adopt(manifest),
            self.saved(),
            Report("joined", {"swarm": manifest.swarm_id, "name": manifest.name}),
        ]

    def resume(self, manifest: Manifest, known: Iterable[Facts]) -> list[Effect]:
        """Back in a swarm, with the facts of the own disk.

        ``VerificationError`` if they do not say that this peer is a member.
        """
        facts = FactSet(self.scheme, manifest)
        try:
            for message in known:
                facts.merge(message)
            own = facts.membership(self.me)
            if own is not None:
                self._renew(join_epoch=facts.records[self.me].join_epoch)
            effects = self._adopt(manifest, own.credential if own else b"", facts)
        except RemoteProtocolError as error:
            raise VerificationError(
                f"the facts on disk do not make this peer a member: {error}",
                hint="restore them from a backup, or remove the directory swarm in "
                "the home and join again",
            ) from None
        for peer, record in facts.records.items():
            self._incarnations[peer] = record.incarnation
        return effects

    def membership(self) -> Membership:
        """The own record and credential, as they travel."""
        return Membership(self.signed, self.credential)

    def saved(self) -> SaveFacts:
        """All facts, for the next start."""
        return SaveFacts(tuple(self.facts.messages()))

    def _renew(self, **changes: object) -> None:
        """Says something new of this peer."""
        changed = replace(self.record, **changes)  # type: ignore[arg-type]
        if changed != self.record:
            self.record = replace(changed, sequence=self.record.sequence + 1)
            self.signed = sign_record(self.record, self.signer)

    def renew(self, *, join_epoch: int) -> list[Effect]:
        """Says anew from which epoch this peer counts."""
        self._renew(join_epoch=join_epoch)
        return self.publish(Facts((self.membership(),)))

    def begin(self, members: Iterable[str]) -> list[Effect]:
        """As the founder: these are the first members."""
        start = sign_start(self.swarm_id, sorted(members), self.signer)
        return self.publish(Facts(start=start))

    def publish(self, facts: Facts) -> list[Effect]:
        """Adds own news, floods it, and does what follows from it."""
        out = set(self.facts.revoked)
        new = self.facts.merge(facts)
        return [self.saved(), *self._flood(new, out)] if new != Facts() else []

    def _flood(self, new: Facts, out: set[str], *, but: str = "") -> list[Effect]:
        """News to everybody; whoever is put out by it hears it as the last word."""
        effects: list[Effect] = []
        newly_out = self._newly_out(out)
        for message in in_frames(new):
            effects += self.broadcast(message, but=but)
            effects += [Send(p, message) for p in newly_out if p not in (but, self.me)]
        for peer in newly_out:
            effects += self._put_out(peer)
        return effects

    def _newly_out(self, before: Collection[str]) -> list[str]:
        return sorted(set(self.facts.revoked) - set(before))

    def _put_out(self, peer: str) -> list[Effect]:
        fact = self.facts.revoked[peer]
        details = {"peer": peer, "by": fact.by, "reason": fact.reason}
        self.detector.forget(peer)
        report = Report("revoked", details)
        return [report] if peer == self.me else [report, Bar(peer)]

    def introduce(self, now: float) -> list[Effect]:
        """Connections to, and a greeting for, every member that is known."""
        effects: list[Effect] = []
        for peer in self.others():
            self.detector.watch(peer, now)
            effects += [Dial(self.facts.records[peer]), Send(peer, self._hello())]
        for peer in sorted(self.facts.revoked):
            effects += self._put_out(peer) if peer == self.me else [Bar(peer)]
        return effects

    def _hello(self) -> Hello:
        return Hello(PROTOCOL_VERSION, self.swarm_id, self.signed, self.credential)

    # --- Time ------------------------------------------------------------------------

    def tick(self, now: float) -> list[Effect]:
        """Knocks and probes that are due."""
        effects: list[Effect] = []
        for way in self.joining.due(now):
            knows = bool(way.key)
            effects.append(self._knock(way) if knows else Ask(way.host, way.port))
        if self.detector.probe_due(now):
            for peer in self.others():
                effects += self._probe(peer, now)
        return effects

    def _knock(self, way: Way) -> Knock:
        if self.manifest is None:
            self._renew(swarm=way.swarm)
        hello = self._hello()
        if way.invite:
            shown = proof(way.secret, swarm=way.swarm, peer=self.me)
            hello = replace(hello, invite=way.invite, proof=shown)
        return Knock(way, hello)

    def _probe(self, peer: str, now: float) -> list[Effect]:
        """A ping; or a greeting, for one that may not know us (any more)."""
        if not self.detector.is_online(peer, now):
            return [Dial(self.facts.records[peer]), Send(peer, self._hello())]
        nonce = self.detector.new_nonce(now)
        return [Send(peer, Ping(nonce, self.round_index, self.facts.digest))]

    def deadline(self) -> float:
        """When ``tick`` has something to do."""
        return min(self.detector.next_probe_at, self.joining.deadline())

    # --- Messages --------------------------------------------------------------------

    def newest(self, record: PeerRecord) -> PeerRecord:
        """Of this record and the known one of its subject, the one that counts.

        A greeting may be an old one that somebody else has kept.
        """
        known = self.facts.records.get(record.peer, record)
        return max(known, record, key=lambda each: each.age)

    def greeted_by(self, record: PeerRecord, hello: Hello, now: float) -> list[Effect]:
        """A member greets: one that is new to us, is back, or has lost us."""
        peer = record.peer
        effects = self.on_facts(
            peer, Facts((Membership(hello.record, hello.credential),)), now
        )
        known = [Send(peer, facts) for facts in self.facts.messages()]
        there = Dial(self.newest(record))
        return [there, Send(peer, self.welcome()), *effects, *known]

    def welcome(self, manifest_bytes: int = 0, credential: bytes = b"") -> Welcome:
        """Where we are; a manifest of so many bytes follows."""
        return Welcome(self.swarm_id, self.round_index, manifest_bytes, credential)

    def on_welcome(self, peer: str, welcome: Welcome, now: float) -> list[Effect]:
        """Somebody answered our greeting: a member of our swarm, or of another."""
        if self.manifest is not None:
            # Until a member that we know has answered, its facts may have been lost.
            if welcome.swarm_id == self.swarm_id and self.is_member(peer):
                self.joining.knocking.clear()
                self.detector.in_round(peer, welcome.round_index, now)
        elif self.joining.expects(peer, welcome.swarm_id):
            self.joining.announced(peer, welcome)
        return []

    def on_part(self, peer: str, part: ManifestPart) -> list[Effect]:
        """A piece of the manifest; with the last one, the swarm is known."""
        found = self.joining.part(peer, part)
        if found is None:
            return []
        theirs, credential = found
        if not self.joining.expects(peer, theirs.swarm_id):
            raise RemoteProtocolError("a manifest of another swarm than announced")
        if self.expected is not None:
            stated = replace(self.expected, founder=theirs.founder)
            if stated != theirs:
                key = stated.first_difference(theirs)
                text = f"another swarm answers there: its {key!r} differs from ours"
                return self._incompatible(str(key), text)
        try:
            build_method(theirs.method, theirs.method_arguments)
        except ConfigError as error:
            return self._incompatible("method", str(error))
        return [] if self.manifest is not None else self.adopt(theirs, credential)

    def _incompatible(self, key: str, text: str) -> list[Effect]:
        self.joining.note(text)
        return [Report("incompatible", {"key": key, "text": text})]

    def on_refused(self, peer: str, refused: Refused) -> list[Effect]:
        """Somebody would not have us (yet)."""
        if self.manifest is not None or not self.joining.asked(peer):
            return []
        if refused.code == "version":
            return self._incompatible("version", refused.text)
        for_good = refused.code == "denied"
        self.joining.note(refused.text, for_good=for_good)
        return [Report("denied", {"text": refused.text})] if for_good else []

    def on_facts(self, peer: str, facts: Facts, now: float) -> list[Effect]:
        """News of membership: keep it, connect to newcomers, tell everybody else."""
        if self.manifest is None:
            return []
        others = tuple(m for m in facts.members if author(m.record) != self.record.key)
        before, out = dict(self.facts.records), set(self.facts.revoked)
        new = self.facts.merge(replace(facts, members=others))
        if new == Facts():
            return []
        effects: list[Effect] = [self.saved()]
        for membership in new.members:
            record = self.facts.record_of(membership)
            if self.is_member(record.peer):
                effects += self._met(record, before.get(record.peer), now)
        return effects + self._flood(new, out, but=peer)

    def _met(
        self, record: PeerRecord, old: PeerRecord | None, now: float
    ) -> list[Effect]:
        """A member that is new, or has something new to say of itself."""
        self._incarnations.setdefault(record.peer, record.incarnation)
        self.detector.watch(record.peer, now)
        if old is not None and _place(old) == _place(record):
            return []
        return [Dial(record), Send(record.peer, self._hello())]

    def greeted(self, record: PeerRecord) -> bool:
        """Notes who greets; True if it has started again since we met it."""
        before = self._incarnations.get(record.peer, record.incarnation)
        self._incarnations[record.peer] = max(before, record.incarnation)
        return before < record.incarnation

    def on_probe(self, peer: str, probe: Ping | Pong, now: float) -> list[Effect]:
        """A ping or its answer."""
        self.detector.in_round(peer, probe.round_index, now)
        effects: list[Effect] = []
        if isinstance(probe, Ping):
            pong = Pong(probe.nonce, self.round_index, self.facts.digest)
            effects.append(Send(peer, pong))
        else:
            self.detector.answered(peer, probe.nonce, now)
        if probe.facts_digest != self.facts.digest:
            effects += self.send_facts(peer, now)
        return effects

    def send_facts(self, peer: str, now: float) -> list[Effect]:
        """Everything we know, to one peer, at most once a second."""
        if now - self._facts_sent_at.get(peer, float("-inf")) < 1.0:
            return []
        self._facts_sent_at[peer] = now
        return [Send(peer, facts) for facts in self.facts.messages()]


def _place(record: PeerRecord) -> tuple[object, ...]:
    """What a connection to a peer depends on."""
    where = (record.host, record.port)
    return (*where, record.transport_key, record.exchange_key, record.cipher)
