"""Secure aggregation: contributions that a reducer can only read as a sum.

A holder sends its change as integers modulo 2**32, plus a mask of its own, plus a mask
with each other holder that one of the two adds and the other takes away. A reducer
keeps what arrives until it knows whose contributions are whole. Then it asks these for
their seeds: everybody's own, and those that were shared with whoever is missing. Of one
contribution it never gets both, so what it can compute is the sum.

After Bonawitz et al., Practical Secure Aggregation (CCS 2017), Sec. 4. Differs: seeds
are not shared out among third parties, so the groups of somebody who has contributed
and does not answer then stay shut.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from p2pfusion.daemon.sinks import Floats
from p2pfusion.fusion.ring import mean_of, scale_for, to_ring
from p2pfusion.fusion.sums import StreamingSum
from p2pfusion.security.masks import add_mask, fingerprint, mask_seed
from p2pfusion.split.grid import Counts
from p2pfusion.split.groups import SEED_BYTES, Group, groups, unpack_missing
from p2pfusion.split.plan import ExchangePlan, Hop

Ring = NDArray[np.uint32]
Spans = list[tuple[int, int]]

CLEAR = "clear"
"""The policy by which groups that cannot be hidden are contributed all the same."""


@dataclass(frozen=True)
class Masks:
    """The secrets of one peer, and what becomes of groups that cannot be hidden."""

    policy: str
    shared: Callable[[str], bytes]
    """Gives what only this peer and another can compute, by the records known now."""
    own: bytes = field(default_factory=secrets.token_bytes, repr=False)
    """Nobody shares it. Another one at every start: what was offered before a crash is
    offered anew."""

    def counts(self, group: Group) -> bool:
        """Whether anything is contributed to a group at all."""
        return group.is_hidden or self.policy == CLEAR


@dataclass
class Hiding:
    """What one peer contributes to one reducer in one round, and how it is opened.

    Its secrets are those of the moment at which it was first served: a stream that
    begins again has the same bytes.
    """

    plan: ExchangePlan
    me: str
    reducer: str
    instead_of: str
    masks: Masks
    _secrets: dict[int, bytes] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._place = self.plan.peers.index(self.me)
        self._target = self.plan.peers.index(self.reducer)
        self._groups = groups(self.plan, self.reducer, instead_of=self.instead_of)
        ends = f"{self.plan.round_index}\0{self.reducer}\0{self.instead_of}\0"
        self._context = ends.encode() + self.plan.digest

    def hidden(self, values: Floats) -> Ring:
        """The contribution's values as others get them."""
        found = np.zeros(values.size, np.uint32)
        for number, group, spans in self._held():
            if not self.masks.counts(group):
                continue
            changes = np.concatenate([values[a:b] for a, b in spans])
            total = to_ring(changes, scale_for(len(group.holders)))
            if group.is_hidden:
                add_mask(total, self._own_seed(number))
                for other in self._others(group):
                    add_mask(
                        total, self._pair_seed(number, other), sign=self._sign(other)
                    )
            start = 0
            for a, b in spans:
                found[a:b] = total[start : start + b - a]
                start += b - a
        return found

    def seeds(self, asked: bytes) -> Ring:
        """What opens the contribution's part of a sum without those who are ``asked``.

        For each hidden group the own seed, and for each other peer that hides in it
        the shared seed, if that peer is missing, or else a fingerprint of it. Zeros
        where too few have contributed.
        """
        missing = unpack_missing(self.plan, asked)
        parts: list[bytes] = []
        for number, group, _ in self._held():
            if not group.is_hidden:
                continue
            others = self._others(group)
            if not group.is_open_without(missing):
                parts.append(bytes(SEED_BYTES * (1 + len(others))))
                continue
            parts.append(self._own_seed(number))
            for other in others:
                seed = self._pair_seed(number, other)
                parts.append(seed if other in missing else fingerprint(seed))
        return np.frombuffer(b"".join(parts), "<u4")

    def _held(self) -> Iterator[tuple[int, Group, Spans]]:
        """The groups that this peer holds, and where they are in its stream."""
        ids = self.plan.ranges(
            Hop.CONTRIBUTION,
            source=self.me,
            target=self.reducer,
            instead_of=self.instead_of or None,
        )
        ends = np.cumsum(self.plan.range_sizes[ids])
        for number, group in enumerate(self._groups):
            if self._place in group.holders:
                yield number, group, spans_of(ids, ends, group.ranges)

    def _others(self, group: Group) -> list[int]:
        return [each for each in group.hiders(self._target) if each != self._place]

    def _own_seed(self, number: int) -> bytes:
        return mask_seed(self.masks.own, "own", self._context, number)

    def _pair_seed(self, number: int, other: int) -> bytes:
        if other not in self._secrets:
            self._secrets[other] = self.masks.shared(self.plan.peers[other])
        return mask_seed(self._secrets[other], "pair", self._context, number)

    def _sign(self, other: int) -> int:
        return 1 if self._place < other else -1


def spans_of(ids: Counts, ends: Counts, ranges: Counts) -> Spans:
    """Where some of the ranges of a stream are in it; ``ends`` of all its ranges."""
    at = np.searchsorted(ids, ranges)
    starts = ends[at] - np.diff(ends, prepend=0)[at]
    return list(zip(starts.tolist(), ends[at].tolist(), strict=True))


