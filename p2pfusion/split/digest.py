"""The name of a plan: peers that have the same one agree about every coordinate."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence

from p2pfusion.split.homes import Homes
from p2pfusion.split.layout import Layout
from p2pfusion.split.segment import Split

AS_TEXT = json.JSONEncoder(separators=(",", ":"))


def plan_digest(
    layout: Layout,
    seed: int,
    round_index: int,
    peers: Sequence[str],
    now: Sequence[Split | None],
    then: Sequence[Split | None],
    homes: Homes,
    rules: Sequence[object],
) -> bytes:
    """Sixteen bytes that follow from all that a plan follows from.

    ``rules``: what else it follows from, as plain values.
    """
    rows = [
        [peer, *("" if split is None else split.digest.hex() for split in splits)]
        for peer, *splits in zip(peers, now, then, strict=True)
    ]
    layouts = layout.digest.hex()
    fixed = [layouts, seed, round_index, rows, homes.digest.hex(), *rules]
    return hashlib.sha256(AS_TEXT.encode(fixed).encode()).digest()[:16]
