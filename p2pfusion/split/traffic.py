"""How many elements a plan moves: what each peer sends, and what it receives."""

from __future__ import annotations

import numpy as np

from p2pfusion.split.grid import Counts, Mask
from p2pfusion.split.homes import HomePulls


def planned_traffic(
    reducer: Counts,
    sizes: Counts,
    *,
    holders: Mask,
    next_holders: Mask,
    pulls: HomePulls,
) -> tuple[Counts, Counts]:
    """Elements sent and received in all planned streams, for every peer.

    ``reducer`` and ``sizes`` are per range, the masks (peers, ranges).
    """
    trained = np.flatnonzero(reducer >= 0)
    reducer, sizes = reducer[trained], sizes[trained]
    sent, received = pulls.sent.copy(), pulls.received.copy()
    for members, outward, inward in (
        (holders, sent, received),
        (next_holders, received, sent),
    ):
        # What a member moves to or from reducers, and they to or from it.
        there = members[:, trained]
        own = there[reducer, np.arange(len(trained))]
        outward += there @ sizes
        np.subtract.at(outward, reducer, own * sizes)
        np.add.at(inward, reducer, (there.sum(axis=0) - own) * sizes)
    return sent, received
