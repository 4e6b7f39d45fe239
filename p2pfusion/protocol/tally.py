"""The digest of a set of facts, kept up to date as facts come and go.

A digest is the sum of the hashes of all facts, so it does not depend on their order,
and one fact more or less costs one addition. Every fact is in one of some *buckets*, by
whom it is about; their sums tell two peers in which part of the facts they differ.
"""

from __future__ import annotations

import hashlib

from p2pfusion.limits import DIGEST_BUCKETS
from p2pfusion.protocol.messages import Membership, Recovery, Revocation, Signed

MODULUS = 1 << 128

Fact = Membership | Revocation | Recovery | Signed


class Tally:
    """Sums of the hashes of facts, in all and by bucket."""

    def __init__(self) -> None:
        self._total = 0
        self._parts = [0] * DIGEST_BUCKETS

    def add(self, kind: str, about: bytes, fact: Fact) -> None:
        """A fact of a kind is in the set; ``about`` decides upon its bucket."""
        self._count(about, _hash(kind, fact))

    def remove(self, kind: str, about: bytes, fact: Fact) -> None:
        """It was added, and is in the set no longer."""
        self._count(about, -_hash(kind, fact))

    def _count(self, about: bytes, number: int) -> None:
        at = bucket(about)
        self._total = (self._total + number) % MODULUS
        self._parts[at] = (self._parts[at] + number) % MODULUS

    @property
    def digest(self) -> bytes:
        """Sixteen bytes that name the set."""
        return self._total.to_bytes(16, "big")

    @property
    def buckets(self) -> tuple[bytes, ...]:
        """Eight bytes that name each bucket."""
        return tuple(part.to_bytes(16, "big")[8:] for part in self._parts)


def bucket(about: bytes) -> int:
    """The bucket of all facts about the same."""
    return hashlib.blake2b(about, digest_size=1).digest()[0] % DIGEST_BUCKETS


def _hash(kind: str, fact: Fact) -> int:
    """Of exactly the bytes that are passed on."""
    if isinstance(fact, Signed):
        signed, credential = fact, b""
    elif isinstance(fact, Membership):
        signed, credential = fact.record, fact.credential
    else:
        signed, credential = fact.statement, fact.credential
    named = hashlib.blake2b(digest_size=16, person=kind.encode())
    for part in (signed.payload, signed.signature, credential):
        named.update(len(part).to_bytes(4, "big") + part)
    return int.from_bytes(named.digest(), "big")
