"""Who hides among whom: the ranges of one reducer, by the peers that hold them.

For secure aggregation. All ranges of a *group* have the same holders, so a group is
opened as a whole or not at all. What hides a contribution are the other holders; the
reducer is none of these, since it sees through masks that it shares. A group of fewer
than ``FEWEST`` holders cannot be hidden. Both ends compute the same from the plan.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from p2pfusion.split.grid import Counts
from p2pfusion.split.streams import ExchangePlan

FEWEST = 3
"""Contributions of which a sum may be known: of two, each of the two contributors, and
a reducer that is one of them, would know the other's."""

SEED_BYTES = 32
ELEMENT_BYTES = 4


@dataclass(frozen=True, eq=False)
class Group:
    """Some ranges, and who holds all of them: positions in the plan, ascending."""

    ranges: Counts
    holders: tuple[int, ...]

    @property
    def is_hidden(self) -> bool:
        """Whether there are enough holders to hide among."""
        return len(self.holders) >= FEWEST

    def hiders(self, reducer: int) -> tuple[int, ...]:
        """The holders that have masks with each other."""
        return tuple(holder for holder in self.holders if holder != reducer)

    def is_open_without(self, missing: Iterable[int]) -> bool:
        """Whether enough have contributed, if these have not."""
        return len(set(self.holders) - set(missing)) >= FEWEST


def groups(
    plan: ExchangePlan, reducer: str, *, instead_of: str = ""
) -> tuple[Group, ...]:
    """The groups of all that a peer reduces, in the same order everywhere."""
    reduced = plan.reduced_by(reducer, instead_of=instead_of or None)
    if not reduced.size:
        return ()
    rows = np.packbits(plan.holders[:, reduced], axis=0).T
    _, firsts, labels = np.unique(rows, axis=0, return_index=True, return_inverse=True)
    return tuple(
        Group(
            reduced[labels.reshape(-1) == label],
            tuple(np.flatnonzero(plan.holders[:, reduced[first]]).tolist()),
        )
        for label, first in enumerate(firsts.tolist())
    )


def seed_elements(
    plan: ExchangePlan, source: str, reducer: str, *, instead_of: str = ""
) -> int:
    """Length of the stream of seeds that a holder gives a reducer.

    For each hidden group its own seed, and an entry for each other peer that hides.
    """
    if source not in plan.peers or reducer not in plan.peers or source == reducer:
        return 0
    giver, taker = plan.peers.index(source), plan.peers.index(reducer)
    entries = sum(
        len(group.hiders(taker))
        for group in groups(plan, reducer, instead_of=instead_of)
        if group.is_hidden and giver in group.holders
    )
    return entries * SEED_BYTES // ELEMENT_BYTES


def withheld_part(plan: ExchangePlan) -> float:
    """Of all values that are trained, the part with too few holders to hide."""
    held = plan.holders.sum(axis=0)
    small = (held > 0) & (held < FEWEST)
    trained = int(plan.range_sizes[held > 0].sum())
    return int(plan.range_sizes[small].sum()) / trained if trained else 0.0


def pack_missing(plan: ExchangePlan, missing: Iterable[str]) -> bytes:
    """One bit for each peer of the plan, set for those whose contribution is lost."""
    lost = set(missing)
    return np.packbits([peer in lost for peer in plan.peers]).tobytes()


def unpack_missing(plan: ExchangePlan, packed: bytes) -> frozenset[int]:
    """The positions of those that the bits name; bits behind the last peer are none."""
    bits = np.unpackbits(np.frombuffer(packed, np.uint8), count=len(plan.peers))
    return frozenset(np.flatnonzero(bits).tolist())
