"""How peers meet, and how news of membership travels.

A newcomer knocks at an address until somebody answers; the answer brings the manifest
and the facts. From then on every peer dials every other. News is flooded at once to all
and every probe carries a digest of the sender's facts, so two peers that differ notice
within a second and send each other what they have. The facts merge by union: no message
needs an answer, an order or a single delivery.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace

from p2pfusion.errors import RemoteProtocolError
from p2pfusion.limits import MAX_MANIFEST_BYTES
from p2pfusion.protocol.detector import Detector
from p2pfusion.protocol.events import (
    Adopt,
    Dial,
    Effect,
    Knock,
    Report,
    SaveFacts,
    Send,
)
from p2pfusion.protocol.facts import FactSet
from p2pfusion.protocol.manifest import Manifest
from p2pfusion.protocol.messages import (
    PROTOCOL_VERSION,
    Facts,
    Hello,
    ManifestPart,
    Message,
    PeerRecord,
    Ping,
    Pong,
    Refused,
    Welcome,
)

MANIFEST_PART_BYTES = 48 * 1024
"""Fits a control frame with its head."""

KNOCK_INTERVALS_S = (0.25, 0.5, 1.0, 2.0, 5.0, 10.0)
"""Pauses between attempts to join; the last repeats for ever."""

MANIFESTS_AT_ONCE = 4
"""Manifests that may be arriving; strangers who announce more displace the oldest."""


@dataclass
class Knocking:
    """Attempts to join at one address."""

    host: str
    port: int
    attempts: int = 0
    next_at: float = 0.0
    last_error: str = "nobody has answered yet"


class Gossip:
    """Membership at one peer: its own record, everybody's facts, who is online."""

    def __init__(self, record: PeerRecord) -> None:
        self.record = record
        self.facts = FactSet()
        self.detector = Detector()
        self.manifest: Manifest | None = None
        self.expected: Manifest | None = None
        self.knocking: list[Knocking] = []
        self.round_index = 0
        self._parts: dict[str, tuple[int, bytearray]] = {}
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
        return sorted(peer for peer in self.facts.records if peer != self.me)

    def broadcast(self, message: Message, *, but: str = "") -> list[Effect]:
        """The message to every other member."""
        return [Send(peer, message) for peer in self.others() if peer != but]

    def claimed_round(self, peer: str) -> int:
        """The round that a peer says it is in; -1 if it said none, or nonsense."""
        contact = self.detector.contacts.get(peer)
        last = self.manifest.rounds if self.manifest else 0
        if contact is None or contact.round_index > last:
            return -1
        return contact.round_index

    def observed_round(self, now: float) -> int:
        """The furthest round that somebody is in, not on the word of one alone.

        Of several peers that are in any round, the second furthest counts: a single
        liar moves nobody. -1 if nobody is online or has said where it is.
        """
        claims = (self.claimed_round(peer) for peer in self.detector.online(now))
        ranked = sorted(claims, reverse=True)
        # Who has not entered any round says 0, too, and knows nothing.
        entered = [claim for claim in ranked if claim > 0]
        if len(entered) > 1:
            return entered[1]
        return max(ranked, default=-1)

    def all_heard(self, now: float) -> bool:
        """Whether every other member is online and has said where it is."""
        online = set(self.detector.online(now))
        return all(p in online and self.claimed_round(p) >= 0 for p in self.others())

    def are_at(self, round_index: int, now: float) -> bool:
        """Whether most of those online are in this round, or further."""
        online = self.detector.online(now)
        ahead = sum(self.claimed_round(peer) >= round_index for peer in online)
        return 2 * ahead > len(online)

    def furthest(self, limit: int, now: float, *, but: Collection[str]) -> str | None:
        """The furthest peer that is online and in no round beyond a limit."""
        near = {
            peer: self.claimed_round(peer)
            for peer in self.detector.online(now)
            if peer not in but and 0 <= self.claimed_round(peer) <= limit
        }
        return max(near, key=lambda peer: (near[peer], peer), default=None)

    # --- The own side ----------------------------------------------------------------

    def adopt(self, manifest: Manifest) -> list[Effect]:
        """From now on this is the swarm."""
        self.manifest = manifest
        self._parts.clear()
        self.facts.merge(Facts((self.record,), ()))
        return [
            Adopt(manifest),
            SaveFacts(tuple(self.facts.messages())),
            Report("joined", {"swarm": manifest.swarm_id, "name": manifest.name}),
        ]

    def remember(self, known: Iterable[Facts]) -> None:
        """Takes up facts from the own disk; what the own record said still counts."""
        for facts in known:
            self.facts.merge_start(facts.start)
            for record in self.facts.merge(facts):
                self._incarnations[record.peer] = record.incarnation
        own = self.facts.records.get(self.me)
        if own is not None:
            self.record = replace(self.record, join_epoch=own.join_epoch)

    def renew(self, *, join_epoch: int) -> list[Effect]:
        """Says anew from which epoch this peer counts."""
        sequence = self.record.sequence + 1
        self.record = replace(self.record, join_epoch=join_epoch, sequence=sequence)
        return self.publish(Facts((self.record,), self.facts.start))

    def publish(self, facts: Facts) -> list[Effect]:
        """Adds own news and floods it."""
        self.facts.merge(facts)
        self.facts.merge_start(facts.start)
        saved = SaveFacts(tuple(self.facts.messages()))
        return [saved, *self._flood(facts.records)]

    def _flood(self, records: tuple[PeerRecord, ...], *, but: str = "") -> list[Effect]:
        effects: list[Effect] = []
        for message in self.facts.news(records):
            effects += self.broadcast(message, but=but)
        return effects

    def introduce(self, now: float) -> list[Effect]:
        """Connections to, and a greeting for, every member that is known."""
        effects: list[Effect] = []
        for peer in self.others():
            self.detector.watch(peer, now)
            effects += [Dial(self.facts.records[peer]), Send(peer, self._hello())]
        return effects

    def knock_at(self, host: str, port: int) -> None:
        """Adds an address to knock at, once."""
        if not any((k.host, k.port) == (host, port) for k in self.knocking):
            self.knocking.append(Knocking(host, port))

    def _hello(self) -> Hello:
        return Hello(PROTOCOL_VERSION, self.swarm_id, self.record)

    # --- Time ------------------------------------------------------------------------

    def tick(self, now: float) -> list[Effect]:
        """Knocks and probes that are due."""
        effects: list[Effect] = []
        for knocking in self.knocking:
            if knocking.next_at <= now:
                pause = min(knocking.attempts, len(KNOCK_INTERVALS_S) - 1)
                knocking.next_at = now + KNOCK_INTERVALS_S[pause]
                knocking.attempts += 1
                effects.append(Knock(knocking.host, knocking.port, self._hello()))
        if self.detector.probe_due(now):
            for peer in self.others():
                effects.append(Send(peer, self._probe(peer, now)))
        return effects

    def _probe(self, peer: str, now: float) -> Message:
        """A ping; or a greeting, for one that may not know us (any more)."""
        if not self.detector.is_online(peer, now):
            return self._hello()
        nonce = self.detector.new_nonce(now)
        return Ping(nonce, self.round_index, self.facts.digest)

    def deadline(self) -> float:
        """When ``tick`` has something to do."""
        knocks = [knocking.next_at for knocking in self.knocking]
        return min([self.detector.next_probe_at, *knocks])

    # --- Messages --------------------------------------------------------------------

    def on_hello(self, peer: str, hello: Hello, now: float) -> list[Effect]:
        """Somebody greets: a newcomer, a returning member, or one that lost us."""
        record = hello.record
        if record == self.record:
            # Somebody's old address has become ours, or we were told to join ourselves.
            self._note_error("the address leads back to this peer")
            return []
        if record.peer != peer or peer == self.me:
            raise RemoteProtocolError(f"{peer} speaks for {record.peer}")
        answer: list[Effect] = [Dial(record)]
        if hello.version != PROTOCOL_VERSION:
            text = f"protocol {hello.version} there, {PROTOCOL_VERSION} here"
            return [*answer, Send(peer, Refused("version", text))]
        if self.manifest is None:
            text = "this peer has no swarm yet"
            return [*answer, Send(peer, Refused("not-ready", text))]
        if hello.swarm_id == self.swarm_id:
            answer.append(Send(peer, self._welcome(b"")))
        else:
            packed = self.manifest.to_bytes()
            answer += [Send(peer, self._welcome(packed)), *_parts(peer, packed)]
        if hello.swarm_id not in ("", self.swarm_id):
            return answer
        effects = self.on_facts(peer, Facts((record,), ()), now)
        known = [Send(peer, facts) for facts in self.facts.messages()]
        return [*answer, *effects, *known]

    def _welcome(self, manifest: bytes) -> Welcome:
        return Welcome(self.swarm_id, self.round_index, len(manifest))

    def on_welcome(self, peer: str, welcome: Welcome, now: float) -> list[Effect]:
        """Somebody answered our greeting: a member of our swarm, or of another."""
        if welcome.swarm_id == self.swarm_id:
            # Until a member that we know has answered, its facts may have been lost.
            if peer in self.facts.records:
                self.knocking.clear()
                self.detector.in_round(peer, welcome.round_index, now)
            return []
        self._parts.pop(peer, None)
        while len(self._parts) >= MANIFESTS_AT_ONCE:
            del self._parts[next(iter(self._parts))]
        self._parts[peer] = (welcome.manifest_bytes, bytearray())
        return []

    def on_part(self, peer: str, part: ManifestPart) -> list[Effect]:
        """A piece of the manifest; with the last one, the swarm is known."""
        want, parts = self._parts.get(peer, (0, None))
        if parts is None or part.offset != len(parts):
            return []
        if len(parts) + len(part.data) > min(want, MAX_MANIFEST_BYTES):
            raise RemoteProtocolError("a manifest is longer than announced")
        parts += part.data
        if len(parts) < want:
            return []
        del self._parts[peer]
        return self._on_manifest(Manifest.from_bytes(bytes(parts)))

    def _on_manifest(self, theirs: Manifest) -> list[Effect]:
        mine = self.manifest or self.expected
        if mine is not None and mine.swarm_id != theirs.swarm_id:
            key = mine.first_difference(theirs)
            text = f"another swarm answers there: its {key!r} differs from ours"
            self._note_error(text)
            return [Report("incompatible", {"key": key, "text": text})]
        return [] if self.manifest is not None else self.adopt(theirs)

    def on_refused(self, refused: Refused) -> list[Effect]:
        """Somebody would not have us (yet)."""
        self._note_error(refused.text)
        if refused.code == "version":
            return [Report("incompatible", {"key": "version", "text": refused.text})]
        return []

    def _note_error(self, text: str) -> None:
        for knocking in self.knocking:
            knocking.last_error = text

    def on_facts(self, peer: str, facts: Facts, now: float) -> list[Effect]:
        """News of membership: keep it, connect to newcomers, tell everybody else."""
        if self.manifest is None:
            return []
        others = tuple(r for r in facts.records if r.peer != self.me)
        before = dict(self.facts.records)
        started = self.facts.merge_start(facts.start)
        new = self.facts.merge(Facts(others, ()))
        if not new and not started:
            return []
        effects: list[Effect] = [SaveFacts(tuple(self.facts.messages()))]
        for record in new:
            self._incarnations.setdefault(record.peer, record.incarnation)
            self.detector.watch(record.peer, now)
            old = before.get(record.peer)
            if old is None or (old.host, old.port) != (record.host, record.port):
                effects += [Dial(record), Send(record.peer, self._hello())]
        return effects + self._flood(new, but=peer)

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


def _parts(peer: str, packed: bytes) -> list[Effect]:
    return [
        Send(peer, ManifestPart(offset, packed[offset : offset + MANIFEST_PART_BYTES]))
        for offset in range(0, len(packed), MANIFEST_PART_BYTES)
    ]
