"""How peers meet, and how news of membership travels.

A newcomer knocks until a member answers (``joining.py``); an admin decides about it
(``door.py``); its answer brings the manifest, a credential and the facts. From then on
every peer dials every other. News is told to all (``spread.py``), and every probe
carries a digest of the sender's facts, so two peers that differ notice it soon and send
each other what they lack. The facts merge by union: no message needs an order or a
single delivery.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace

from p2pfusion.errors import RemoteProtocolError, VerificationError
from p2pfusion.protocol.batches import in_frames
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
from p2pfusion.protocol.facts import FactSet
from p2pfusion.protocol.joining import Joining, Way
from p2pfusion.protocol.manifest import Manifest
from p2pfusion.protocol.messages import (
    NEVER,
    PROTOCOL_VERSION,
    Facts,
    Hello,
    Membership,
    Message,
    PeerRecord,
    Signed,
    Welcome,
)
from p2pfusion.protocol.news import News
from p2pfusion.protocol.pace import Pace
from p2pfusion.protocol.probing import Probing
from p2pfusion.protocol.quarantine import Quarantine
from p2pfusion.protocol.relays import Relays
from p2pfusion.protocol.renewal import carried_over, renewed
from p2pfusion.protocol.spread import Spread
from p2pfusion.protocol.statements import (
    author,
    sign_record,
    sign_start,
)
from p2pfusion.protocol.timing import TIMINGS
from p2pfusion.security import ED25519, Scheme, Signer, proof


class Gossip:
    """Membership at one peer: its own record, everybody's facts, who is online."""

    def __init__(
        self, record: PeerRecord, signer: Signer, scheme: Scheme = ED25519
    ) -> None:
        self.signer = signer
        self.scheme = scheme
        self.me = record.peer
        """The own peer id."""
        self.record = record
        self.signed: Signed = sign_record(record, signer)
        self.credential = b""
        self.facts = FactSet(scheme)
        """Who belongs to the swarm, as far as this peer knows."""
        self.spread = Spread(record.peer, self.facts)
        self.detector = Detector()
        self.probing = Probing(record.peer, self.detector)
        self.relays = Relays(record.peer, self.detector)
        self.news = News(self.detector)
        self.claims = Claims(self.detector)
        self.joining = Joining()
        self.quarantine = Quarantine(self)
        self.manifest: Manifest | None = None
        self.swarm_id = ""
        """The swarm's id, or "" before there is one."""
        self.expected: Manifest | None = None
        self.round_index = 0
        self.wall_offset_s = 0.0
        """Unix time less the ``now`` of events; for people, and the ends of tickets."""
        self._pace = Pace()
        self._incarnations: dict[str, int] = {}
        self._restarted: list[str] = []

    def others(self) -> list[str]:
        """Every other member's id, sorted."""
        return self.spread.others()

    def epoch(self, now: float) -> int:
        """The epoch that this peer observes: its own or that of the others."""
        assert self.manifest is not None
        furthest = max(self.round_index, self.claims.observed_round(now), 0)
        return self.manifest.epoch(furthest)

    def why_absent(self, peer: str, now: float) -> str:
        """In words, why a peer does not count as online."""
        facts = self.facts
        if peer in facts.revoked:
            return "put out"
        if peer in facts.lost:
            return "declared lost"
        since = facts.evicted.get(peer, NEVER)
        if self.manifest is not None and since <= self.epoch(now):
            return f"out of the roster since epoch {since}"
        return self.detector.why_silent(peer, now)

    def giving(self, now: float) -> list[str]:
        """Who can be asked for values: worth asking, and not in quarantine."""
        return self.quarantine.among(self.detector.worth_asking(now))

    def is_member(self, peer: str) -> bool:
        """Whether a peer belongs to the swarm, and was not put out."""
        return self.spread.is_member(peer)

    def broadcast(self, message: Message, *, but: str = "") -> list[Effect]:
        """The message to every other member."""
        return [Send(peer, message) for peer in self.others() if peer != but]

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
        self.manifest, self.credential = manifest, credential
        self.swarm_id = manifest.swarm_id
        self.facts = self.spread.facts = facts
        self.detector.timing = self.spread.timing = TIMINGS[manifest.network]
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
                self.record = carried_over(self.record, facts.records[self.me])
                self.signed = sign_record(self.record, self.signer)
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
        return self.spread.saved()

    def _renew(self, **changes: object) -> None:
        """Says something new of this peer."""
        following = renewed(self.record, **changes)
        if following != self.record:
            self.record = following
            self.signed = sign_record(following, self.signer)

    def renew(self, **changes: object) -> list[Effect]:
        """Says something new of this peer, to everybody; before it is in a swarm, to
        those at whose door it knocks."""
        self._renew(**changes)
        if self.manifest is None:
            return []
        return self.publish(Facts((self.membership(),)))

    def refute(self, now: float) -> list[Effect]:
        """Says that this peer is there, whatever was said that begins to count."""
        return self.renew(refutes_epoch=self.epoch(now) + 1)

    def rejoin(self, now: float) -> list[Effect]:
        """Whoever is out for another reason than a revocation joins anew."""
        epoch = self.epoch(now) + 2
        return self.renew(join_epoch=epoch, leave_epoch=NEVER)

    def begin(self, members: Iterable[str]) -> list[Effect]:
        """As the founder: these are the first members."""
        start = sign_start(self.swarm_id, sorted(members), self.signer)
        return self.publish(Facts(start=start))

    def publish(self, facts: Facts) -> list[Effect]:
        """Adds own news, spreads it, and does what follows from it."""
        out, before = set(self.facts.revoked), self._records(facts)
        new = self.facts.merge(facts)
        if new == Facts():
            return []
        return [self.saved(), *self._flood(new, out), *self._told(new, before)]

    def _told(self, new: Facts, before: Mapping[str, PeerRecord]) -> list[Effect]:
        """For people. In a large swarm a crash brings words in hundreds of messages:
        what they amount to is looked at from time to time, in ``tick``."""
        at_once = not self.spread.is_large
        return self.news.told(self.facts, new, before, at_once=at_once)

    def _records(self, facts: Facts) -> dict[str, PeerRecord]:
        """What is known of those whom this brings news of."""
        peers = (self.scheme.peer_id(author(m.record)) for m in facts.members)
        known = self.facts.records
        return {peer: known[peer] for peer in peers if peer in known}

    def _flood(
        self, new: Facts, out: set[str], *, but: str = "", now: float | None = None
    ) -> list[Effect]:
        """News to others; whoever is put out by it hears it as the last word."""
        effects = self.spread.tell(new, but=but, now=now)
        newly_out = self._newly_out(out)
        for message in in_frames(new):
            effects += [Send(p, message) for p in newly_out if p not in (but, self.me)]
        for peer in newly_out:
            effects += self.put_out(peer)
        return effects

    def _newly_out(self, before: Collection[str]) -> list[str]:
        return sorted(set(self.facts.revoked) - set(before))

    def put_out(self, peer: str) -> list[Effect]:
        """What follows from a revocation, once it is known."""
        fact = self.facts.revoked[peer]
        details = {"peer": peer, "by": fact.by, "reason": fact.reason}
        self.detector.forget(peer)
        self.probing.forget(peer)
        self.relays.forget(peer)
        report = Report("revoked", details)
        return [report] if peer == self.me else [report, Bar(peer)]

    def hello(self) -> Hello:
        """What this peer says to members."""
        return Hello(PROTOCOL_VERSION, self.swarm_id, self.signed, self.credential)

    # --- Time ------------------------------------------------------------------------

    def tick(self, now: float) -> list[Effect]:
        """Knocks that are due, and what is to be saved."""
        effects: list[Effect] = []
        for way in self.joining.due(now):
            knows = bool(way.key)
            effects.append(self._knock(way) if knows else Ask(way.host, way.port))
        if now >= self.probing.next_at:
            effects += self.news.evictions(self.facts)
        return effects + self.spread.tick(now)

    def _knock(self, way: Way) -> Knock:
        if self.manifest is None:
            self._renew(swarm=way.swarm)
        hello = self.hello()
        if way.invite:
            shown = proof(way.secret, swarm=way.swarm, peer=self.me)
            hello = replace(hello, invite=way.invite, proof=shown)
        return Knock(way, hello)

    def deadline(self) -> float:
        """When ``tick`` has something to do."""
        spread, soon = self.spread, self.probing.next_at
        if spread.save_at < soon:
            soon = spread.save_at
        if spread.rumours.tell_at < soon:
            soon = spread.rumours.tell_at
        return min(soon, self.joining.deadline()) if self.joining.knocking else soon

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
        there = self.dial(self.newest(record), now)
        own = Send(peer, Facts((self.membership(),)))
        known = self.spread.compare(peer, now)
        return [there, Send(peer, self.welcome()), *effects, own, *known]

    def welcome(self, manifest_bytes: int = 0, credential: bytes = b"") -> Welcome:
        """Where we are; a manifest of so many bytes follows."""
        return Welcome(self.swarm_id, self.round_index, manifest_bytes, credential)

    def on_facts(self, peer: str, facts: Facts, now: float) -> list[Effect]:
        """News of membership: keep it, connect to newcomers, tell everybody else."""
        if self.manifest is None:
            return []
        others = tuple(m for m in facts.members if self._is_taken_up(m, now))
        before, out = self._records(facts), set(self.facts.revoked)
        new = self.facts.merge(replace(facts, members=others))
        if new == Facts():
            return []
        for membership in new.members:
            self._pace.spend(author(membership.record), now)
        self.spread.learned(now)
        # Who has trained, and has forgotten by a crash that the swarm had begun, would
        # begin with round 0 again.
        effects: list[Effect] = [] if new.start is None else [self.spread.saved(now)]
        for membership in new.members:
            record = self.facts.record_of(membership)
            if self.is_member(record.peer):
                effects += self._met(record, before.get(record.peer), peer, now)
        flood = self._flood(new, out, but=peer, now=now)
        return effects + flood + self._told(new, before)

    def _is_taken_up(self, membership: Membership, now: float) -> bool:
        """Whether it is of another, who has not said too much of itself of late."""
        key = author(membership.record)
        return key != self.record.key and self._pace.may(key, now)

    def _met(
        self, record: PeerRecord, old: PeerRecord | None, by: str, now: float
    ) -> list[Effect]:
        """A member that is new, or has something new to say of itself."""
        self._incarnations.setdefault(record.peer, record.incarnation)
        if self.spread.is_large and self.greeted(record):
            self._restarted.append(record.peer)  # it will not greet everybody itself
        self.detector.watch(record.peer, now)
        if old is not None and _place(old) == _place(record):
            return []
        dial = self.dial(record, now)
        if record.peer != by and not self.greets(record.peer):
            return [dial]
        return [dial, Send(record.peer, self.hello())]

    def dial(self, record: PeerRecord, now: float) -> Dial:
        """A connection to a peer, through somebody else if need be."""
        peer = record.peer
        if not (record.is_outward and self.record.is_outward):
            self.relays.forget(peer)
            return Dial(record, self.record if record.is_outward else None)
        relay = self.relays.choose(peer, self.facts.members(), self.swarm_id, now)
        return Dial(record, self.facts.records.get(relay))

    def greets(self, peer: str) -> bool:
        """Whether a member is greeted at once: in a large swarm only who probes us.

        The others learn of us as of any news.
        """
        if not self.spread.is_large:
            return True
        return self.detector.has_chosen(peer)  # who observes us is observed by us

    def take_restarted(self) -> list[str]:
        """Who has started again, by news and not by its own greeting; each once."""
        restarted, self._restarted = self._restarted, []
        return restarted

    def greeted(self, record: PeerRecord) -> bool:
        """Notes who greets; True if it has started again since we met it."""
        before = self._incarnations.get(record.peer, record.incarnation)
        self._incarnations[record.peer] = max(before, record.incarnation)
        return before < record.incarnation


def _place(record: PeerRecord) -> tuple[object, ...]:
    """What a connection to a peer depends on."""
    where = (record.host, record.port)
    return (*where, record.transport_key, record.exchange_key, record.cipher)
