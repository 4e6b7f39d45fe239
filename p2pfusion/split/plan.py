"""The plan of one round's exchange: who owes whom which part of the model.

From all peers' splits of this round and the next follow, for every range (a product of
atoms of the axes of one signature), its holders, who train it now, its next holders,
who need it afterwards, one reducer and one backup. The exchange then has two hops:
contributions from holders to reducers, fused values from reducers to next holders. What
nobody trains this round comes from its home instead. Which split counts, this round's
or the next one's, is decided here and nowhere else.

Where a fused range would have fewer copies than ``replication``, its backup is a next
holder, too; what nobody trains is pulled by further peers where copies were lost.

A range costs ``holders + next holders`` transfers, less those that the reducer would
send to itself. Invariants: all peers that know the same splits and homes compute the
same plan, whatever the order of the mappings; every element of a following split
arrives exactly once, or is there already, or has no living copy.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from p2pfusion.split.copies import Copies
from p2pfusion.split.digest import plan_digest
from p2pfusion.split.grid import Mask
from p2pfusion.split.homes import HomePulls, Homes
from p2pfusion.split.hops import Hop as Hop
from p2pfusion.split.layout import Layout
from p2pfusion.split.ranges import ranges_of
from p2pfusion.split.reducers import Lots, share_out
from p2pfusion.split.segment import Split
from p2pfusion.split.streams import ExchangePlan as ExchangePlan


def plan_round(
    layout: Layout,
    *,
    seed: int,
    round_index: int,
    current: Mapping[str, Split],
    following: Mapping[str, Split],
    homes: Homes,
    replication: int = 0,
    among_holders: bool = False,
) -> ExchangePlan:
    """The plan for these splits of this round and of the next.

    Of a current split counts what is trained, of a following one all that is held.
    ``replication``: how many copies everything shall have after the round, among those
    who have a part in the next. ``among_holders``: who reduces a range trains it, so it
    has the values from before. ``LayoutError`` if a split does not consist of whole
    cells.
    """
    peers = tuple(sorted({*current, *following}))
    now = tuple(current[p].trained if p in current else None for p in peers)
    then = tuple(following.get(peer) for peer in peers)
    ranges = ranges_of(layout, now, then)
    settled = homes.with_peers(peers).settled(peers)
    lots = Lots.draw(seed, round_index, peers)
    copies = Copies(_given(then), lots, replication)
    pulls = HomePulls.of(
        layout, settled, peers, trained=ranges.trained(), wanted=ranges.wanted()
    )
    pulls = copies.restored(layout, settled, pulls, peers=peers, ranges=ranges.cells)
    reducer, backup = share_out(
        ranges.holders,
        ranges.next_holders,
        ranges.sizes,
        own=ranges.own_elements,
        pulls=pulls.sent + pulls.received,
        previous=ranges.first_homes(pulls.home),
        lots=lots,
        among_holders=among_holders,
    )
    kept = copies.kept(ranges.holders, ranges.next_holders, reducer)
    rules = [replication, *(["among holders"] if among_holders else [])]
    digest = plan_digest(layout, seed, round_index, peers, now, then, homes, rules)
    return ExchangePlan(
        round_index=round_index,
        layout=layout,
        peers=peers,
        homes=settled,
        digest=digest,
        range_sizes=ranges.sizes,
        grids=ranges.grids,
        holders=ranges.holders,
        next_holders=kept,
        reducer=reducer,
        backup=backup,
        wanted=tuple(kept[:, cells] for cells in ranges.cells),
        pulls=pulls,
    )


def _given(splits: Sequence[Split | None]) -> Mask:
    return np.array([split is not None for split in splits], np.bool_)
