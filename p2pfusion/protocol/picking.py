"""Choosing a few of many, by hashing: the same for the same salt, and even."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence


def pick(peers: Sequence[str], count: int, salt: str) -> list[str]:
    """``count`` different ones of a sorted list, or all; at the cost of these few."""
    if len(peers) <= count:
        return list(peers)
    chosen: dict[str, None] = {}
    number = 0
    while len(chosen) < count:
        drawn = hashlib.blake2b(f"{salt} {number}".encode(), digest_size=8).digest()
        chosen[peers[int.from_bytes(drawn) % len(peers)]] = None
        number += 1
    return list(chosen)
