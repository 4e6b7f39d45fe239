"""Who reduces which range: loads first, then lots.

``share_out`` gives each range that somebody trains one reducer and one backup, such
that what peers send and receive, and what they add up, stays even relative to their
sub-models. It knows ranges only as columns: their holders, next holders and sizes. All
is integer arithmetic in a fixed order, so every peer computes the same.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from p2pfusion.split.grid import Counts, Mask

Lot = NDArray[np.uint64]

NOBODY = np.zeros(0, np.int64)

LOAD_SCALE = 16
MAX_LOAD_FACTOR = 1_024
"""A peer's load counts ``LOAD_SCALE x largest sub-models / its own`` times, at most
MAX_LOAD_FACTOR: 2^51 elements (1,024 peers, 2^40 parameters) times that are below 2^63.
"""

MAX_ADDED_WEIGHT = 4
"""An added element counts at most as many moved ones: where as many peers hold a range
as will hold it, a peer moves four sub-models and adds up one. 2^50 elements are added
(by 1,024 peers) at most."""

LOTS_BLOCK = 1_024
"""Ranges whose lots are drawn at once: eight bytes for each of them and each peer."""

DIRECT_SLACK = 16
"""A peer that holds a range and will hold it is passed over when its load is ahead of
another holder's by more than 1/16 of its own sub-models."""

HOME_SLACK = 64
"""The previous home stays reducer while its load is within 1/64 of its own sub-models
of the least loaded candidate's: the state that lives there moves less, and the balance
suffers by no more than that."""


@dataclass(frozen=True, eq=False)
class Lots:
    """Rendezvous hashing: the peer with the smallest lot for a range wins a tie."""

    base: Lot
    peers: Lot

    @classmethod
    def draw(cls, seed: int, round_index: int, peers: Sequence[str]) -> Lots:
        """The lots of one round; a peer enters by its name alone."""
        names = b"".join(hashlib.sha256(peer.encode()).digest()[:8] for peer in peers)
        text = f"p2pfusion plan {seed} {round_index}".encode()
        base = np.frombuffer(hashlib.sha256(text).digest()[:8], "<u8")
        return cls(
            base.astype(np.uint64), np.frombuffer(names, "<u8").astype(np.uint64)
        )

    def of(self, ranges: Counts) -> Lot:
        """(ranges, peers): everybody's lots for some ranges."""
        return _mix(_mix(ranges.astype(np.uint64) + self.base)[:, None] ^ self.peers)


def _mix(values: Lot) -> Lot:
    """The finaliser of splitmix64, on arrays (which wrap around silently)."""
    mixed = values + np.uint64(0x9E3779B97F4A7C15)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return mixed ^ (mixed >> np.uint64(31))


