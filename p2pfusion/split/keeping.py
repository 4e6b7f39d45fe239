"""What a reducer must ask for to keep a range alive to which nobody contributes.

The plans count a range as new that was to be trained. If all its holders are gone, its
reducer passes on the newest values from before, so that the plans stay true. Where it
has not got these itself, others have them by the table of homes.
"""

from __future__ import annotations

from collections.abc import Collection

import numpy as np

from p2pfusion.split.grid import Mask
from p2pfusion.split.homes import Homes
from p2pfusion.split.hops import Hop
from p2pfusion.split.streams import ExchangePlan

Cells = tuple[Mask, ...]
"""Per signature, over the grid."""


def cells_to_keep(
    plan: ExchangePlan,
    reducer: str,
    *,
    instead_of: str,
    came: Collection[str],
    has_own: bool,
) -> Cells:
    """Cells that the reducer fuses, that came from nobody and that it has not newest.

    ``came``: whose whole contributions have arrived. () where nothing is missing.
    """
    failed = instead_of or None
    own = plan.own_ranges(reducer, instead_of=failed)
    sources = plan.sources(Hop.CONTRIBUTION, reducer, instead_of=failed)
    if (has_own or not own.size) and all(source in came for source in sources):
        return ()  # as in nearly every round: a range that is reduced has a holder
    bare = np.zeros(len(plan.range_sizes), np.bool_)
    bare[plan.reduced_by(reducer, instead_of=failed)] = True
    for source in came:
        ends = {"source": source, "target": reducer}
        bare[plan.ranges(Hop.CONTRIBUTION, **ends, instead_of=failed)] = False
    if has_own:
        bare[own] = False
    return tuple(
        bare[grid.cells] & plan.homes.lacking(reducer, index)
        for index, grid in enumerate(plan.grids)
    )


def keepers(plan: ExchangePlan, cells: Cells, among: Collection[str]) -> list[str]:
    """Few of these peers that have all of the cells newest which any of them has."""
    chosen: list[str] = []
    if not any(mask.any() for mask in cells):
        return chosen  # as in nearly every round
    there = [peer for peer in plan.peers if peer in among]
    rest = {peer: held_by(plan.homes, cells, peer) for peer in there}
    while rest:
        sizes = {peer: count_cells(held) for peer, held in rest.items()}
        best = max(sorted(sizes), key=lambda peer: sizes[peer])
        if not sizes[best]:
            break
        chosen.append(best)
        found = rest.pop(best)
        rest = {peer: minus(held, found) for peer, held in rest.items()}
    return chosen


def held_by(homes: Homes, cells: Cells, peer: str) -> Cells:
    """Those of the cells of which the peer has the newest values, by the table."""
    return tuple(
        mask & homes.copies(index, [peer])[0] for index, mask in enumerate(cells)
    )


def minus(cells: Cells, others: Cells) -> Cells:
    """The cells without the others, if there are any."""
    if not others:
        return cells
    return tuple(a & ~b for a, b in zip(cells, others, strict=True))


def count_cells(cells: Cells) -> int:
    """How many these are."""
    return sum(int(mask.sum()) for mask in cells)
