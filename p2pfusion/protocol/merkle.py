"""One hash for many values, with a short proof for each of them.

A binary tree over the leaves, in order; of each pair the smaller hash comes first, so a
proof need not say on which side its leaf stands. A leaf without a partner goes up as it
is. Leaves and inner nodes are hashed apart, so that neither can be taken for the other.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

HASH_BYTES = 16

MAX_PROOF_BYTES = HASH_BYTES * 10
"""For as many leaves as a swarm has members."""

EMPTY = bytes(HASH_BYTES)
"""The root of a tree without leaves."""


def leaf(owner: str, digest: bytes) -> bytes:
    """The leaf that says what is meant for somebody."""
    name = owner.encode()
    return _hash(b"\0", len(name).to_bytes(2, "big"), name, digest)


def root(leaves: Sequence[bytes]) -> bytes:
    """The hash of all leaves."""
    return _top(_levels(leaves))


def proof(leaves: Sequence[bytes], position: int) -> bytes:
    """What leads from one leaf to the root."""
    return _path(_levels(leaves), position)


def tree(given: Sequence[tuple[str, bytes]]) -> tuple[bytes, dict[str, bytes]]:
    """Over what some get, hashed: the root, and each one's proof."""
    levels = _levels([leaf(owner, digest) for owner, digest in given])
    proofs = {owner: _path(levels, at) for at, (owner, _) in enumerate(given)}
    return _top(levels), proofs


def holds(top: bytes, one: bytes, shown: bytes) -> bool:
    """Whether a proof leads from this leaf to that root."""
    if len(shown) % HASH_BYTES or len(shown) > MAX_PROOF_BYTES:
        return False
    for start in range(0, len(shown), HASH_BYTES):
        one = _pair(one, shown[start : start + HASH_BYTES])
    return one == top


def _levels(leaves: Sequence[bytes]) -> list[list[bytes]]:
    """The leaves, and each level above the one before it, up to a single hash."""
    levels = [list(leaves)]
    while len(levels[-1]) > 1:
        levels.append(_above(levels[-1]))
    return levels


def _top(levels: Sequence[Sequence[bytes]]) -> bytes:
    return levels[-1][0] if levels[0] else EMPTY


def _path(levels: Sequence[Sequence[bytes]], position: int) -> bytes:
    steps = []
    for level in levels[:-1]:
        partner = position ^ 1
        if partner < len(level):
            steps.append(level[partner])
        position //= 2
    return b"".join(steps)


def _above(level: Sequence[bytes]) -> list[bytes]:
    pairs = [_pair(*level[at : at + 2]) for at in range(0, len(level) - 1, 2)]
    return [*pairs, *level[len(level) - len(level) % 2 :]]


def _pair(one: bytes, other: bytes) -> bytes:
    return _hash(b"\1", min(one, other), max(one, other))


def _hash(*parts: bytes) -> bytes:
    return hashlib.sha256(b"".join(parts)).digest()[:HASH_BYTES]
