"""Membership facts, and the roster as their fold.

Facts merge by union, in any order and any number of times, to the same set.
``roster(epoch)`` is a pure function of the facts, so peers with equal facts have equal
rosters without any agreement protocol. A fact counts from an epoch that lies ahead, so
that it has reached everybody before it matters.

Every fact is signed and traced back to the founder, whose key stands in the manifest,
before it is kept; one that is known already is recognised by its bytes and costs no
second look. What members say of each other is kept only where both are known: a set
always has the records of all whom it names so, and so has what it passes on.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from fractions import Fraction

from p2pfusion.errors import RemoteProtocolError
from p2pfusion.limits import (
    KEPT_ROSTERS,
    MAX_CHAIN_LINKS,
    MAX_RECOVERIES,
    MAX_ROSTER,
)
from p2pfusion.methods.base import Member
from p2pfusion.protocol.accusations import Accusation, Accusations
from p2pfusion.protocol.announcing import Announcements
from p2pfusion.protocol.batches import in_frames as in_frames
from p2pfusion.protocol.evidence import Conviction, Convictions
from p2pfusion.protocol.fold import Fold, Stay, is_most
from p2pfusion.protocol.manifest import Manifest
from p2pfusion.protocol.memberships import Found, Memberships, Standing, trained
from p2pfusion.protocol.messages import (
    BEFORE_START,
    NEVER,
    Facts,
    Membership,
    PeerRecord,
    Signed,
)
from p2pfusion.protocol.revocations import Decrees, Loss, Verdict
from p2pfusion.protocol.statements import (
    RecoveryFact,
    RevocationFact,
    author,
    read_accusation,
    read_start,
)
from p2pfusion.protocol.tally import Tally
from p2pfusion.security import Scheme


class FactSet:
    """Everything this peer knows about who belongs to the swarm."""

    def __init__(self, scheme: Scheme, manifest: Manifest | None = None) -> None:
        """Without a manifest it stays empty: nothing can be traced back to anybody."""
        self.swarm = manifest.swarm_id if manifest else ""
        self.founder = manifest.founder_key if manifest else b""
        self.scheme = scheme
        self._tally = Tally()
        self.announcements = Announcements(manifest)
        self._members = Memberships(
            scheme, self.swarm, self.founder, self._tally, self.announcements
        )
        self._decrees = Decrees(self._members, self._tally, self.join_epoch)
        self._accusations = Accusations(self.swarm, self._tally)
        self._convictions = Convictions(scheme, self.swarm, self._tally)
        self.records: Mapping[str, PeerRecord] = self._members.records
        """Everybody's newest record, also of those who are out."""
        self.revocations: Mapping[tuple[str, str], Verdict] = self._decrees.revocations
        """By admin and by whom it puts out."""
        self.convicted: Mapping[str, Conviction] = self._convictions.of
        """Who has lied, as everybody can check."""
        self.start: tuple[str, ...] = ()
        self._signed_start: Signed | None = None
        self._present: list[str] | None = []
        self._fold = Fold(self.swarm)
        self._ended: set[str] = set()
        self._rosters: dict[int, tuple[Member, ...]] = {}

    # --- Merging ---------------------------------------------------------------------

    def merge(self, facts: Facts) -> Facts:
        """Adds what is new, and returns it.

        Raises ``RemoteProtocolError`` for what no honest peer can have passed on;
        nothing of the message is then kept.
        """
        self._tally.added = []
        decrees = self._decrees
        members = [found for m in facts.members if (found := self._members.read(m))]
        start = self._new_start(facts.start)
        verdicts = [v for r in facts.revocations if (v := decrees.read_revocation(r))]
        losses = [x for r in facts.recoveries if (x := decrees.read_recovery(r))]
        accused = [a for s in facts.accusations if (a := self._new_accusation(s))]
        proven = [c for e in facts.evidence if (c := self._convictions.read(e))]
        self._check_room(members, verdicts, losses)
        former, keep = self.start, self._convictions.keep
        new = Facts(
            tuple(kept for found in members if (kept := self._keep_member(found))),
            facts.start if self._keep_start(start, facts.start) else None,
            tuple(v.revocation for v in verdicts if self._keep_verdict(v)),
            tuple(each.signed for each in accused if self._keep_accusation(each)),
            tuple(loss.recovery for loss in losses if decrees.keep_loss(loss)),
            tuple(c.evidence for c in proven if keep(c, self.records)),
        )
        changed = {self._author(membership.record) for membership in new.members}
        if new.start is not None:
            changed.update(former, self.start)
        convicted = {self._author(each.first) for each in new.evidence}
        self._follow(changed, convicted.union(each.fact.peer for each in accused))
        return new

    def _follow(self, changed: set[str], accused: set[str]) -> None:
        """Brings the rosters up to date: whose stay, or accusers, may have changed."""
        if self.revocations or self.recoveries:
            changed |= self._ended
            self._ended = {*self.revoked, *self.lost}
            changed |= self._ended
        since = NEVER
        for peer in changed & self.records.keys():
            since = min(since, self._fold.stays(peer, self._stay(self.records[peer])))
        for peer in accused | (changed & self._accusations.about.keys()):
            since = min(since, self._fold.accused(peer, self.accusers(peer)))
        if since < NEVER:
            self._rosters = {e: kept for e, kept in self._rosters.items() if e < since}

    def _check_room(
        self, members: list[Found], verdicts: list[Verdict], losses: list[Loss]
    ) -> None:
        rooms: tuple[tuple[Collection[object], set[object], int, str], ...] = (
            (self.records, {r.peer for r, *_ in members}, MAX_ROSTER, "members"),
            (self.revocations, {v.place for v in verdicts}, MAX_ROSTER, "revocations"),
            (self.recoveries, {x.place for x in losses}, MAX_RECOVERIES, "recoveries"),
        )
        for known, new, most, what in rooms:
            if new and len(known) + sum(each not in known for each in new) > most:
                raise RemoteProtocolError(f"more {what} than this version allows")

    def standing_of(self, key: bytes, credential: bytes) -> Standing:
        """What a chain makes of a key's owner; ``RemoteProtocolError`` if nothing."""
        return self._members.standing_of(key, credential)

    def _keep_member(self, found: Found) -> Membership | None:
        peer = found[0].peer
        before, older = self._members.standings.get(peer), self.records.get(peer)
        kept = self._members.keep(found)
        if kept is not None:
            is_other = self._members.standings[peer] != before
            if older is not None and trained(older) != trained(self.records[peer]):
                self._rosters.clear()
            self._decrees.members_changed(admissions=is_other)
            if is_other:
                self._present = None
        return kept

    def _new_start(self, start: Signed | None) -> tuple[str, ...]:
        if start is None or start == self._signed_start:
            return ()
        members = read_start(start, self.scheme, swarm=self.swarm, founder=self.founder)
        # A founder makes only one; should it make two, the first in order counts.
        known = self._signed_start
        if known is None or _first(members, start) < _first(self.start, known):
            return members
        return ()

    def _keep_start(self, members: tuple[str, ...], signed: Signed | None) -> bool:
        if not members or signed is None:
            return False
        if self._signed_start is not None:
            self._tally.remove("start", b"", self._signed_start)
        self._tally.add("start", b"", signed)
        self.start, self._signed_start = members, signed
        self._decrees.members_changed(admissions=False)
        return True

    def _keep_verdict(self, verdict: Verdict) -> bool:
        if not self._decrees.keep_verdict(verdict):
            return False
        self._present = None
        return True

    def _new_accusation(self, signed: Signed) -> Accusation | None:
        if self._accusations.knows(signed):
            return None
        fact = read_accusation(signed, self.scheme, swarm=self.swarm)
        return Accusation(fact, signed)

    def _keep_accusation(self, accusation: Accusation) -> bool:
        """Takes an accusation up, if it is by a member and about one.

        Who does not know them yet gets it again with them, when digests are compared.
        """
        fact = accusation.fact
        if fact.by not in self.records or fact.peer not in self.records:
            return False
        return self._accusations.keep(accusation)

    # --- Who may what ----------------------------------------------------------------

    @property
    def recoveries(self) -> Mapping[bytes, Loss]:
        """By what was signed."""
        return self._decrees.recoveries

    @property
    def revoked(self) -> dict[str, RevocationFact]:
        """Who is out, and by whose word."""
        return self._decrees.revoked

    @property
    def lost(self) -> dict[str, RecoveryFact]:
        """Who was declared lost and has not come back, and by whose word."""
        return self._decrees.lost

    def is_admin(self, peer: str) -> bool:
        """Whether a peer may admit and revoke."""
        return self.role(peer) == "admin" and peer not in self.revoked

    def can_admit(self, peer: str) -> bool:
        """Whether a peer is an admin, and a chain has room for one admission more."""
        standing = self._members.standings.get(peer)
        has_room = standing is not None and standing.depth < MAX_CHAIN_LINKS
        return has_room and self.is_admin(peer)

    def admitted_by(self, peer: str) -> str:
        """The admin that has admitted a peer; "" for the founder."""
        standing = self._members.standings.get(peer)
        return standing.issuers[-1] if standing and standing.issuers else ""

    def role(self, peer: str) -> str:
        """``admin``, ``member``, or "" for who is neither."""
        standing = self._members.standings.get(peer)
        return standing.role if standing is not None else ""

    def membership(self, peer: str) -> Membership | None:
        """A member's record and credential, as they travel."""
        return self._members.signed.get(peer)

    def record_of(self, membership: Membership) -> PeerRecord:
        """What the set knows of a membership's subject; it must be one of its own."""
        return self.records[self._author(membership.record)]

    def _author(self, signed: Signed) -> str:
        return self._members.ids[author(signed)]

    def members(self) -> Iterator[PeerRecord]:
        """The records of all who were not put out, sorted by id."""
        return (self.records[peer] for peer in self.present)

    @property
    def present(self) -> list[str]:
        """All who were not put out, sorted; another list as soon as that changes."""
        if self._present is None:
            out = self.revoked
            self._present = [p for p in self._members.sorted if p not in out]
        return self._present

    # --- Rosters ---------------------------------------------------------------------

    def roster(self, epoch: int) -> tuple[Member, ...]:
        """The members of an epoch, ordered by rank: (join epoch, peer id)."""
        if epoch not in self._rosters:
            if len(self._rosters) >= KEPT_ROSTERS:
                self._rosters.clear()
            self._rosters[epoch] = tuple(
                self._member(peer, epoch) for peer in self._fold.present(epoch)
            )
        return self._rosters[epoch]

    def _member(self, peer: str, epoch: int) -> Member:
        fraction, record = self.fraction(peer, epoch), self.records[peer]
        return Member(peer, fraction, self.announcements.of(record, fraction, epoch))

    def fraction(self, peer: str, epoch: int) -> Fraction:
        """How much of the model a member trains in an epoch."""
        return self._members.fraction(peer, epoch)

    def join_epoch(self, record: PeerRecord) -> int | None:
        """The epoch from which a peer counts; None while it waits for the start."""
        if record.join_epoch != BEFORE_START:
            return record.join_epoch
        return 0 if record.peer in self.start else None

    @property
    def evicted(self) -> Mapping[str, int]:
        """Whom the others have put out of the roster, and from which epoch on."""
        return self._fold.evicted

    def observers(self, peer: str, epoch: int) -> tuple[str, ...]:
        """Who watches a member in an epoch: all others, or its nearest neighbours.

        Whoever watches it is watched by it.
        """
        return self._fold.observers(peer, epoch)

    def observed(self, peer: str, epoch: int) -> tuple[str, ...]:
        """Whom of the next epoch's roster a member watches in this epoch."""
        return self._fold.observed(peer, epoch)

    def accusers(self, peer: str) -> dict[str, int]:
        """Who accuses a member, and from which epoch each of these words counts.

        What it has answered is not among them, nor what was said before it came back.
        """
        record = self.records.get(peer)
        joined = None if record is None else self.join_epoch(record)
        if record is None or joined is None:
            return {}
        convicted = peer in self.convicted
        return self._accusations.against(record, joined, is_convicted=convicted)

    def is_gone(self, peer: str, epoch: int) -> bool:
        """Whether a member is known to be away for good: it has left, was declared
        lost, or most of its observers accuse it now, from whichever epoch on."""
        record = self.records.get(peer)
        if record is None:
            return False
        if record.leave_epoch <= epoch or peer in self.lost:
            return True
        accusers = self.accusers(peer)
        if not accusers:
            return False
        watching = self.observers(peer, epoch)
        return is_most(sum(each in accusers for each in watching), len(watching))

    def _stay(self, record: PeerRecord) -> Stay | None:
        """For how long a peer is in, unless the others evict it."""
        joined = self.join_epoch(record)
        if joined is None:
            return None
        facts = (self.revoked.get(record.peer), self.lost.get(record.peer))
        ends = [fact.epoch for fact in facts if fact is not None]
        return Stay(joined, min([record.leave_epoch, *ends]))

    # --- Passing on ------------------------------------------------------------------

    @property
    def digest(self) -> bytes:
        """Sixteen bytes that name this set of facts."""
        return self._tally.digest

    def buckets(self) -> tuple[bytes, ...]:
        """Eight bytes for each part of the set, to find the parts that differ."""
        return self._tally.buckets

    @property
    def added(self) -> Sequence[bytes]:
        """The names of what the last merging brought."""
        return self._tally.added

    def names(self, bucket: int) -> Collection[bytes]:
        """The names of the facts in one part of the set."""
        return self._tally.names(bucket)

    def has(self, name: bytes) -> bool:
        """Whether the fact of this name is known."""
        return self._tally.has(name)

    def knew(self, name: bytes) -> bool:
        """Whether it is known, or was until another one took its place."""
        return self._tally.knew(name)

    def named(self, names: Iterable[bytes]) -> Facts:
        """Of the facts of these names those that are known."""
        return self._tally.named(names)

    def besides(self, buckets: Iterable[int], names: Collection[bytes]) -> Facts:
        """The facts in some parts of the set whose names are others than these."""
        return self._tally.besides(buckets, names)

    def all(self) -> Facts:
        """The whole set, in an order that follows from it."""
        here = self._members.sorted
        return Facts(
            tuple(self._members.signed[peer] for peer in here),
            self._signed_start,
            tuple(said.revocation for _, said in sorted(self.revocations.items())),
            self._accusations.about_all(here),
            tuple(said.recovery for _, said in sorted(self.recoveries.items())),
            self._convictions.all(),
        )

    def messages(self) -> list[Facts]:
        """The whole set, in messages that fit a control frame."""
        return in_frames(self.all())


def _first(
    members: tuple[str, ...], signed: Signed
) -> tuple[tuple[str, ...], bytes, bytes]:
    """Orders lists of first members: smaller counts. Only equal bytes are equal."""
    return (members, signed.payload, signed.signature)
