"""The numbers of a swarm whose reducers are checked: as others, but what a reducer
hands out is compared with what its backups make of the same (``fusion/weighing.py``).

A stream of fused values stays in memory, and so do those of its backups, until all have
come or will not; then the believed ones are written to the store. A backup that has
left the round has its old values still: four bytes for each element that it backs up.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from p2pfusion.daemon.payloads import Payloads
from p2pfusion.daemon.round_numbers import Before
from p2pfusion.daemon.sinks import BufferSink, Floats
from p2pfusion.fusion.repeating import LastSaid
from p2pfusion.fusion.weighing import Opinions, farther
from p2pfusion.protocol.events import Came, Caught, StreamKey
from p2pfusion.split.homes import Homes
from p2pfusion.split.plan import ExchangePlan, Hop
from p2pfusion.store import Owed, Store

Counts = NDArray[np.int64]
Mask = NDArray[np.bool_]


@dataclass
class Doubt:
    """What a reducer, and its backups, have sent: values of ranges, in order."""

    sink: BufferSink
    ranges: Counts
    """Which these are, ascending."""
    sizes: Counts
    """Their elements."""
    present: Mask
    """(elements,): which of them the reducer has values for."""
    answers: dict[str, tuple[Counts, BufferSink]] = field(default_factory=dict)
    """Of each backup, which of the ranges it was asked for, and what came."""

    def take(self, ids: Counts, values: Floats, has: Mask) -> tuple[Mask, Floats]:
        """What a backup says of some of the ranges: what only it has is taken at once;
        gives of which elements both have values, and its own."""
        asked = np.repeat(np.isin(self.ranges, ids), self.sizes)
        both, alone = asked.copy(), asked.copy()
        here = self.present[asked]
        both[asked], alone[asked] = has & here, has & ~here
        self.sink.buffer[alone] = values[has & ~here]
        self.present |= alone
        return both, values[has & here]

    def note_present(self) -> None:
        """Tells the sink which of its segments it has values for by now."""
        ends = np.cumsum([segment.size for segment in self.sink.segments])
        starts = [0, *ends[:-1].tolist()]
        whole = np.logical_and.reduceat(self.present, starts)
        self.sink.present = whole.tolist()


class WeighedPayloads(Payloads):
    """All arrays of one peer's exchange, in which no reducer is simply believed."""

    def __init__(
        self,
        me: str,
        store: Store,
        wire_dtype: str,
        *,
        fusion: str,
        owed: Owed | None,
        opinions: Opinions,
        last_said: LastSaid | None = None,
    ) -> None:
        super().__init__(
            me, store, wire_dtype, fusion=fusion, owed=owed, last_said=last_said
        )
        self._doubts: dict[tuple[int, str], Doubt] = {}
        self._opinions = opinions

    # --- Rounds ----------------------------------------------------------------------

    def enter(self, plan: ExchangePlan, homes: Homes) -> None:
        """A round begins: what this peer backs up is remembered, where it is newest."""
        super().enter(plan, homes)
        newest = np.ones(len(plan.range_sizes), np.bool_)
        found = zip(plan.grids, self.store.all_versions(), homes.version, strict=True)
        for grid, here, wanted in found:
            good = (here >= wanted) & (here <= plan.round_index)
            np.logical_and.at(newest, grid.cells, good)
        me = plan.peers.index(self.me) if self.me in plan.peers else len(plan.peers)
        ids = np.flatnonzero((plan.backup == me) & newest)
        values = self.store.read_flat(plan.segments(ids.tolist()))
        self._rounds[plan.round_index].before = Before(ids, values)

    def forget(self, round_index: int) -> None:
        """Nobody will ask for this round any more."""
        super().forget(round_index)
        for key in [key for key in self._doubts if key[0] == round_index]:
            del self._doubts[key]

    # --- Fused values ----------------------------------------------------------------

    def close_sink(self, pull: int, *, complete: bool) -> Came | None:
        """A stream ended; fused values are kept until they are compared."""
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
        if not stream.instead_of:
            sizes = plan.range_sizes[ids]
            doubt = Doubt(sink, ids, sizes, _present(sink))
            self._doubts[stream.round_index, stream.source] = doubt
        elif (stream.round_index, stream.instead_of) in self._doubts:
            doubt = self._doubts[stream.round_index, stream.instead_of]
            doubt.answers[stream.source] = ids, sink
        else:  # the reducer itself is silent
            return super().close_sink(pull, complete=True)
        del self._arriving[pull]
        return None

    def settle(self, round_index: int, reducer: str) -> list[Caught]:
        """All that was asked of a reducer's work is here, or will not come: writes what
        is believed, and says who was caught."""
        doubt = self._doubts.pop((round_index, reducer), None)
        if doubt is None:
            return []
        buffer, old = doubt.sink.buffer, self.store.read_flat(doubt.sink.segments)
        compared, usual = {reducer}, self._opinions.usual
        for backup, ids, values, has in self._answers(doubt, round_index, reducer):
            compared.add(backup)
            at, told = doubt.take(ids, values, has)
            if at.any():
                which = farther(old[at], buffer[at], told, usual)
                self._opinions.note(reducer, backup, which, round_index)
                if which == 1:
                    buffer[at] = told
        doubt.note_present()
        self._opinions.went(old[doubt.present], buffer[doubt.present])
        doubt.sink.finish()
        text = "several others make other values than it of what it has fused"
        wrong = filter(self._opinions.contradicted, sorted(compared - {self.me}))
        return [Caught(peer, "reducing", text) for peer in wrong]

    def conclude(self, round_index: int) -> None:
        """All of a round was compared: what nobody says but two that are both wrong is
        taken back, whenever that turned out. What was here before the round, which is
        what reading gives until it is sealed, stays as the newest."""
        plan = self._rounds[round_index].plan
        if self.me not in plan.peers:
            return
        came = [
            segment
            for segment in plan.segments(self._from_liars(plan))
            if self.store.is_newer(segment, round_index)
        ]
        self.store.write_flat(came, self._as_sent(self.store.read_flat(came)))

    def _from_liars(self, plan: ExchangePlan) -> Iterator[int]:
        """Ranges that come here, and of which reducer and backup are both wrong."""
        names, opinions = plan.peers, self._opinions
        me = names.index(self.me)
        doubted = [at for at, peer in enumerate(names) if opinions.is_doubted(peer)]
        either = np.isin(plan.reducer, doubted) | np.isin(plan.backup, doubted)
        by_others = (plan.reducer != me) & (plan.backup != me)
        for number in np.flatnonzero(plan.next_holders[me] & either & by_others):
            one, other = names[plan.reducer[number]], names[plan.backup[number]]
            if opinions.are_wrong(one, other):
                yield int(number)

    def _answers(
        self, doubt: Doubt, round_index: int, reducer: str
    ) -> Iterator[tuple[str, Counts, Floats, Mask]]:
        """Of each backup that has answered: its ranges, their values, and of which
        elements it has any."""
        for backup, (ids, sink) in doubt.answers.items():
            yield backup, ids, sink.buffer, _present(sink)
        numbers = self._rounds[round_index]
        total = numbers.sums.get(reducer)
        if total is not None and total.closed:
            reduced = numbers.plan.reduced_by(self.me, instead_of=reducer)
            ids = np.intersect1d(doubt.ranges, reduced)
            positions = np.searchsorted(reduced, ids)
            values = self._as_sent(total.values(positions))
            has = np.repeat(~total.absent[positions], numbers.plan.range_sizes[ids])
            yield self.me, ids, values, has


def _present(sink: BufferSink) -> Mask:
    """(elements,): what its sender had values for."""
    return np.repeat(sink.present, [segment.size for segment in sink.segments])


def _ranges(plan: ExchangePlan, stream: StreamKey) -> Counts:
    """The ranges of a stream of fused values, ascending."""
    return plan.ranges(
        Hop.FUSED,
        source=stream.source,
        target=stream.target,
        instead_of=stream.instead_of or None,
    )
