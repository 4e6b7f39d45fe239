"""Membership facts, and the roster as their fold.

Facts merge by union, in any order and any number of times, to the same set: of two
records of one peer the newer counts, of two credentials the one with more rights.
``roster(epoch)`` is a pure function of the facts, so peers with equal facts have equal
rosters without any agreement protocol. A fact counts from an epoch that lies ahead, so
that it has reached everybody before it matters.

Every fact is signed and traced back to the founder, whose key stands in the manifest,
before it is kept; one that is known already is recognised by its bytes and costs no
second look.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import TypeVar

from p2pfusion.errors import ConfigError, RemoteProtocolError
from p2pfusion.limits import MAX_CHAIN_LINKS, MAX_ROSTER
from p2pfusion.methods.base import Member, split_fraction
from p2pfusion.protocol.manifest import Manifest
from p2pfusion.protocol.messages import (
    BEFORE_START,
    Facts,
    Membership,
    PeerRecord,
    Revocation,
    Signed,
)
from p2pfusion.protocol.statements import (
    RevocationFact,
    author,
    read_record,
    read_revocation,
    read_start,
)
from p2pfusion.security import Credential, Scheme, check

MAX_BATCH_BYTES = 48 * 1024
"""Members in one message: with its head it fits a control frame of 64 KiB."""

FOUNDER_DEPTH = 0

Item = TypeVar("Item", Membership, Revocation)


@dataclass(frozen=True)
class Standing:
    """What a chain of admissions makes of a peer."""

    role: str
    depth: int
    """Admissions between the founder and this peer."""
    issuers: tuple[str, ...]


@dataclass(frozen=True)
class Verdict:
    """A revocation, read and checked."""

    fact: RevocationFact
    depth: int
    """Admissions between the founder and whoever says so."""
    revocation: Revocation

    @property
    def order(self) -> tuple[object, ...]:
        """Of two by one admin about one peer the smaller counts, so the earlier epoch:
        nobody comes back by a second one. No two different ones are equal."""
        said, signed = self.fact, self.revocation.statement
        what = (said.epoch, said.by, said.reason, self.depth)
        return (*what, self.revocation.credential, signed.payload, signed.signature)


class FactSet:
    """Everything this peer knows about who belongs to the swarm."""

    def __init__(self, scheme: Scheme, manifest: Manifest | None = None) -> None:
        """Without a manifest it stays empty: nothing can be traced back to anybody."""
        self.swarm = manifest.swarm_id if manifest else ""
        self.founder = manifest.founder_key if manifest else b""
        self.scheme = scheme
        self.records: dict[str, PeerRecord] = {}
        self.start: tuple[str, ...] = ()
        self.revocations: dict[tuple[str, str], Verdict] = {}
        self._signed: dict[str, Membership] = {}
        self._ids: dict[bytes, str] = {}
        self._standings: dict[str, Standing] = {}
        self._signed_start: Signed | None = None
        self._fractions: dict[str, Fraction] = {}
        self._known_revocations: set[Revocation] = set()
        self._digest: bytes | None = None
        self._revoked: dict[str, RevocationFact] | None = None

    # --- Merging ---------------------------------------------------------------------

    def merge(self, facts: Facts) -> Facts:
        """Adds what is new, and returns it.

        Raises ``RemoteProtocolError`` for what no honest peer can have passed on;
        nothing of the message is then kept.
        """
        members = [found for m in facts.members if (found := self._new_member(m))]
        start = self._new_start(facts.start)
        verdicts = [v for r in facts.revocations if (v := self._new_revocation(r))]
        if len(self.records.keys() | {r.peer for r, *_ in members}) > MAX_ROSTER:
            raise RemoteProtocolError("more members than this version allows")
        if len(self.revocations.keys() | {_place(v) for v in verdicts}) > MAX_ROSTER:
            raise RemoteProtocolError("more revocations than this version allows")
        new = [
            kept
            for record, standing, membership in members
            if (kept := self._keep_member(record, standing, membership))
        ]
        if start:
            self.start, self._signed_start = start, facts.start
        revocations = [v.revocation for v in verdicts if self._keep_verdict(v)]
        if new or start or revocations:
            self._digest = self._revoked = None
        return Facts(tuple(new), facts.start if start else None, tuple(revocations))

    def _new_member(
        self, membership: Membership
    ) -> tuple[PeerRecord, Standing, Membership] | None:
        known = self._ids.get(author(membership.record), "")
        before = self._signed.get(known)
        if membership == before:
            return None
        if before is not None and membership.record == before.record:
            record = self.records[known]
        else:
            record = read_record(membership.record, self.scheme)
        if record.swarm != self.swarm:
            raise RemoteProtocolError("a record that was made for another swarm")
        fraction_of(record)
        if before is not None and membership.credential == before.credential:
            standing = self._standings[known]
        else:
            standing = self.standing_of(record.key, membership.credential)
        return record, standing, membership

    def standing_of(self, key: bytes, credential: bytes) -> Standing:
        """What a chain makes of a key's owner; ``RemoteProtocolError`` if nothing."""
        if key == self.founder and not credential:
            return Standing("admin", FOUNDER_DEPTH, ())
        found: Credential = check(
            credential, swarm=self.swarm, founder=self.founder, scheme=self.scheme
        )
        if found.public != key:
            raise RemoteProtocolError("a credential of somebody else")
        return Standing(found.role, len(found.issuers), found.issuers)

    def _keep_member(
        self, record: PeerRecord, standing: Standing, membership: Membership
    ) -> Membership | None:
        """What the set says of the peer now, if that is news."""
        peer = record.peer
        before = self._signed.get(peer)
        if before is not None:
            older = self.records[peer]
            if _newness(record, membership) < _newness(older, before):
                record, membership = older, _with(before, membership.credential)
            if _rights(self._standings[peer], before) > _rights(standing, membership):
                standing = self._standings[peer]
                membership = _with(membership, before.credential)
            if membership == before:
                return None
        self.records[peer], self._signed[peer] = record, membership
        self._standings[peer] = standing
        self._ids[record.key] = peer
        self._fractions[peer] = fraction_of(record)
        return membership

    def _new_start(self, start: Signed | None) -> tuple[str, ...]:
        if start is None or start == self._signed_start:
            return ()
        members = read_start(start, self.scheme, swarm=self.swarm, founder=self.founder)
        # A founder makes only one; should it make two, the first in order counts.
        known = self._signed_start
        if known is None or _first(members, start) < _first(self.start, known):
            return members
        return ()

    def _new_revocation(self, revocation: Revocation) -> Verdict | None:
        if revocation in self._known_revocations:
            return None
        fact = read_revocation(revocation.statement, self.scheme, swarm=self.swarm)
        standing = self.standing_of(fact.key, revocation.credential)
        if standing.role != "admin":
            raise RemoteProtocolError("a revocation by somebody who is no admin")
        return Verdict(fact, standing.depth, revocation)

    def _keep_verdict(self, verdict: Verdict) -> bool:
        """Takes a revocation up; False if another by the same admin counts."""
        known = self.revocations.get(_place(verdict))
        if known is not None:
            if known.order <= verdict.order:
                return False
            self._known_revocations.discard(known.revocation)
        self.revocations[_place(verdict)] = verdict
        self._known_revocations.add(verdict.revocation)
        return True

    # --- Reading ---------------------------------------------------------------------

    @property
    def revoked(self) -> dict[str, RevocationFact]:
        """Who is out, and by whose word."""
        if self._revoked is None:
            self._revoked = self._fold_revocations()
        return self._revoked

    def _fold_revocations(self) -> dict[str, RevocationFact]:
        """An admin puts out members, and admins farther from the founder than itself.

        Taken in order of that distance, no two words can contradict each other. Whom a
        revoked admin has admitted goes with it.
        """
        out: dict[str, RevocationFact] = {}
        said = sorted(self.revocations.values(), key=lambda v: (v.depth, v.order))
        for verdict in said:
            fact, standing = verdict.fact, self._standings.get(verdict.fact.peer)
            deeper = standing is None or standing.depth > verdict.depth
            allowed = deeper or (standing is not None and standing.role != "admin")
            if allowed and fact.by not in out and fact.peer not in out:
                out[fact.peer] = fact
                out.update(self._admitted_by(fact, out))
        return out

    def _admitted_by(
        self, fact: RevocationFact, out: dict[str, RevocationFact]
    ) -> Iterator[tuple[str, RevocationFact]]:
        for peer, standing in self._standings.items():
            if fact.peer in standing.issuers and peer not in out:
                yield peer, fact

    def is_admin(self, peer: str) -> bool:
        """Whether a peer may admit and revoke."""
        standing = self._standings.get(peer)
        is_in = peer not in self.revoked
        return is_in and standing is not None and standing.role == "admin"

    def can_admit(self, peer: str) -> bool:
        """Whether a peer is an admin, and a chain has room for one admission more."""
        return self.is_admin(peer) and self._standings[peer].depth < MAX_CHAIN_LINKS

    def admitted_by(self, peer: str) -> str:
        """The admin that has admitted a peer; "" for the founder."""
        standing = self._standings.get(peer)
        return standing.issuers[-1] if standing and standing.issuers else ""

    def role(self, peer: str) -> str:
        """``admin``, ``member``, or "" for who is neither."""
        standing = self._standings.get(peer)
        return standing.role if standing is not None else ""

    def membership(self, peer: str) -> Membership | None:
        """A member's record and credential, as they travel."""
        return self._signed.get(peer)

    def record_of(self, membership: Membership) -> PeerRecord:
        """What the set knows of a membership's subject; it must be one of its own."""
        return self.records[self._ids[author(membership.record)]]

    def members(self) -> Iterator[PeerRecord]:
        """The records of all who are in, sorted by id."""
        return (
            self.records[peer]
            for peer in sorted(self.records)
            if peer not in self.revoked
        )

    def roster(self, epoch: int) -> tuple[Member, ...]:
        """The members of an epoch, ordered by rank: (join epoch, peer id)."""
        joined = sorted(
            (from_epoch, record.peer)
            for record in self.records.values()
            if (from_epoch := self.join_epoch(record)) is not None
            and from_epoch <= epoch
            and not self._is_out(record.peer, epoch)
        )
        return tuple(Member(peer, self._fractions[peer]) for _, peer in joined)

    def _is_out(self, peer: str, epoch: int) -> bool:
        fact = self.revoked.get(peer)
        return fact is not None and fact.epoch <= epoch

    def join_epoch(self, record: PeerRecord) -> int | None:
        """The epoch from which a peer counts; None while it waits for the start."""
        if record.peer in self.start:
            return 0
        return None if record.join_epoch == BEFORE_START else record.join_epoch

    @property
    def digest(self) -> bytes:
        """Sixteen bytes that name this set of facts."""
        if self._digest is None:
            named = hashlib.sha256()
            for _, member in sorted(self._signed.items()):
                named.update(_hash(member.record.payload) + _hash(member.credential))
            start = self._signed_start
            named.update(_hash(start.payload if start else b""))
            for _, verdict in sorted(self.revocations.items()):
                said = verdict.revocation
                named.update(_hash(said.statement.payload) + _hash(said.credential))
            self._digest = named.digest()[:16]
        return self._digest

    # --- Passing on ------------------------------------------------------------------

    def all(self) -> Facts:
        """The whole set."""
        members = tuple(self._signed[peer] for peer in sorted(self._signed))
        verdicts = [verdict for _, verdict in sorted(self.revocations.items())]
        revocations = tuple(verdict.revocation for verdict in verdicts)
        return Facts(members, self._signed_start, revocations)

    def messages(self) -> list[Facts]:
        """The whole set, in messages that fit a control frame."""
        return in_frames(self.all())