@dataclass
class Opening:
    """What one reducer has of masked contributions, until it can read their sums."""

    plan: ExchangePlan
    me: str
    instead_of: str
    masks: Masks
    own: bool = False
    """Whether the own offer counts."""
    _came: dict[int, Ring] = field(default_factory=dict)
    _seeds: dict[int, Ring] = field(default_factory=dict)
    _asked: bytes = b""

    def came(self, source: str, values: Ring) -> None:
        """A contribution is whole."""
        self._came[self.plan.peers.index(source)] = values

    def told(self, source: str, asked: bytes, seeds: Ring) -> None:
        """A holder's seeds are here. Everybody was asked once, and for the same."""
        self._asked = asked
        self._seeds[self.plan.peers.index(source)] = seeds

    def fuse(self, total: StreamingSum, own: Callable[[Counts], Floats]) -> None:
        """Adds the mean of every group that can be read, by its weight, and the own
        values, which ``own`` gives for ranges."""
        reduced = self.plan.reduced_by(self.me, instead_of=self.instead_of or None)
        if not reduced.size:
            return  # this peer may not even be in the plan
        me = self.plan.peers.index(self.me)
        missing = unpack_missing(self.plan, self._asked) if self._asked else frozenset()
        streams = {place: self._stream(place) for place in self._came}
        for group in groups(self.plan, self.me, instead_of=self.instead_of):
            positions = np.searchsorted(reduced, group.ranges)
            scale = scale_for(len(group.holders))
            own_counts = self.own and me in group.holders and me not in missing
            found: tuple[Ring, int] | None
            if group.is_hidden:
                found = self._opened(group, me, missing, streams)
                own_counts = own_counts and found is not None
            else:
                found = self._plain(group, me, streams)
                own_counts = own_counts and self.masks.counts(group)
            if found is not None and found[1]:
                mean = mean_of(found[0], scale, found[1])
                total.open(positions, float(found[1])).add(mean)
            if own_counts:
                total.open(positions, 1.0).add(own(group.ranges))
        self._came.clear()
        self._seeds.clear()

    def _stream(self, place: int) -> _Stream:
        ids = self.plan.ranges(
            Hop.CONTRIBUTION,
            source=self.plan.peers[place],
            target=self.me,
            instead_of=self.instead_of or None,
        )
        ends = np.cumsum(self.plan.range_sizes[ids])
        seeds = self._seeds.get(place, np.zeros(0, np.uint32))
        rows = seeds.reshape(-1, SEED_BYTES // seeds.itemsize)
        return _Stream(ids, ends, self._came[place], iter(rows))

    def _plain(
        self, group: Group, me: int, streams: dict[int, _Stream]
    ) -> tuple[Ring, int] | None:
        """The sum of a group that is too small to hide; None where it is withheld."""
        if not self.masks.counts(group):
            return None
        came = [each for each in group.hiders(me) if each in streams]
        return self._sum(group, came, streams), len(came)

    def _sum(
        self, group: Group, came: Iterable[int], streams: dict[int, _Stream]
    ) -> Ring:
        size = int(self.plan.range_sizes[group.ranges].sum())
        total = np.zeros(size, np.uint32)
        for place in came:
            total += streams[place].values_of(group.ranges)
        return total

    def _opened(
        self,
        group: Group,
        me: int,
        missing: frozenset[int],
        streams: dict[int, _Stream],
    ) -> tuple[Ring, int] | None:
        """The sum of a hidden group without its masks; None where it stays shut: too
        few have contributed, seeds are lacking, or two masks do not cancel."""
        hiders = group.hiders(me)
        entries = {
            place: streams[place].entries(len(hiders))
            for place in hiders
            if place in streams
        }
        came = [place for place in hiders if entries.get(place)]
        lost = [place for place in hiders if place not in came]
        if set(lost) != missing & set(hiders) or not group.is_open_without(missing):
            return None
        seen = {place: _by_peer(place, hiders, entries[place]) for place in came}
        pairs = ((a, b) for a in came for b in came if a < b)
        if any(seen[a][b] != seen[b][a] for a, b in pairs):
            return None
        total = self._sum(group, came, streams)
        for place in came:
            add_mask(total, seen[place][place], sign=-1)
            for other in lost:
                sign = -1 if place < other else 1
                add_mask(total, seen[place][other], sign=sign)
        return total, len(came)


def _by_peer(
    place: int, hiders: tuple[int, ...], entries: list[bytes]
) -> dict[int, bytes]:
    """A holder's entries of a group: its own seed first, then the others in order."""
    order = [place, *(other for other in hiders if other != place)]
    return dict(zip(order, entries, strict=True))


@dataclass
class _Stream:
    """A contribution that came whole, and its seeds, group by group in order."""

    ids: Counts
    ends: Counts
    values: Ring
    seeds: Iterator[Ring]

    def values_of(self, ranges: Counts) -> Ring:
        """The part of a group."""
        spans = spans_of(self.ids, self.ends, ranges)
        return np.concatenate([self.values[a:b] for a, b in spans])

    def entries(self, count: int) -> list[bytes]:
        """The next entries; none if its seeds are not here."""
        return [row.tobytes() for row in islice(self.seeds, count)]
