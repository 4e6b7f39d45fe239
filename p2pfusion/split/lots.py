"""Lots: an order of peers that nobody chooses and everybody knows.

Rendezvous hashing: each peer's lot is a hash of its own name, so who else is there
changes who is first only by being before or behind. Where the first is missing, the
next in order takes its place.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection


def by_lot(
    what: str, seed: int, round_index: int, peers: Collection[str]
) -> tuple[str, ...]:
    """The peers by their lots in one round, the lowest first. ``what`` is drawn for
    decides, too: one peer's lots for different things have nothing in common."""

    def lot(peer: str) -> bytes:
        text = f"p2pfusion {what} {seed} {round_index} {peer}"
        return hashlib.sha256(text.encode()).digest()

    return tuple(sorted(peers, key=lambda peer: (lot(peer), peer)))
