"""The numbers of a swarm whose fusion is to withstand liars: as others, but what a
reducer hands out is looked at before it counts (``fusion/weighing.py``).

A stream of fused values that is doubted stays in memory, and so does what its backups
say of the same, until all of them have answered: then they are compared, and what is
believed is written to the store. Backups that have left the round have its old values
still, for as long as they may be asked: four bytes for each element that they back up.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from p2pfusion.daemon.payloads import Payloads
from p2pfusion.daemon.round_numbers import Before
from p2pfusion.daemon.sinks import BufferSink, Floats
from p2pfusion.fusion.weighing import ODD, Bound, Opinions, squares
from p2pfusion.protocol.events import Came, Caught, StreamKey, Weighed
from p2pfusion.split.homes import Homes
from p2pfusion.split.plan import ExchangePlan, Hop
from p2pfusion.store import Owed, Store

Counts = NDArray[np.int64]
Mask = NDArray[np.bool_]


@dataclass
class Doubt:
    """A stream of fused values that is not believed yet; *parts* are its segments."""

    sink: BufferSink
    ranges: Counts
    """(parts,): which range each is of."""
    sizes: Counts
    bound: Bound
    old: Floats
    answers: dict[str, tuple[Counts, BufferSink]] = field(default_factory=dict)
    """Of each backup, which ranges it was asked for, and what came."""


class WeighedPayloads(Payloads):
    """All arrays of one peer's exchange, of which fused ones are doubted."""

    def __init__(
        self,
        me: str,
        store: Store,
        wire_dtype: str,
        *,
        fusion: str,
        owed: Owed | None,
        asked: float,
        lots: random.Random,
        opinions: Opinions,
    ) -> None:
        """``asked``: of how many streams, by these lots, a second opinion is wanted."""
        super().__init__(me, store, wire_dtype, fusion=fusion, owed=owed)
        self._asked, self._lots = asked, lots
        self._doubts: dict[tuple[int, str], Doubt] = {}
        self._opinions = opinions
        self._usual: tuple[object, dict[int, float]] = (None, {})

    # --- Rounds and sums -------------------------------------------------------------

    def enter(self, plan: ExchangePlan, homes: Homes) -> None:
        """A round begins."""
        super().enter(plan, homes)
        count = len(plan.range_sizes)
        versions = np.full(count, np.iinfo(np.int64).max)
        newest = np.ones(count, np.bool_)
        found = zip(plan.grids, self.store.all_versions(), homes.version, strict=True)
        for grid, here, wanted in found:
            np.minimum.at(versions, grid.cells, here)
            np.logical_and.at(
                newest, grid.cells, (here >= wanted) & (here <= plan.round_index)
            )
        mine = plan.backup == (
            plan.peers.index(self.me) if self.me in plan.peers else -2
        )
        ids = np.flatnonzero(mine & newest)
        values = self.store.read_flat(plan.segments(ids.tolist()))
        self._rounds[plan.round_index].before = Before(versions, ids, values)

    def forget(self, round_index: int) -> None:
        """Nobody will ask for this round any more."""
        super().forget(round_index)
        for key in [key for key in self._doubts if key[0] == round_index]:
            del self._doubts[key]

    # --- Fused values ----------------------------------------------------------------

    def close_sink(self, pull: int, *, complete: bool) -> Came | Weighed | None:
        """A stream ended; of fused values says whether they are believed."""
        arriving = self._arriving.get(pull)
        sink = None if arriving is None else arriving.sink
        if (
            arriving is None
            or not (complete and isinstance(sink, BufferSink))
            or arriving.stream.hop != Hop.FUSED
            or arriving.stream.round_index != max(self._rounds)
        ):
            return super().close_sink(pull, complete=complete)
        stream, plan = arriving.stream, self._rounds[max(self._rounds)].plan
        ids = _ranges(plan, stream)
        if stream.instead_of:
            doubt = self._doubts.get((stream.round_index, stream.instead_of))
            if doubt is None:
                return super().close_sink(pull, complete=True)
            del self._arriving[pull]
            doubt.answers[stream.source] = ids, sink
            return None
        doubt = self._look(plan, ids, sink)
        moved = squares(sink.buffer, doubt.old, doubt.sizes)
        odd = doubt.bound.ratio(moved) > ODD
        if not (odd or self._lots.random() < self._asked):
            super().close_sink(pull, complete=True)
            return Weighed(stream, doubted=False)
        del self._arriving[pull]
        self._doubts[stream.round_index, stream.source] = doubt
        return Weighed(stream, doubted=True)

    def _look(self, plan: ExchangePlan, ids: Counts, sink: BufferSink) -> Doubt:
        before = self._rounds[plan.round_index].before
        assert before is not None
        sizes = np.array([segment.size for segment in sink.segments], np.int64)
        firsts = np.array([grid.first for grid in plan.grids])
        parts = np.array([len(grid.signature.parameters) for grid in plan.grids])
        ranges = np.repeat(ids, parts[np.searchsorted(firsts, ids, side="right") - 1])
        squared = self._mean_squares()
        own = np.array([squared.get(s.parameter, 0.0) for s in sink.segments])
        usual = own * sizes * np.array(sink.present)
        ages = plan.round_index + 1 - before.versions[ranges]
        bound = Bound(usual, np.maximum(ages, 1))
        return Doubt(sink, ranges, sizes, bound, self.store.read_flat(sink.segments))

    def _mean_squares(self) -> dict[int, float]:
        """Of the own change in each parameter that was trained last."""
        own = self._own
        if own is None:
            return {}
        if self._usual[0] is not own.offer:
            squared = {}
            for index in range(len(self.store.layout.parameters)):
                change = own.offer.read_array(index).reshape(-1)
                if change.size:
                    total = np.einsum("i,i->", change, change, dtype=np.float64)
                    squared[index] = float(total) / change.size
            self._usual = own.offer, squared
        return self._usual[1]

    # --- Second opinions -------------------------------------------------------------

    def settle(self, round_index: int, reducer: str) -> list[Caught]:
        """Everybody asked has answered, or will not: writes what is believed, and says
        who was caught."""
        doubt = self._doubts.pop((round_index, reducer), None)
        if doubt is None:
            return []
        told, caught = doubt.sink.buffer.copy(), dict[str, str]()
        for backup, parts, values in self._answers(doubt, round_index, reducer):
            bound, places = doubt.bound.of(parts), np.repeat(parts, doubt.sizes)
            sizes, old, one = doubt.sizes[parts], doubt.old[places], told[places]
            far = bound.ratio(squares(one, old, sizes))
            other_far = bound.ratio(squares(values, old, sizes))
            apart = bound.is_apart(squares(one, values, sizes))
            self._opinions.note(reducer, backup, wrong=apart and other_far < far)
            self._opinions.note(backup, reducer, wrong=apart and far < other_far)
            if apart and other_far < far:
                doubt.sink.buffer[places] = values
            if apart and min(far, other_far) <= ODD < max(far, other_far):
                liar = reducer if other_far < far else backup
                text = f"{max(far, other_far):.1f} times as far from before as usual"
                caught[liar] = f"what it has fused is {text}, and another's is not"
        doubt.sink.finish()
        for peer in (reducer, *doubt.answers):
            if self._opinions.contradicted(peer):
                caught.setdefault(peer, "several others make other values of the same")
        caught.pop(self.me, None)
        return [Caught(peer, "reducing", text) for peer, text in caught.items()]

    def _answers(
        self, doubt: Doubt, round_index: int, reducer: str
    ) -> Iterator[tuple[str, Mask, Floats]]:
        """Of each backup that has answered: which parts, and their values."""
        numbers = self._rounds[round_index]
        for backup, (ids, sink) in doubt.answers.items():
            asked = np.isin(doubt.ranges, ids)
            has = asked.copy()
            has[asked] = sink.present
            yield from _common(doubt, backup, asked, has, sink.buffer)
        total = numbers.sums.get(reducer)
        if total is not None and total.closed:
            reduced = numbers.plan.reduced_by(self.me, instead_of=reducer)
            asked = np.isin(doubt.ranges, reduced)
            ids = np.unique(doubt.ranges[asked])
            positions = np.searchsorted(reduced, ids)
            has = asked & ~np.isin(doubt.ranges, reduced[total.absent])
            values = self._as_sent(total.values(positions))
            yield from _common(doubt, self.me, asked, has, values)


def _common(
    doubt: Doubt, backup: str, asked: Mask, has: Mask, values: Floats
) -> Iterator[tuple[str, Mask, Floats]]:
    """What both the reducer and a backup have values for, if there is anything."""
    both = has & np.array(doubt.sink.present)
    if both.any():
        yield backup, both, values[np.repeat(both[asked], doubt.sizes[asked])]


def _ranges(plan: ExchangePlan, stream: StreamKey) -> Counts:
    """The ranges of a stream of fused values, ascending."""
    return plan.ranges(
        Hop.FUSED,
        source=stream.source,
        target=stream.target,
        instead_of=stream.instead_of or None,
    )
