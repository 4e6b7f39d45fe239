"""The plan of one round's exchange: who owes whom which part of the model.

From all peers' splits of this round and the next follow, for every range (a product of
atoms of the axes of one signature), its holders, who train it now, its next holders,
who need it afterwards, one reducer and one backup. The exchange then has two hops:
contributions from holders to reducers, fused values from reducers to next holders. What
nobody trains this round comes from its home instead. Which split counts, this round's
or the next one's, is decided here and nowhere else.

A range costs ``holders + next holders`` transfers, less those that the reducer would
send to itself. Invariants: all peers that know the same splits and homes compute the
same plan, whatever the order of the mappings; every element of a following split
arrives exactly once, or is there already, or has no living copy.
"""

from __future__ import annotations

import hashlib
import json
from bisect import bisect_right
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property

import numpy as np

from p2pfusion.errors import LocalProtocolError
from p2pfusion.split.grid import Counts, Mask, mask_segments
from p2pfusion.split.homes import HomePulls, Homes
from p2pfusion.split.layout import Layout
from p2pfusion.split.ranges import RangeGrid, range_grids
from p2pfusion.split.reducers import Lots, share_out
from p2pfusion.split.segment import Segment, Split


class Hop(StrEnum):
    """What a stream between two peers is for."""

    CONTRIBUTION = "contribution"
    """Trained values, from a holder to the reducer."""
    FUSED = "fused"
    """Fused values, from the reducer to a next holder."""
    HOME = "home"
    """Not trained this round, older at the target: from the home to a next holder."""
    CATCH_UP = "catch_up"
    """As HOME, whatever the plans say that the target has: for one that starts."""
    EXPORT = "export"
    """Everything that lives at the source as the round begins."""


def plan_round(
    layout: Layout,
    *,
    seed: int,
    round_index: int,
    current: Mapping[str, Split],
    following: Mapping[str, Split],
    homes: Homes,
) -> ExchangePlan:
    """The plan for these splits of this round and of the next.

    ``LayoutError`` if a split does not consist of whole cells.
    """
    peers = tuple(sorted({*current, *following}))
    now = [current.get(peer) for peer in peers]
    then = [following.get(peer) for peer in peers]
    grids = tuple(range_grids(layout, now, then))
    holders = _members([g.holders() for g in grids], len(peers))
    next_holders = _members([g.next_holders() for g in grids], len(peers))
    sizes = np.concatenate([np.zeros(0, np.int64), *(grid.sizes for grid in grids)])
    settled = homes.with_peers(peers).settled(peers)
    trained: Mask = np.any(holders, axis=0)
    wanted = tuple(next_holders[:, grid.cells] for grid in grids)
    pulls = HomePulls.of(
        layout,
        settled,
        peers,
        trained=[trained[grid.cells] for grid in grids],
        wanted=wanted,
    )
    reducer, backup = share_out(
        holders,
        next_holders,
        sizes,
        own=sum(
            (grid.own_elements() for grid in grids), np.zeros(len(peers), np.int64)
        ),
        pulls=pulls.sent + pulls.received,
        previous=_previous(grids, pulls),
        lots=Lots.draw(seed, round_index, peers),
    )
    return ExchangePlan(
        round_index=round_index,
        layout=layout,
        peers=peers,
        homes=settled,
        digest=_digest(layout, seed, round_index, peers, now, then, homes),
        range_sizes=sizes,
        grids=grids,
        holders=holders,
        next_holders=next_holders,
        reducer=reducer,
        backup=backup,
        wanted=wanted,
        pulls=pulls,
    )


def _members(masks: list[Mask], peer_count: int) -> Mask:
    return np.concatenate([np.zeros((peer_count, 0), np.bool_), *masks], axis=1)


def _previous(grids: tuple[RangeGrid, ...], pulls: HomePulls) -> Counts:
    """For every range the home of its first cell."""
    found = [np.zeros(0, np.int64)]
    for grid, home in zip(grids, pulls.home, strict=True):
        first = np.unique(grid.cells, return_index=True)[1]
        found.append(home.ravel()[first])
    return np.concatenate(found)