def in_frames(facts: Facts) -> list[Facts]:
    """The same facts in messages that fit a control frame, the start list first."""
    found: list[Facts] = [Facts(start=facts.start)] if facts.start else []
    for members in _batches(facts.members):
        found.append(Facts(members=tuple(members)))
    for revocations in _batches(facts.revocations):
        found.append(Facts(revocations=tuple(revocations)))
    return found


def _batches(items: Iterable[Item]) -> list[list[Item]]:
    batches: list[list[Item]] = []
    size = MAX_BATCH_BYTES
    for item in items:
        length = _bytes(item)
        size += length
        if size > MAX_BATCH_BYTES:
            batches.append([])
            size = length
        batches[-1].append(item)
    return batches


def _bytes(item: Membership | Revocation) -> int:
    """An upper bound of an item's length on the wire."""
    signed = item.record if isinstance(item, Membership) else item.statement
    return len(signed.payload) + len(signed.signature) + len(item.credential) + 16


def _with(membership: Membership, credential: bytes) -> Membership:
    return Membership(membership.record, credential)


def _rights(standing: Standing, membership: Membership) -> tuple[bool, int, bytes]:
    """Orders the credentials of one peer: larger counts."""
    is_admin = standing.role == "admin"
    return (is_admin, -standing.depth, membership.credential)


def _newness(
    record: PeerRecord, membership: Membership
) -> tuple[tuple[int, int], bytes, bytes]:
    """Orders the records of one peer: larger counts. Only equal bytes are equal."""
    signed = membership.record
    return (record.age, signed.payload, signed.signature)


def _first(
    members: tuple[str, ...], signed: Signed
) -> tuple[tuple[str, ...], bytes, bytes]:
    """Orders lists of first members: smaller counts. Only equal bytes are equal."""
    return (members, signed.payload, signed.signature)


def _place(verdict: Verdict) -> tuple[str, str]:
    return (verdict.fact.by, verdict.fact.peer)


def _hash(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()


def fraction_of(record: PeerRecord) -> Fraction:
    """How much of the model a peer trains; ``RemoteProtocolError`` for nonsense."""
    try:
        return split_fraction(record.split_fraction, f"record of {record.name!r}")
    except ConfigError as error:
        raise RemoteProtocolError(str(error)) from None
