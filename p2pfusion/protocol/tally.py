"""The digest of a set of facts, and their names, kept up to date as they come and go.

A digest is the sum of the hashes of all facts, so it does not depend on their order,
and one fact more or less costs one addition. Every fact is in one of some *buckets*, by
whom it is about; their sums tell two peers in which part of the facts they differ. A
fact's *name* is the number of its bucket and the end of its hash: it tells two peers
which facts of that part one of them lacks.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Iterator
from functools import lru_cache

from p2pfusion.limits import (
    DIGEST_BUCKETS,
    FACT_ID_BYTES,
    MAX_FORMER_FACTS,
    MAX_ROSTER,
)
from p2pfusion.protocol.messages import (
    Evidence,
    Facts,
    Membership,
    Recovery,
    Revocation,
    Signed,
)

MODULUS = 1 << 128

Fact = Membership | Revocation | Recovery | Signed | Evidence

Kept = tuple[str, Fact]
"""A fact and its kind."""


class Tally:
    """The facts by their names, and sums of their hashes, in all and by bucket."""

    def __init__(self) -> None:
        self._total = 0
        self._sums = [0] * DIGEST_BUCKETS
        self._parts: list[dict[bytes, Kept]] = [{} for _ in range(DIGEST_BUCKETS)]
        self._former: dict[bytes, None] = {}
        self.added: list[bytes] = []
        """Names of what came since somebody made this list empty."""

    def add(self, kind: str, about: bytes, fact: Fact) -> None:
        """A fact of a kind is in the set; ``about`` decides upon its bucket."""
        number, at = _hash(kind, fact), bucket(about)
        name = _name(at, number)
        self._count(at, number)
        self._parts[at][name] = (kind, fact)
        self._former.pop(name, None)
        self.added.append(name)

    def remove(self, kind: str, about: bytes, fact: Fact) -> None:
        """It was added, and is in the set no longer: another one counts instead."""
        number, at = _hash(kind, fact), bucket(about)
        name = _name(at, number)
        self._count(at, -number)
        del self._parts[at][name]
        self._former[name] = None
        if len(self._former) > MAX_FORMER_FACTS:
            del self._former[next(iter(self._former))]

    def _count(self, at: int, number: int) -> None:
        self._total = (self._total + number) % MODULUS
        self._sums[at] = (self._sums[at] + number) % MODULUS

    @property
    def digest(self) -> bytes:
        """Sixteen bytes that name the set."""
        return self._total.to_bytes(16, "big")

    @property
    def buckets(self) -> tuple[bytes, ...]:
        """Eight bytes that name each bucket."""
        return tuple(part.to_bytes(16, "big")[8:] for part in self._sums)

    # --- By name ---------------------------------------------------------------------

    def names(self, at: int) -> Collection[bytes]:
        """The names of the facts in a bucket."""
        return self._parts[at].keys()

    def has(self, name: bytes) -> bool:
        """Whether the fact of this name is in the set."""
        return name[0] < DIGEST_BUCKETS and name in self._parts[name[0]]

    def knew(self, name: bytes) -> bool:
        """Whether it is in the set, or was before another one took its place."""
        return self.has(name) or name in self._former

    def named(self, names: Iterable[bytes]) -> Facts:
        """Of the facts of these names those in the set."""
        return _sorted_out(
            self._parts[name[0]][name] for name in names if self.has(name)
        )

    def besides(self, buckets: Iterable[int], names: Collection[bytes]) -> Facts:
        """The facts in some buckets that have other names than these."""
        return _sorted_out(
            kept
            for at in buckets
            for name, kept in self._parts[at].items()
            if name not in names
        )


def _sorted_out(kept: Iterable[Kept]) -> Facts:
    """Facts of any kinds as they travel."""
    by_kind: dict[str, list[Fact]] = {}
    for kind, fact in kept:
        by_kind.setdefault(kind, []).append(fact)

    def of(kind: str) -> Iterator[Fact]:
        return iter(by_kind.get(kind, ()))

    return Facts(
        tuple(fact for fact in of("member") if isinstance(fact, Membership)),
        next((fact for fact in of("start") if isinstance(fact, Signed)), None),
        tuple(fact for fact in of("revocation") if isinstance(fact, Revocation)),
        tuple(fact for fact in of("accusation") if isinstance(fact, Signed)),
        tuple(fact for fact in of("recovery") if isinstance(fact, Recovery)),
        tuple(fact for fact in of("evidence") if isinstance(fact, Evidence)),
    )


def bucket(about: bytes) -> int:
    """The bucket of all facts about the same."""
    return hashlib.blake2b(about, digest_size=1).digest()[0] % DIGEST_BUCKETS


def _name(at: int, number: int) -> bytes:
    return bytes([at]) + number.to_bytes(16, "big")[1 - FACT_ID_BYTES :]


@lru_cache(maxsize=4 * MAX_ROSTER)
def _hash(kind: str, fact: Fact) -> int:
    """Of exactly the bytes that are passed on."""
    named = hashlib.blake2b(digest_size=16, person=kind.encode())
    for part in _bytes(fact):
        named.update(len(part).to_bytes(4, "big") + part)
    return int.from_bytes(named.digest(), "big")


def _bytes(fact: Fact) -> tuple[bytes, ...]:
    if isinstance(fact, Evidence):
        return (*_bytes(fact.first)[:2], *_bytes(fact.second)[:2])
    if isinstance(fact, Signed):
        signed, credential = fact, b""
    elif isinstance(fact, Membership):
        signed, credential = fact.record, fact.credential
    else:
        signed, credential = fact.statement, fact.credential
    return (signed.payload, signed.signature, credential)