def _digest(
    layout: Layout,
    seed: int,
    round_index: int,
    peers: tuple[str, ...],
    now: list[Split | None],
    then: list[Split | None],
    homes: Homes,
) -> bytes:
    rows = [
        [peer, *("" if split is None else split.digest.hex() for split in splits)]
        for peer, *splits in zip(peers, now, then, strict=True)
    ]
    fixed = [layout.digest.hex(), seed, round_index, rows, homes.digest.hex()]
    text = json.dumps(fixed, separators=(",", ":"))
    return hashlib.sha256(text.encode()).digest()[:16]


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
    def _segments(self) -> dict[int, tuple[Segment, ...]]:
        return {}

    def segments(self, range_ids: Iterable[int]) -> tuple[Segment, ...]:
        """The ranges as segments: range by range, inside a range by parameter."""
        found: list[Segment] = []
        for number in map(int, range_ids):
            if number not in self._segments:
                at = bisect_right(self.grids, number, key=lambda grid: grid.first) - 1
                self._segments[number] = tuple(self.grids[at].segments(number))
            found.extend(self._segments[number])
        return tuple(found)

    def reduced_by(self, peer: str, *, instead_of: str | None = None) -> Counts:
        """The ranges that the peer fuses, ascending."""
        position = self._positions.get(peer)
        if position is None:
            return np.zeros(0, np.int64)
        return np.flatnonzero(self._acting(instead_of) == position)

    def _acting(self, instead_of: str | None) -> Counts:
        """Who reduces each range: the reducer, or only a silent one's backups."""
        if instead_of is None:
            return self.reducer
        silent = self._positions.get(instead_of, len(self.peers))
        return np.where(self.reducer == silent, self.backup, -1)

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
        if hop is Hop.CONTRIBUTION:
            return self.holders, source, target
        if hop is Hop.FUSED:
            return self.next_holders, target, source
        raise LocalProtocolError(f"a stream of the hop {hop} has no ranges")

    def sources(
        self, hop: Hop, target: str, *, instead_of: str | None = None
    ) -> tuple[str, ...]:
        """Who sends the target such a stream, in order."""
        position = self._positions.get(target)
        if position is None:
            return ()
        if hop is Hop.CONTRIBUTION:
            return self._holding(self.holders, target, instead_of)
        if hop is Hop.FUSED:
            return self._reducing(self.next_holders, position, instead_of)
        found: set[int] = set()
        for index in range(len(self.grids)):
            needed = self._needs(hop, index)[position]
            origins = self._origins(hop, index, instead_of, position)
            found.update(np.unique(origins[needed]).tolist())
        return self._names(found - {-1, position})

    def _holding(
        self, members: Mask, reducer: str, instead_of: str | None
    ) -> tuple[str, ...]:
        reduced = self.reduced_by(reducer, instead_of=instead_of)
        found = np.flatnonzero(members[:, reduced].any(axis=1)).tolist()
        return self._names(set(found) - {self._positions[reducer]})

    def _reducing(
        self, members: Mask, position: int, instead_of: str | None
    ) -> tuple[str, ...]:
        found = np.unique(self._acting(instead_of)[members[position]]).tolist()
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
        if hop is Hop.FUSED:
            return self.backups(source, target)
        return self.sources(hop, target, instead_of=source)

    def stream_elements(
        self, hop: Hop, *, source: str, target: str, instead_of: str | None = None
    ) -> int:
        """Number of elements in a stream."""
        if hop in (Hop.CONTRIBUTION, Hop.FUSED):
            numbers = self.ranges(
                hop, source=source, target=target, instead_of=instead_of
            )
            return int(self.range_sizes[numbers].sum())
        segments = self.stream(hop, source=source, target=target, instead_of=instead_of)
        return sum(segment.size for segment in segments)

    def stream(
        self, hop: Hop, *, source: str, target: str, instead_of: str | None = None
    ) -> tuple[Segment, ...]:
        """What the source sends the target on this hop, in the order of the payload."""
        if hop in (Hop.CONTRIBUTION, Hop.FUSED):
            numbers = self.ranges(
                hop, source=source, target=target, instead_of=instead_of
            )
            return self.segments(numbers.tolist())
        home, reader = self._positions.get(source), self._positions.get(target)
        if home is None or reader is None or home == reader:
            return ()
        found: list[Segment] = []
        for index, signature in enumerate(self.layout.signatures):
            origins = self._origins(hop, index, instead_of, reader)
            needed = self._needs(hop, index)[reader] & (origins == home)
            found.extend(mask_segments(self.layout, signature, needed))
        return tuple(found)

    def _origins(
        self, hop: Hop, index: int, instead_of: str | None, target: int
    ) -> Counts:
        """Where each cell of a signature comes from on a hop from homes; -1: nowhere.

        ``instead_of`` a silent home: from the first other peer with the newest version.
        """
        homes = (self.pulls.home if hop is Hop.EXPORT else self.pulls.source)[index]
        if instead_of is None:
            return homes
        silent = self._positions.get(instead_of, len(self.peers))
        copies = self.homes.copies(index, self.peers)
        copies[[at for at in (silent, target) if at < len(self.peers)]] = False
        second = np.where(copies.any(axis=0), np.argmax(copies, axis=0), -1)
        return np.where(homes == silent, second, -1)

    def _needs(self, hop: Hop, index: int) -> Mask:
        """(peers, cells...): what each peer gets of a signature on a hop from homes."""
        if hop is Hop.EXPORT:
            return np.broadcast_to(np.bool_(True), self.wanted[index].shape)
        return (self.pulls.lacked if hop is Hop.HOME else self.wanted)[index]

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
        trained = np.flatnonzero(self.reducer >= 0)
        reducer, sizes = self.reducer[trained], self.range_sizes[trained]
        sent, received = self.pulls.sent.copy(), self.pulls.received.copy()
        for members, outward, inward in (
            (self.holders, sent, received),
            (self.next_holders, received, sent),
        ):
            # What a member moves to or from reducers, and they to or from it.
            there = members[:, trained]
            own = there[reducer, np.arange(len(trained))]
            outward += there @ sizes
            np.subtract.at(outward, reducer, own * sizes)
            np.add.at(inward, reducer, (there.sum(axis=0) - own) * sizes)
        return sent, received
