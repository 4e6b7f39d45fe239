"""How many copies there are of everything, and who makes another one.

A range that a round fuses is afterwards at its reducer and at its next holders. Where
these are fewer than the swarm wants copies, further peers become next holders, too.
What nobody trains keeps its copies where they are; where too few of their owners stay,
further peers pull one from its home. Whoever leaves with this round does not count.
After the last round others take the place of those who are gone, in the same way.

Who makes a copy is drawn by lot, so every peer finds the same without asking.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

import numpy as np

from p2pfusion.split.grid import Counts, Mask
from p2pfusion.split.homes import HomePulls, Homes
from p2pfusion.split.layout import Layout
from p2pfusion.split.reducers import LOTS_BLOCK, Lot, Lots

BARRED = np.uint64(0xFFFF_FFFF_FFFF_FFFF)


@dataclass(frozen=True, eq=False)
class Copies:
    """How many copies are wanted of everything, and among whom."""

    stays: Mask
    """(peers,): who has a part in the next round."""
    lots: Lots
    replication: int

    def kept(self, holders: Mask, next_holders: Mask, reducer: Counts) -> Mask:
        """The next holders (peers, ranges), and who besides gets a fused copy.

        Holders come before others, as the backup is drawn: where it stays and is no
        next holder, it is the first.
        """
        trained = np.flatnonzero(reducer >= 0)
        there = next_holders[:, trained].copy()
        there[reducer[trained], np.arange(len(trained))] = True
        there &= self.stays[:, None]
        few = there.sum(axis=0) < self.replication
        ranges, there = trained[few], there[:, few].T
        found = next_holders.copy()
        for start in range(0, len(ranges), LOTS_BLOCK):
            block = ranges[start : start + LOTS_BLOCK]
            rank = self.lots.of(block) >> np.uint64(2)
            others = np.where(holders[:, block].T, 0, 1).astype(np.uint64)
            rank |= others << np.uint64(62)
            found[:, block] |= self.drawn(rank, there[start : start + LOTS_BLOCK]).T
        return found

    def restored(
        self,
        layout: Layout,
        homes: Homes,
        pulls: HomePulls,
        *,
        peers: Sequence[str],
        ranges: Sequence[Counts],
    ) -> HomePulls:
        """The pulls from homes, and with them those that make up for lost copies.

        ``ranges``: the number of each cell's range, per signature. Cells of one range
        that have the same copies are drawn for together.
        """
        more: list[Mask] = []
        pairs = zip(pulls.source, pulls.lacked, strict=True)
        for index, (source, lacked) in enumerate(pairs):
            stays = self.stays.reshape(-1, *(1 for _ in source.shape))
            has = (homes.copies(index, peers) | lacked) & stays
            few = (source >= 0) & (has.sum(axis=0) < self.replication)
            more.append(np.zeros_like(lacked))
            if few.any():
                rank = self.lots.of(ranges[index][few])
                more[-1][:, few] = self.drawn(rank, has[:, few].T).T
        if not any(mask.any() for mask in more):
            return pulls
        return pulls.with_more(layout, more)

    def drawn(self, rank: Lot, has: Mask) -> Mask:
        """Who makes a copy, per row: the lowest ranks, until there are enough."""
        rank = np.where(has | ~self.stays, BARRED, rank)
        missing = self.replication - has.sum(axis=1)
        chosen = np.zeros_like(has)
        rows = np.arange(len(rank))
        for turn in range(int(missing.max(initial=0))):
            best = rank.argmin(axis=1)
            good = (missing > turn) & (rank[rows, best] != BARRED)
            chosen[rows[good], best[good]] = True
            rank[rows, best] = BARRED
        return chosen


def upkept(
    homes: Homes,
    *,
    living: Collection[str],
    ranges: Sequence[Counts],
    seed: int,
    round_index: int,
    replication: int,
) -> Homes:
    """The table when nobody trains any more, and in it who makes up for the gone.

    ``living``: who of those in the table is not gone; ``ranges`` as above. Whoever was
    drawn once is drawn again as long as it is there, whoever goes or comes back, and in
    which order: the lots are those of one round, and depend on names alone.
    """
    names = sorted(living)
    rows, lots = homes.rows(names), Lots.draw(seed, round_index, names)
    copies = Copies(np.ones(len(names), np.bool_), lots, min(replication, len(names)))
    newest: list[Mask] = []
    for table, version, numbers in zip(
        homes.newest, homes.version, ranges, strict=True
    ):
        said = table.reshape(len(homes.peers), version.size).copy()
        has = said[rows]
        few = (version.reshape(-1) > 0) & (has.sum(axis=0) < copies.replication)
        places = np.flatnonzero(few)
        for start in range(0, len(places), LOTS_BLOCK):
            block = places[start : start + LOTS_BLOCK]
            rank = lots.of(numbers.reshape(-1)[block])
            said[np.ix_(rows, block)] |= copies.drawn(rank, has[:, block].T).T
        newest.append(said.reshape(table.shape))
    return replace(homes, newest=tuple(newest))
