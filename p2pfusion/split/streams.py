"""The streams of a plan: what each pair of peers owes each other in one round.

``plan.py`` decides who holds, reduces and keeps what; here is what follows for every
hop, source and target: which ranges or cells a stream has, in which order, and how many
elements. Both ends compute the same, so no message carries coordinates.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from p2pfusion.errors import LocalProtocolError
from p2pfusion.split.grid import (
    Counts,
    Mask,
    cell_elements,
    grid_mask,
    mask_segments,
)
from p2pfusion.split.homes import HomePulls, Homes
from p2pfusion.split.hops import CONTRIBUTION, EXPORT, FUSED, HOME, HOPS, KEEP, Hop
from p2pfusion.split.layout import Layout
from p2pfusion.split.ranges import RangeGrid
from p2pfusion.split.segment import Segment, Split
from p2pfusion.split.traffic import planned_traffic


@dataclass(frozen=True, eq=False)
class ExchangePlan:
    """Who sends what to whom, in one round. Made by ``plan_round``.

    Ranges are numbered in canonical order: by signature, then in C order of its atoms.
    A peer that is not in the plan has no part in any stream. Methods that take
    ``instead_of`` answer, where it is given, for the ranges whose reducer is that peer
    and whose backup is the acting one: the target of contributions, the source of fused
    values; on hops from homes, for what would come from that peer.
    """

    round_index: int
    layout: Layout
    peers: tuple[str, ...]
    homes: Homes  # as the round begins; absent homes replaced by living copies
    digest: bytes
    range_sizes: Counts
    grids: tuple[RangeGrid, ...] = field(repr=False)
    holders: Mask = field(repr=False)  # (peers, ranges)
    next_holders: Mask = field(repr=False)  # (peers, ranges)
    reducer: Counts = field(repr=False)  # position in peers, -1: nobody trains it
    backup: Counts = field(repr=False)  # position in peers, -1: there is nobody
    wanted: tuple[Mask, ...] = field(repr=False)  # following splits: (peers, cells...)
    pulls: HomePulls = field(repr=False)

    @cached_property
    def _positions(self) -> dict[str, int]:
        return {peer: position for position, peer in enumerate(self.peers)}

    @cached_property
    def _cell_elements(self) -> tuple[Counts, ...]:
        layout = self.layout
        return tuple(cell_elements(layout, each) for each in layout.signatures)

    @cached_property
    def _firsts(self) -> list[int]:
        """The number of each signature's first range."""
        return [grid.first for grid in self.grids]

    def segments(self, range_ids: Iterable[int]) -> tuple[Segment, ...]:
        """The ranges as segments: range by range, inside a range by parameter."""
        found: list[Segment] = []
        for number in map(int, range_ids):
            at = bisect_right(self._firsts, number) - 1
            found.extend(self.grids[at].segments(number))
        return tuple(found)

    def reduced_by(self, peer: str, *, instead_of: str | None = None) -> Counts:
        """The ranges that the peer fuses, ascending."""
        position = self._positions.get(peer)
        if position is None:
            return np.zeros(0, np.int64)
        if instead_of is not None:
            return np.flatnonzero(self._acting(instead_of) == position)
        if position not in self._reduced:
            self._reduced[position] = (self.reducer == position).nonzero()[0]
        return self._reduced[position]

    @cached_property
    def _reduced(self) -> dict[int, Counts]:
        return {}

    def _acting(self, instead_of: str | None) -> Counts:
        """Who reduces each range: the reducer, or only a silent one's backups."""
        if instead_of is None:
            return self.reducer
        silent = self._positions.get(instead_of, len(self.peers))
        return np.where(self.reducer == silent, self.backup, -1)

    def _whole(self, hop: Hop, source: str, target: str) -> int:
        _, member, acting = self._ends(hop, source, target)
        one, other = self._positions.get(member), self._positions.get(acting)
        if one is None or other is None or one == other:
            return 0
        return self._flow(hop, one)[other]

    def elements(self, hop: str, source: str, target: str, instead_of: str = "") -> int:
        """``stream_elements`` by a stream's name."""
        return self.stream_elements(
            HOPS[hop], source=source, target=target, instead_of=instead_of or None
        )

    @cached_property
    def lengths(self) -> dict[tuple[str, str, str], int]:
        """By hop, source and target, of planned streams: bytes, once somebody has
        worked them out."""
        return {}

    @cached_property
    def _flows(self) -> dict[tuple[Hop, int], list[int]]:
        return {}

    def _flow(self, hop: Hop, member: int) -> list[int]:
        """Elements between a holder, or next holder, and each reducer."""
        found = self._flows.get((hop, member))
        if found is None:
            members = self.holders if hop is CONTRIBUTION else self.next_holders
            held = members[member] & (self.reducer >= 0)
            # Exact: no model has as many elements as a double has integers.
            sums = np.bincount(
                self.reducer[held], self.range_sizes[held], len(self.peers)
            )
            found = list(map(int, sums.tolist()))
            self._flows[hop, member] = found
        return found

    def ranges(
        self, hop: Hop, *, source: str, target: str, instead_of: str | None = None
    ) -> Counts:
        """The ranges of a stream of contributions or of fused values, ascending."""
        members, member, acting = self._ends(hop, source, target)
        position = self._positions.get(member)
        reduced = self.reduced_by(acting, instead_of=instead_of)
        if position is None or source == target:
            return np.zeros(0, np.int64)
        found: Counts = reduced[members[position, reduced]]
        return found

    def _ends(self, hop: Hop, source: str, target: str) -> tuple[Mask, str, str]:
        """Who holds the ranges of a hop, and which end is holder and which reducer."""
        if hop is CONTRIBUTION:
            return self.holders, source, target
        if hop is FUSED:
            return self.next_holders, target, source
        raise LocalProtocolError(f"a stream of the hop {hop} has no ranges")

    def sources(
        self, hop: Hop, target: str, *, instead_of: str | None = None
    ) -> tuple[str, ...]:
        """Who sends the target such a stream, in order."""
        if instead_of is not None:
            return self._senders(hop, target, instead_of)
        found = self._planned.get((hop, target))
        if found is None:
            found = self._planned[hop, target] = self._senders(hop, target, None)
        return found

    @cached_property
    def _planned(self) -> dict[tuple[Hop, str], tuple[str, ...]]:
        return {}

    def _senders(
        self, hop: Hop, target: str, instead_of: str | None
    ) -> tuple[str, ...]:
        position = self._positions.get(target)
        if position is None:
            return ()
        if hop is CONTRIBUTION:
            return self._holding(self.holders, target, instead_of)
        if hop is FUSED:
            if instead_of is not None:
                return self._backups_for(position, instead_of)
            return self._reducers_for(hop, position)
        if hop is KEEP:
            kept = {p: self._kept(p, target, instead_of) for p in self.peers}
            able = (p for p, cells in kept.items() if any(m.any() for m in cells))
            return tuple(peer for peer in able if peer != target)
        if hop is HOME and not self.pulls.received[position]:
            return ()
        found: set[int] = set()
        for index in range(len(self.grids)):
            origins = self._origins(hop, index, instead_of, position)
            found.update(origins[self._needs(hop, index)[position]].tolist())
        return self._names(found - {-1, position})

    def _holding(
        self, members: Mask, reducer: str, instead_of: str | None
    ) -> tuple[str, ...]:
        reduced = self.reduced_by(reducer, instead_of=instead_of)
        found = np.flatnonzero(members[:, reduced].any(axis=1)).tolist()
        return self._names(set(found) - {self._positions[reducer]})

    def _reducers_for(self, hop: Hop, position: int) -> tuple[str, ...]:
        """Who else reduces what a holder, or next holder, has of a hop."""
        flow = enumerate(self._flow(hop, position))
        return self._names(at for at, size in flow if size and at != position)

    def _backups_for(self, position: int, failed: str) -> tuple[str, ...]:
        """Who else reduces, in place of a silent one, what a next holder needs."""
        found = self._acting(failed)[self.next_holders[position]].tolist()
        return self._names(set(found) - {-1, position})

    def _names(self, positions: Iterable[int]) -> tuple[str, ...]:
        return tuple(self.peers[position] for position in sorted(positions))

    def backups(self, reducer: str, target: str) -> tuple[str, ...]:
        """Who reduces, in place of the reducer, what it owes the target.

        The target itself may be among them.
        """
        position = self._positions.get(target)
        if position is None:
            return ()
        found = np.unique(self._acting(reducer)[self.next_holders[position]])
        return self._names(set(found.tolist()) - {-1})

    def reducers_of(self, peer: str) -> tuple[str, ...]:
        """Who else reduces something that the peer trains."""
        position = self._positions.get(peer)
        if position is None:
            return ()
        found = self._adding.get(position)
        if found is None:
            found = self._adding[position] = self._reducers_for(CONTRIBUTION, position)
        return found

    @cached_property
    def _adding(self) -> dict[int, tuple[str, ...]]:
        return {}

    def inside(self, split: Split) -> Mask:
        """Which ranges lie wholly inside a split, of whichever round."""
        found = np.ones(len(self.range_sizes), np.bool_)
        for grid in self.grids:
            outside = ~grid_mask(self.layout, grid.signature, split)
            found[grid.cells[outside]] = False
        return found

    def own_ranges(self, peer: str, *, instead_of: str | None = None) -> Counts:
        """The ranges that the peer reduces and holds itself, ascending."""
        reduced = self.reduced_by(peer, instead_of=instead_of)
        position = self._positions.get(peer)
        if position is None:
            return reduced
        own: Counts = reduced[self.holders[position, reduced]]
        return own

    def substitutes(self, hop: Hop, *, source: str, target: str) -> tuple[str, ...]:
        """Who has, or makes, what a silent source owes the target on this hop.

        For fused values they are the backups, the target itself perhaps among them; for
        values from homes, others that have the newest version.
        """
        if hop is FUSED:
            return self.backups(source, target)
        return self.sources(hop, target, instead_of=source)

    def stream_elements(
        self, hop: Hop, *, source: str, target: str, instead_of: str | None = None
    ) -> int:
        """Number of elements in a stream."""
        if hop in (CONTRIBUTION, FUSED):
            if instead_of is None:
                return self._whole(hop, source, target)
            numbers = self.ranges(
                hop, source=source, target=target, instead_of=instead_of
            )
            return int(self.range_sizes[numbers].sum())
        cells = self.cells(hop, source=source, target=target, instead_of=instead_of)
        pairs = zip(cells, self._cell_elements, strict=False)
        return sum(int(elements[mask].sum()) for mask, elements in pairs)

    def stream(
        self, hop: Hop, *, source: str, target: str, instead_of: str | None = None
    ) -> tuple[Segment, ...]:
        """What the source sends the target on this hop, in the order of the payload."""
        if hop in (CONTRIBUTION, FUSED):
            numbers = self.ranges(
                hop, source=source, target=target, instead_of=instead_of
            )
            return self.segments(numbers.tolist())
        cells = self.cells(hop, source=source, target=target, instead_of=instead_of)
        return tuple(
            segment
            for signature, mask in zip(self.layout.signatures, cells, strict=False)
            for segment in mask_segments(self.layout, signature, mask)
        )

    def cells(
        self, hop: Hop, *, source: str, target: str, instead_of: str | None = None
    ) -> tuple[Mask, ...]:
        """Per signature, over the grid, what a stream from a home consists of.

        Nothing at all where there is no such stream.
        """
        home, reader = self._positions.get(source), self._positions.get(target)
        if home is None or reader is None or home == reader:
            return ()
        if hop is KEEP:
            return self._kept(source, target, instead_of)
        found: list[Mask] = []
        for index in range(len(self.grids)):
            origins = self._origins(hop, index, instead_of, reader)
            found.append(self._needs(hop, index)[reader] & (origins == home))
        return tuple(found)

    def _kept(
        self, source: str, target: str, instead_of: str | None
    ) -> tuple[Mask, ...]:
        """What the target reduces, lacks by the table, and the source has newest."""
        reduced = np.zeros(len(self.range_sizes), np.bool_)
        reduced[self.reduced_by(target, instead_of=instead_of)] = True
        return tuple(
            reduced[grid.cells]
            & self.homes.copies(index, [source])[0]
            & self.homes.lacking(target, index)
            for index, grid in enumerate(self.grids)
        )

    def _origins(
        self, hop: Hop, index: int, instead_of: str | None, target: int
    ) -> Counts:
        """Where each cell of a signature comes from on a hop from homes; -1: nowhere.

        ``instead_of`` a silent home: from the first other peer with the newest version.
        """
        homes = (self.pulls.home if hop is EXPORT else self.pulls.source)[index]
        if instead_of is None:
            return homes
        silent = self._positions.get(instead_of, len(self.peers))
        copies = self.homes.copies(index, self.peers)
        copies[[at for at in (silent, target) if at < len(self.peers)]] = False
        second = np.where(copies.any(axis=0), np.argmax(copies, axis=0), -1)
        return np.where(homes == silent, second, -1)

    def _needs(self, hop: Hop, index: int) -> Mask:
        """(peers, cells...): what each peer gets of a signature on a hop from homes."""
        if hop is EXPORT:
            return np.broadcast_to(np.bool_(True), self.wanted[index].shape)
        lacked = self.pulls.lacked[index]
        return lacked if hop is HOME else self.wanted[index] | lacked

    def homes_after(self) -> Homes:
        """The table of homes after this round went as planned."""
        return self.homes.advanced(
            self.round_index,
            self.peers,
            reducers=[self.reducer[grid.cells] for grid in self.grids],
            wanted=self.wanted,
            pulled=self.pulls.lacked,
        )

    def elements_sent(self, peer: str) -> int:
        """Elements that the peer sends in all planned streams of this round."""
        position = self._positions.get(peer)
        return 0 if position is None else int(self._traffic[0][position])

    def elements_received(self, peer: str) -> int:
        """Elements that the peer receives in all planned streams of this round."""
        position = self._positions.get(peer)
        return 0 if position is None else int(self._traffic[1][position])

    @cached_property
    def _traffic(self) -> tuple[Counts, Counts]:
        return planned_traffic(
            self.reducer,
            self.range_sizes,
            holders=self.holders,
            next_holders=self.next_holders,
            pulls=self.pulls,
        )
