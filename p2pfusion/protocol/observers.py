"""Who watches whom: neighbours on a circle of hashes.

Every member has a place on a circle, by a hash of the swarm and its id. Its observers
are the nearest members, as many before it as after it, or all others where there are
few. So who watches whom is as good as drawn by lot, both watch each other, and one that
comes or goes changes it for its neighbours only.
"""

from __future__ import annotations

import hashlib
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence
from functools import lru_cache

from p2pfusion.limits import MAX_ROSTER, OBSERVERS

AROUND = 1 << 64

Spot = tuple[int, str]
"""A place on the circle, and who is there."""


@lru_cache(maxsize=4 * MAX_ROSTER)
def place(swarm: str, peer: str) -> int:
    """Where on the circle of a swarm somebody is."""
    named = hashlib.blake2b(f"{swarm}\0{peer}".encode(), digest_size=8)
    return int.from_bytes(named.digest(), "big")


def circle(swarm: str, peers: Iterable[str]) -> list[Spot]:
    """All of these, in order."""
    return sorted((place(swarm, peer), peer) for peer in peers)


def distance(one: int, other: int) -> int:
    """How far apart two places are, the shorter way round."""
    ahead = (one - other) % AROUND
    return min(ahead, AROUND - ahead)


def neighbours(around: Sequence[Spot], spot: Spot) -> tuple[str, ...]:
    """The observers of whoever is at a spot, whether on the circle itself or not."""
    at = bisect_left(around, spot)
    is_there = at < len(around) and around[at] == spot
    count = len(around) - is_there
    if count <= OBSERVERS:
        return tuple(peer for place, peer in around if (place, peer) != spot)
    half, after = OBSERVERS // 2, at + is_there
    steps = (*range(at - half, at), *range(after, after + half))
    return tuple(around[step % len(around)][1] for step in steps)


def observed(
    around: Sequence[Spot], others: Sequence[Spot], spot: Spot
) -> tuple[str, ...]:
    """Of the peers of another circle those whose observers, taken from the first one,
    whoever is at a spot of that is among."""
    at = bisect_left(around, spot)
    if at == len(around) or around[at] != spot:
        return ()
    if len(around) <= OBSERVERS:
        return tuple(peer for place, peer in others if (place, peer) != spot)
    half = OBSERVERS // 2
    first, last = (around[(at + step) % len(around)] for step in (-half, half))
    begin, end = bisect_left(others, first), bisect_right(others, last)
    arc = others[begin:end] if first < last else [*others[begin:], *others[:end]]
    return tuple(peer for place, peer in arc if (place, peer) != spot)