def share_out(
    holders: Mask,
    next_holders: Mask,
    sizes: Counts,
    *,
    own: Counts,
    pulls: Counts,
    previous: Counts,
    lots: Lots,
    among_holders: bool = False,
) -> tuple[Counts, Counts]:
    """The reducer and the backup of every range, -1 where nobody trains it.

    ``own``: elements of each peer's current and following sub-model; ``pulls``:
    elements that it moves to and from homes; ``previous``: each range's home so far, or
    -1. All peers are positions. Ranges are given away in order of what they cost to
    move. The backup, -1 if there is only one peer, is drawn by lot: first among those
    that hold the range and will hold it, then among those that do either, then among
    all. ``among_holders``: only who holds a range reduces it, and backups hold it too
    where others than the reducer do.
    """
    reducer, backup = (np.full(len(sizes), -1, np.int64) for _ in range(2))
    held = holders.sum(axis=0, dtype=np.int64)
    wanted = next_holders.sum(axis=0, dtype=np.int64)
    direct = np.sum(holders & next_holders, axis=0)
    copies = held + wanted
    # With one more transfer it still costs no more than pulling from every holder.
    relievable: Mask = (held - 1) * (wanted - 1) >= direct
    moves, adds = copies * sizes, held * sizes
    order = np.argsort(-moves, kind="stable")
    trained: Mask = np.any(holders, axis=0)
    order = order[trained[order]]
    untrained = next_holders[:, ~trained] @ sizes[~trained]
    at_first = own - untrained + pulls
    saved = np.where(direct > 0, 4, 2) * sizes
    moved = int(at_first.sum() + (moves - saved)[trained].sum())
    ledger = Ledger(own, at_first, 3 * moved // (4 * int(adds.sum()) or 1))
    for start in range(0, len(order), LOTS_BLOCK):
        block = order[start : start + LOTS_BLOCK]
        tickets = lots.of(block)
        ties = holders[:, block].T.astype(np.int8) + next_holders[:, block].T
        if among_holders:
            ties[~holders[:, block].T] = 0
        chosen = ledger.give_away(
            ties,
            tickets,
            sizes=sizes[block],
            copies=copies[block],
            adds=adds[block],
            relievable=relievable[block],
            previous=previous[block],
        )
        reducer[block] = chosen
        backup[block] = _backups(ties, tickets, chosen)
    return reducer, backup


def _backups(ties: NDArray[np.int8], tickets: Lot, reducer: list[int]) -> Counts:
    rank = np.array([2, 1, 0], np.uint64)[ties] << np.uint64(62)
    rank |= tickets >> np.uint64(2)
    rank[np.arange(len(rank)), reducer] = np.uint64(0xFFFF_FFFF_FFFF_FFFF)
    return np.argmin(rank, axis=1) if rank.shape[1] > 1 else np.full(len(rank), -1)


class Ledger:
    """What every peer will move and add up in this round, relative to its sub-models.

    *Moved* is all that it sends and receives. ``start`` is what it moves if it reduces
    nothing: contributions of all it holds, fused copies of all it will hold, and pulls
    from homes. *Added* are the elements of all contributions to what it reduces; each
    counts as ``weight`` moved ones. A peer's load is the larger of the two. With the
    weight that ``share_out`` gives, what is moved decides, unless somebody would add a
    third more than others.
    """

    def __init__(self, own: Counts, start: Counts, weight: int) -> None:
        factors = LOAD_SCALE * own.max(initial=0) // np.maximum(own, 1)
        self._factors = np.clip(factors, 1, MAX_LOAD_FACTOR)
        self._weights = self._factors * min(max(weight, 1), MAX_ADDED_WEIGHT)
        self._moved = start * self._factors
        self._added = np.zeros(len(own), np.int64)
        self._home_slack = own * self._factors // HOME_SLACK
        self._direct_slack = own * self._factors // DIRECT_SLACK

    def give_away(
        self,
        ties: NDArray[np.int8],
        tickets: Lot,
        *,
        sizes: Counts,
        copies: Counts,
        adds: Counts,
        relievable: Mask,
        previous: Counts,
    ) -> list[int]:
        """A reducer for each range in turn: who has the least load with it.

        ``ties`` (ranges, peers): 2 for a holder and next holder, 1 for one of them,
        else 0. Those with 2 are the candidates, as they save two transfers; where there
        are none, or they are overloaded and the range is ``relievable``, those with 1
        are too.
        """
        chosen: list[int] = []
        direct, single = _Names(ties == 2), _Names(ties == 1)
        best = ties.max(axis=1)
        known = (previous >= 0) & (ties[np.arange(len(ties)), previous] == best)
        wishes = np.where(known, previous, -1).tolist()
        columns = (sizes, copies, adds)
        rows = zip(wishes, *(column.tolist() for column in columns), strict=True)
        for row, (wish, size, count, added) in enumerate(rows):
            tie = int(best[row])
            able = (direct if tie == 2 else single).of(row)
            cost = (count - 2 * tie) * size
            pick, load = self._least(able, cost, added, tickets[row], wish)
            bound = load - self._direct_slack[pick]
            others = single.of(row) if tie == 2 and relievable[row] else NOBODY
            # Where everybody has moved as much already, nobody need be asked.
            if len(others) and bound > self._moved.min():
                dear = cost + 2 * size
                other, load = self._least(others, dear, added, tickets[row], -1)
                if load < bound:
                    pick, cost = other, dear
            self._moved[pick] += cost * self._factors[pick]
            self._added[pick] += added * self._weights[pick]
            chosen.append(pick)
        return chosen

    def _least(
        self, able: Counts, cost: int, added: int, tickets: Lot, wished: int
    ) -> tuple[int, int]:
        """Who has the least load with a range, and that load; the wished one if it is
        about as good.

        Among equals the one that adds up least so far; by lot if these are equal too.
        """
        moved = self._moved[able] + cost * self._factors[able]
        summed = self._added[able] + added * self._weights[able]
        loads = np.maximum(moved, summed)
        least = int(loads[loads.argmin()])
        if wished >= 0:
            load = int(loads[able.searchsorted(wished)])
            if load - self._home_slack[wished] <= least:
                return wished, load
        equal = loads == least
        found = able[equal]
        if len(found) > 1:
            fewest = summed[equal]
            found = found[fewest == fewest.min()]
            return int(found[tickets[found].argmin()]), least
        return int(found[0]), least


class _Names:
    """The columns that are true in each row of a mask."""

    def __init__(self, mask: Mask) -> None:
        self._columns = np.nonzero(mask)[1]
        self._stops = [0, *np.cumsum(np.count_nonzero(mask, axis=1)).tolist()]

    def of(self, row: int) -> Counts:
        return self._columns[self._stops[row] : self._stops[row + 1]]
