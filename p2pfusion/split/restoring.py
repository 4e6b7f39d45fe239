"""What a peer lacks of that which the table of homes says it has, and how it asks.

The table says how the rounds were planned. Whoever was away in one, or gave something
up, lacks cells that it is said to have newest. It knows which, and names them to others
that have them: one bit for each cell of the model. Whatever was named and is trained by
nobody is in the stream, so both ends agree about every coordinate, and the source marks
what it has not got.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from p2pfusion.split.grid import (
    grid_shape,
    product_segments,
    rectangles,
    single_cells,
)
from p2pfusion.split.homes import Homes
from p2pfusion.split.indices import IndexSet
from p2pfusion.split.keeping import Cells, count_cells, held_by, minus
from p2pfusion.split.layout import Layout
from p2pfusion.split.segment import Segment
from p2pfusion.split.streams import ExchangePlan

MAX_ASKED_BYTES = 32 * 1024
"""Of one request: a quarter of a million cells, in half of a control frame. What lies
farther apart is asked for in a later round."""

SKIPPED_BYTES = 4
"""Begin what is packed: how many bytes without any bit were left out before it."""

MAX_FORMER_CELLS = 1_024
"""Cells of one round of which a peer remembers who had them before it."""

MAX_HERE = 16
"""Different versions of lacking cells about which others are asked in one round."""

MAX_VERSION = 2**31 - 1

Versions = tuple[NDArray[np.int32], ...]
"""Per signature, over the grid."""

ONE_BY_ONE = 1_024
"""So few cells travel one by one: one that the source lacks then hides no other."""


def lacking_cells(
    plan: ExchangePlan, peer: str, versions: Versions, among: Cells = ()
) -> Cells:
    """Cells that the peer has newest by the table, or that are ``among`` these, and are
    older by these versions.

    ``versions``: of the peer's own store, per signature over the grid. What is trained
    in this round is left out: it gets a new version.
    """
    may = _untrained(plan)
    if plan.homes.position(peer) is None and not among:
        return tuple(np.zeros_like(mask) for mask in may)
    shall = among or held_by(plan.homes, may, peer)
    found = zip(may, shall, versions, plan.homes.version, strict=True)
    return tuple(mask & has & (own < newest) for mask, has, own, newest in found)


def without_pulled(plan: ExchangePlan, peer: str, cells: Cells) -> Cells:
    """Those of the cells that do not come anyway to a peer that catches up."""
    if peer not in plan.peers:
        return cells
    me = plan.peers.index(peer)
    pairs = zip(cells, plan.wanted, plan.pulls.source, strict=True)
    return tuple(
        mask & ~(wanted[me] & (source >= 0) & (source != me))
        for mask, wanted, source in pairs
    )


def asked_cells(plan: ExchangePlan, asked: bytes) -> Cells:
    """Of the cells that were named those that nobody trains."""
    pairs = zip(_untrained(plan), unpack_cells(plan.layout, asked), strict=True)
    return tuple(mask & named for mask, named in pairs)


@dataclass(frozen=True, eq=False)
class Said:
    """Whom a peer goes by that looks for what it lacks: who has the newest of what by
    which table, who may have something at all, and who of them can be asked."""

    homes: Homes
    peers: frozenset[str]
    among: frozenset[str]

    @classmethod
    def by(cls, plan: ExchangePlan) -> Said:
        """As a plan says."""
        return cls(plan.homes, frozenset(plan.peers), frozenset(plan.peers))

    def without(self, peers: frozenset[str]) -> Said:
        """The same, as if these had nothing."""
        return (
            Said(self.homes, self.peers - peers, self.among - peers) if peers else self
        )


def shared_out(
    layout: Layout,
    homes: Homes,
    cells: Cells,
    among: Collection[str],
    *,
    but: Mapping[str, Cells],
) -> dict[str, Cells]:
    """Few of these peers that have the cells newest, and which each is asked for.

    ``but``: what each was asked for before.
    """
    chosen: dict[str, Cells] = {}
    rest = {peer: held_by(homes, cells, peer) for peer in sorted(among)}
    rest = {peer: minus(held, but.get(peer, ())) for peer, held in rest.items()}
    while rest:
        sizes = {peer: count_cells(held) for peer, held in rest.items()}
        best = max(sizes, key=lambda peer: sizes[peer])
        if not sizes[best]:
            break
        chosen[best] = unpack_cells(layout, pack_cells(rest.pop(best)))
        rest = {peer: minus(held, chosen[best]) for peer, held in rest.items()}
    return chosen


def nowhere(
    homes: Homes,
    cells: Cells,
    peers: Collection[str],
    denied: Mapping[str, Cells],
) -> Cells:
    """Those of the cells that each of these peers lacks that is said to have them."""
    for peer in peers:
        said = held_by(homes, cells, peer)
        cells = minus(cells, minus(said, denied.get(peer, ())))
    return cells


def plus(cells: Cells, others: Cells) -> Cells:
    """The cells with the others, if there are any."""
    if not others:
        return cells
    return tuple(a | b for a, b in zip(cells, others, strict=True))


def _untrained(plan: ExchangePlan) -> Cells:
    """Cells that nobody trains in this round."""
    return tuple(plan.reducer[grid.cells] < 0 for grid in plan.grids)


def wanted_versions(plan: ExchangePlan, least: int) -> Versions:
    """Per signature, over the grid, which version a source must have, or a later one.

    ``least`` is good enough for whoever names it; 0 stands for the newest by the table.
    """
    newest = plan.homes.version
    return tuple(np.full_like(each, least) for each in newest) if least else newest


def absent_cells(layout: Layout, cells: Cells, absent: bytes) -> Cells:
    """Which cells of a stream its source has marked as absent, in any parameter."""
    bits = iter(np.unpackbits(np.frombuffer(absent, np.uint8)).tolist())
    found = tuple(np.zeros_like(mask) for mask in cells)
    pairs = zip(layout.signatures, asked_products(cells), found, strict=True)
    for signature, products, lacking in pairs:
        for product in products:
            if any([next(bits, 1) for _ in signature.parameters]):
                lacking[np.ix_(*(np.fromiter(each, np.int64) for each in product))] = (
                    True
                )
    return found


@dataclass(frozen=True, eq=False)
class Former:
    """Cells, and who had this version of them when it was the newest by the table."""

    version: int
    holders: frozenset[str]
    cells: Cells

    def among(self, cells: Cells) -> Former:
        """Those of these cells."""
        kept = tuple(own & mask for own, mask in zip(self.cells, cells, strict=True))
        return Former(self.version, self.holders, kept)


def at_least(cells: Cells, versions: Versions, least: int) -> Cells:
    """Those of the cells that have such a version, or a later one."""
    return tuple(mask & (v >= least) for mask, v in zip(cells, versions, strict=True))


def formerly(homes: Homes, cells: Cells) -> list[Former]:
    """Who had the newest values of cells before a round, by its table: in groups.

    Of the first ``MAX_FORMER_CELLS``. What nobody had trained, version 0, all have.
    """
    groups: dict[tuple[int, frozenset[str]], Cells] = {}
    left = MAX_FORMER_CELLS
    for index, mask in enumerate(cells):
        rows = homes.newest[index].reshape(len(homes.peers), mask.size)
        places = np.flatnonzero(mask).tolist()[:left]
        left -= len(places)
        for place in places:
            newest = np.flatnonzero(rows[:, place]).tolist()
            key = (
                int(homes.version[index].flat[place]),
                frozenset(homes.peers[at] for at in newest),
            )
            none = tuple(np.zeros_like(each) for each in cells)
            groups.setdefault(key, none)[index].flat[place] = True
    return [Former(*key, found) for key, found in groups.items()]


def last_resort(
    peers: Collection[str], me: str, cells: Cells, versions: Versions
) -> list[Former]:
    """Of cells about which nothing is remembered: whatever anybody else has that is
    newer than what is here, and then what is here, by these versions."""
    others = frozenset(peers) - {me}
    pairs = list(zip(cells, versions, strict=True))
    here = sorted({int(u) for mask, own in pairs for u in np.unique(own[mask])})
    found = []
    for version in here[-MAX_HERE:]:
        same = tuple(mask & (own == version) for mask, own in pairs)
        found.append(Former(version + 1, others, same))
        found.append(Former(version, frozenset([me]), same))
    return found


def asked_segments(layout: Layout, cells: Cells) -> Iterator[Segment]:
    """Cells as segments, in the order of the payload."""
    pairs = zip(layout.signatures, asked_products(cells), strict=True)
    for signature, products in pairs:
        yield from product_segments(layout, signature, products)


def asked_products(cells: Cells) -> Iterator[Iterator[tuple[IndexSet, ...]]]:
    """Per signature, the products of index sets that a stream of these cells has."""
    few = count_cells(cells) <= ONE_BY_ONE
    return (single_cells(mask) if few else rectangles(mask) for mask in cells)


def pack_cells(cells: Cells) -> bytes:
    """Bits of cells, signature by signature, each in C order, as a request has them.

    Nothing for no cells, and only the first ones of too many: ``MAX_ASKED_BYTES``.
    """
    flat = [np.zeros(0, np.bool_), *(mask.ravel() for mask in cells)]
    packed = np.packbits(np.concatenate(flat))
    there = np.flatnonzero(packed)
    if not there.size:
        return b""
    first = int(there[0])
    most = packed[first : first + MAX_ASKED_BYTES - SKIPPED_BYTES]
    return first.to_bytes(SKIPPED_BYTES, "big") + most.tobytes().rstrip(b"\0")


def unpack_cells(layout: Layout, packed: bytes) -> Cells:
    """The cells that were packed. Bits beyond the model name nothing."""
    shapes = [grid_shape(layout, signature) for signature in layout.signatures]
    ends = np.cumsum([math.prod(shape) for shape in shapes])
    bits = np.zeros(int(ends[-1]) if shapes else 0, np.bool_)
    first = 8 * int.from_bytes(packed[:SKIPPED_BYTES], "big")
    named = np.unpackbits(np.frombuffer(packed[SKIPPED_BYTES:], np.uint8))
    room = bits[first : first + named.size]
    room[:] = named[: room.size]
    parts = np.split(bits, ends[:-1]) if shapes else []
    return tuple(part.reshape(shape) for part, shape in zip(parts, shapes, strict=True))
