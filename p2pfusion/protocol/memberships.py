"""Records and credentials: what everybody says of itself, and why it may.

Of two records of one peer the newer counts, of two credentials the one with more
rights. Every credential is traced back to the founder, whose key the manifest has.
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Set
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache

from p2pfusion.errors import ConfigError, RemoteProtocolError
from p2pfusion.limits import MAX_ROSTER
from p2pfusion.methods.base import split_fraction
from p2pfusion.protocol.announcing import Announcements
from p2pfusion.protocol.messages import Membership, PeerRecord
from p2pfusion.protocol.statements import author, read_record
from p2pfusion.protocol.tally import Tally
from p2pfusion.security import Credential, Scheme, check

FOUNDER_DEPTH = 0

KIND = "member"

NO_ANNOUNCEMENTS = Announcements(None)


@dataclass(frozen=True)
class Standing:
    """What a chain of admissions makes of a peer."""

    role: str
    depth: int
    """Admissions between the founder and this peer."""
    issuers: tuple[str, ...]


Found = tuple[PeerRecord, Standing, Membership]


class Memberships:
    """Everybody who has ever been a member, put out or not."""

    def __init__(
        self,
        scheme: Scheme,
        swarm: str,
        founder: bytes,
        tally: Tally,
        announcements: Announcements = NO_ANNOUNCEMENTS,
    ) -> None:
        self.scheme = scheme
        self.swarm = swarm
        self.founder = founder
        self._tally = tally
        self._announcements = announcements
        self.records: dict[str, PeerRecord] = {}
        self.signed: dict[str, Membership] = {}
        self.standings: dict[str, Standing] = {}
        self.ids: dict[bytes, str] = {}
        self.sorted: list[str] = []
        self._trained: dict[str, tuple[Fraction, Fraction]] = {}
        self._admitted: dict[str, set[str]] = {}

    def read(self, membership: Membership) -> Found | None:
        """A membership, checked; None if it is kept already."""
        known = self.ids.get(author(membership.record), "")
        before = self.signed.get(known)
        if membership == before:
            return None
        if before is not None and membership.record == before.record:
            record = self.records[known]
        else:
            record = read_record(membership.record, self.scheme)
        if record.swarm != self.swarm:
            raise RemoteProtocolError("a record that was made for another swarm")
        check_fractions(record)
        self._announcements.check(record)
        if before is not None and membership.credential == before.credential:
            standing = self.standings[known]
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

    def keep(self, found: Found) -> Membership | None:
        """What is known of the peer now, if that is news."""
        record, standing, membership = found
        peer = record.peer
        before = self.signed.get(peer)
        if before is None:
            insort(self.sorted, peer)
        else:
            older = self.records[peer]
            if _newness(record, membership) < _newness(older, before):
                record = older
                membership = Membership(before.record, membership.credential)
            if _rights(self.standings[peer], before) > _rights(standing, membership):
                standing = self.standings[peer]
                membership = Membership(membership.record, before.credential)
            if membership == before:
                return None
            self._tally.remove(KIND, peer.encode(), before)
            for issuer in self.standings[peer].issuers:
                self._admitted[issuer].discard(peer)
        self.records[peer], self.signed[peer] = record, membership
        self.standings[peer] = standing
        self.ids[record.key] = peer
        self._trained[peer] = _fractions(record)
        for issuer in standing.issuers:
            self._admitted.setdefault(issuer, set()).add(peer)
        self._tally.add(KIND, peer.encode(), membership)
        return membership

    def admin_depth(self, key: bytes, credential: bytes, what: str) -> int:
        """How far from the founder an admin is; ``what`` nobody else may say."""
        standing = self.standing_of(key, credential)
        if standing.role != "admin":
            raise RemoteProtocolError(f"{what} by somebody who is no admin")
        return standing.depth

    def admitted_through(self, peer: str) -> Set[str]:
        """Whose chain of admissions passes through a peer."""
        return self._admitted.get(peer, set())

    def fraction(self, peer: str, epoch: int) -> Fraction:
        """How much of the model a peer trains in an epoch."""
        former, present = self._trained[peer]
        return former if epoch < self.records[peer].since_epoch else present


def check_fractions(record: PeerRecord) -> None:
    """``RemoteProtocolError`` if a record's split fractions are nonsense."""
    _fractions(record)


def trained(record: PeerRecord) -> tuple[object, ...]:
    """What the part of the model that a peer trains in each epoch depends on."""
    fractions = record.split_fraction, record.former_fraction, record.since_epoch
    return *fractions, record.announced, record.announced_epoch


def _fractions(record: PeerRecord) -> tuple[Fraction, Fraction]:
    """How much of the model a peer trains before and after it has changed that."""
    try:
        return _read_fractions(record.former_fraction, record.split_fraction)
    except ConfigError as error:
        raise RemoteProtocolError(f"record of {record.name!r}: {error}") from None


@lru_cache(maxsize=MAX_ROSTER)
def _read_fractions(before: str, present: str) -> tuple[Fraction, Fraction]:
    read = split_fraction(present, "at present")
    return (split_fraction(before, "before") if before else read), read


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
