"""The numbers behind the protocol's effects: sums, streams, store and offers.

The protocol says which stream starts, which bytes arrived, which reduction closes; here
are the arrays that this means. A stream that arrives has a *sink*: a cursor into a sum,
or a buffer that is written to the store when it is whole. A stream that is served has a
buffer, made when it starts and freed with its last chunk: if that is lost, it is made
anew. Nothing here decides or waits.
"""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from p2pfusion.daemon.absence import present_bits, present_ranges
from p2pfusion.daemon.arriving import Arriving
from p2pfusion.daemon.contribution import Contribution
from p2pfusion.daemon.recalling import close
from p2pfusion.daemon.round_numbers import Made, OwnOffer, RoundNumbers, moved
from p2pfusion.daemon.sinks import BufferSink, Floats, Sink, SumSink, Writer
from p2pfusion.errors import LocalProtocolError
from p2pfusion.fusion import (
    DeltaSum,
    MeanChange,
    StreamingSum,
    decode,
    encode,
    memory,
    new_sum,
)
from p2pfusion.fusion.repeating import LastSaid
from p2pfusion.protocol.events import Came, FoundLacking, OpenSink, StreamKey
from p2pfusion.protocol.messages import CHECKPOINT, TABLE, Chunk
from p2pfusion.protocol.stream import stream_segments
from p2pfusion.split.forms import FLOAT32, WIRE
from p2pfusion.split.homes import Homes
from p2pfusion.split.keeping import Cells
from p2pfusion.split.plan import ExchangePlan, Hop
from p2pfusion.split.restoring import asked_segments, lacking_cells, wanted_versions
from p2pfusion.split.segment import Split
from p2pfusion.store import Offer, Owed, Store


class Payloads:
    """All arrays of one peer's exchange."""

    def __init__(
        self,
        me: str,
        store: Store,
        wire_dtype: str,
        *,
        fusion: str = "mean",
        adds_changes: bool = False,
        owed: Owed | None = None,
        last_said: LastSaid | None = None,
    ) -> None:
        """``adds_changes``: offers and contributions are changes of the values from
        which they were trained; shares of them are added to these (``DeltaSum``).
        ``owed``: where it is kept what contributions lose on their way. ``last_said``:
        what contributors have said before; None: nothing yet."""
        self.me = me
        self._fusion, self._adds_changes = fusion, adds_changes
        self.store = store
        self._wire = WIRE[wire_dtype]
        self._owed = owed
        self._last_said = last_said or LastSaid.of(store.layout)
        self._rounds: dict[int, RoundNumbers] = {}
        self._arriving: dict[int, Arriving] = {}
        self._own: OwnOffer | None = None
        self._served: dict[tuple[str, int], memoryview] = {}

    # --- Rounds and sums -------------------------------------------------------------

    def enter(self, plan: ExchangePlan, homes: Homes) -> None:
        """A round begins."""
        self._rounds[plan.round_index] = RoundNumbers(plan, homes)
        self._settle()

    def forget(self, round_index: int) -> None:
        """Nobody will ask for this round any more."""
        self._rounds.pop(round_index, None)

    def lacking(self, plan: ExchangePlan, among: Cells = ()) -> FoundLacking:
        """What the table of homes says that is here newest, or ``among`` these, and is
        older here."""
        versions = self.store.all_versions()
        cells = lacking_cells(plan, self.me, versions, among)
        return FoundLacking(plan.round_index, cells, versions)

    def keep_old(self, round_index: int, cells: Cells) -> None:
        """What is here of these cells counts as newest, as it is."""
        kept = list(asked_segments(self.store.layout, cells))
        self.store.write_flat(kept, self._as_sent(self.store.read_flat(kept)))
        self.store.set_version(kept, round_index)

    def offered(
        self, round_index: int, path: Path, split: Split, since: Path | None = None
    ) -> None:
        """The trainer wrote its values here; their round may be over, or not have begun
        yet. ``since``: the own offer from which it went on, if it did."""
        self._own = OwnOffer.open(round_index, path, split, since, self.store)
        self._settle()

    def _settle(self) -> None:
        """The own offer belongs to its round from when that begins, or a later one."""
        own = self._own
        if own is not None and own.round_index <= max(self._rounds, default=-1):
            own.settle(self.store)
            if own.round_index in self._rounds:
                numbers = self._rounds[own.round_index]
                numbers.take(own.offer, numbers.inside)

    def offer_late(self, round_index: int, base_round: int) -> None:
        """What was trained for an earlier round is the offer of this one."""
        own, numbers = self._own, self._rounds[round_index]
        if own is None or own.round_index != base_round:
            raise LocalProtocolError(f"round {base_round} is to be offered untrained")
        numbers.take(own.offer, numbers.plan.inside(own.split))

    def open_reduction(self, round_index: int, instead_of: str) -> None:
        """Begins a sum over the ranges that this peer reduces."""
        numbers = self._rounds[round_index]
        ids = numbers.plan.reduced_by(self.me, instead_of=instead_of or None)
        numbers.sums[instead_of] = new_sum(
            numbers.plan.range_sizes[ids],
            fusion=self._fusion,
            adds_changes=self._adds_changes,
            sends_changes=self._wire.sends_changes,
        )

    def add_own(self, round_index: int, instead_of: str, weight: float) -> None:
        """Adds the own offer to a sum."""
        numbers = self._rounds[round_index]
        plan, failed = numbers.plan, instead_of or None
        if numbers.offer is None:
            raise LocalProtocolError("the own offer was to be added before it was made")
        reduced = plan.reduced_by(self.me, instead_of=failed)
        own = plan.own_ranges(self.me, instead_of=failed)
        own = own if numbers.inside is None else own[numbers.inside[own]]
        positions, total = np.searchsorted(reduced, own), numbers.sums[instead_of]
        cursor = total.open(positions, weight, source=self.me)
        segments = plan.segments(own.tolist())
        cursor.add(numbers.offer.read_flat(segments))
        if (owed := self._owes(numbers.offer)) is not None:
            owed.settle(segments)
        numbers.own[instead_of] = set(own.tolist())

    def _owes(self, offer: Offer | None) -> Owed | None:
        """Where to note what an offer's contributions lose. What was trained since has
        what earlier ones have lost added already."""
        is_newest = self._own is not None and self._own.offer is offer
        return self._owed if is_newest else None

    def close_reduction(self, round_index: int, instead_of: str) -> float:
        """Fuses, and writes what was fused to the store as version ``round + 1``.

        Where changes are added, gives by how much that differs from before in all.
        """
        numbers = self._rounds[round_index]
        plan, total = numbers.plan, numbers.sums[instead_of]
        ids = plan.reduced_by(self.me, instead_of=instead_of or None)
        # A backup may be asked about a round that it has left: the store, which the
        # trainer reads, has newer values then, and others get them from the sum.
        is_left = round_index < max(self._rounds)
        if isinstance(total, DeltaSum | MeanChange) and not is_left:
            self._begin(numbers, total, ids, numbers.own.get(instead_of, set()))
        elif isinstance(total, MeanChange):
            numbers.begin_late(total, ids)
        close(total, self._last_said, plan, ids)
        if is_left:
            return 0.0
        self._carry_over(numbers, total, ids)
        fused = ids[~total.absent]
        if not fused.size:
            return 0.0
        segments = plan.segments(fused.tolist())
        values = self._as_sent(total.values(np.flatnonzero(~total.absent)))
        self.store.write_flat(segments, values)
        self.store.set_version(segments, round_index + 1)
        return moved(self.store, segments, values) if self._adds_changes else 0.0

    def conclude(self, round_index: int) -> None:
        """All has come, or will not: the round is sealed next."""

    def total(self, round_index: int, instead_of: str) -> StreamingSum:
        """A sum of this peer's."""
        return self._rounds[round_index].sums[instead_of]

    def _begin(
        self,
        numbers: RoundNumbers,
        total: DeltaSum | MeanChange,
        ids: NDArray[np.int64],
        own: Collection[int],
    ) -> None:
        """Changes are added to the values of before the round, where they are here.

        Not to newer ones: in a round that is done again after a crash the changes are
        in these already. To older ones where this peer has trained these very values,
        because it could not get others: what comes of it is the newest that there is.
        """
        wanted, newest = numbers.homes.version, numbers.plan.round_index
        found = [
            position
            for position, number in enumerate(ids.tolist())
            if all(
                (number in own or self.store.holds(segment, wanted))
                and not self.store.is_newer(segment, newest, sealed=True)
                for segment in numbers.plan.segments([number])
            )
        ]
        positions = np.array(found, np.int64)
        old = self.store.read_flat(numbers.plan.segments(ids[positions].tolist()))
        total.begin(positions, old)

    def _carry_over(
        self, numbers: RoundNumbers, total: StreamingSum, ids: NDArray[np.int64]
    ) -> None:
        """What nobody contributed to keeps its newest values, where they are here."""
        plan, wanted = numbers.plan, numbers.homes.version
        kept: list[int] = []
        for position in np.flatnonzero(total.absent).tolist():
            segments = plan.segments([int(ids[position])])
            if all(self.store.holds(segment, wanted) for segment in segments):
                kept.append(position)
        if kept:
            positions = np.array(kept, np.int64)
            old = self.store.read_flat(plan.segments(ids[positions].tolist()))
            total.keep(positions, self._as_sent(old))

    def _as_sent(self, values: Floats) -> Floats:
        """What others will decode, so that every copy of a fused value is the same."""
        form = self._wire.value
        if form is FLOAT32:
            return values
        return decode(encode(values, form.name), form.name, np.empty_like(values))

    # --- Arriving --------------------------------------------------------------------

    def open_sink(self, event: OpenSink, export: Writer | None) -> None:
        """Prepares for a stream; ``RemoteProtocolError`` if its head makes no sense.

        ``export`` is where an export goes; without one its streams go nowhere.
        """
        stream = event.stream
        numbers = self._rounds[stream.round_index]
        sink: Sink | None
        if stream.hop == Hop.CONTRIBUTION:
            sink = self._sum_sink(numbers, stream, event.weight, event.absent)
        else:
            sink = self._buffer_sink(numbers, stream, event.absent, export)
        if sink is not None:
            form = self._wire.form(stream.hop)
            self._arriving[event.pull] = Arriving(stream, sink, form, event.total_bytes)

    def _buffer_sink(
        self,
        numbers: RoundNumbers,
        stream: StreamKey,
        absent: bytes,
        export: Writer | None,
    ) -> Sink | None:
        segments = list(stream_segments(numbers.plan, stream))
        writer: Writer | None = self.store
        version = stream.round_index
        if stream.hop == Hop.FUSED:
            present = present_ranges(numbers.plan, stream, absent)
            version = stream.round_index + 1
        else:
            present = present_bits(absent, len(segments))
            writer = export if stream.hop == Hop.EXPORT else writer
        if writer is None:
            return None
        buffer = memory.empty(sum(segment.size for segment in segments))
        return BufferSink(segments, present, writer, version, buffer)

    def _sum_sink(
        self, numbers: RoundNumbers, stream: StreamKey, weight: float, absent: bytes
    ) -> Sink:
        plan, failed = numbers.plan, stream.instead_of or None
        reduced = plan.reduced_by(self.me, instead_of=failed)
        ids = plan.ranges(
            Hop.CONTRIBUTION,
            source=stream.source,
            target=self.me,
            instead_of=failed,
        )
        total = numbers.sums[stream.instead_of]
        lacking = ~np.array(present_bits(absent, len(ids))) if absent else None
        positions = np.searchsorted(reduced, ids)
        cursor = total.open(positions, weight, absent=lacking, source=stream.source)
        return SumSink(cursor)

    def place(self, source: str, chunk: Chunk) -> memoryview | None:
        """Where the payload of a chunk belongs, if it can be put there as it is.

        What is put there counts only once it is absorbed.
        """
        arriving = self._arriving.get(chunk.pull)
        if arriving is None or arriving.stream.source != source:
            return None
        return arriving.room(chunk)

    def check(self, source: str, chunk: Chunk) -> None:
        """``RemoteProtocolError`` for bytes that are no finite values of a stream.

        Asked before the protocol counts them, so that they never arrived: of a
        contribution what came before still counts, anything else is asked elsewhere.
        """
        arriving = self._arriving.get(chunk.pull)
        if arriving is not None and arriving.stream.source == source:
            arriving.check(chunk)

    def round_of(self, pull: int) -> int | None:
        """The round of a stream on its way in."""
        arriving = self._arriving.get(pull)
        return None if arriving is None else arriving.stream.round_index

    def absorb(self, pull: int, payload: memoryview) -> None:
        """Takes bytes of a stream, which ``check`` has let pass."""
        arriving = self._arriving.get(pull)
        if arriving is not None:
            arriving.absorb(payload)

    def close_sink(self, pull: int, *, complete: bool) -> Came | None:
        """A stream ended: what is whole counts; of a contribution gives what came.

        What was asked for in a round that this peer has left comes too late: the store
        is in another round by now.
        """
        arriving = self._arriving.pop(pull, None)
        if arriving is None or not complete:
            return None
        stream = arriving.stream
        if stream.hop == Hop.EXPORT or stream.round_index == max(self._rounds):
            arriving.sink.finish()
        return arriving.came()

    # --- Leaving ---------------------------------------------------------------------

    def start(self, peer: str, pull: int, stream: StreamKey) -> tuple[int, bytes]:
        """Makes a stream ready; its length, and which ranges it lacks."""
        if stream.hop == CHECKPOINT:
            self._served[peer, pull] = self.store.checkpoint
            return self.store.checkpoint.nbytes, b""
        numbers = self._rounds[stream.round_index]
        absent = b""
        if stream.hop == TABLE:
            buffer = memoryview(numbers.homes.to_bytes())
        elif stream.hop == Hop.FUSED:
            values, lacking = self.fused(stream)
            absent = np.packbits(lacking).tobytes()
            buffer = encode(values, self._wire.value.name)
        elif stream.hop == Hop.CONTRIBUTION:
            made = numbers.promised.pop(stream, None)
            buffer, absent = made or self.contribution(stream)
        else:
            segments = stream_segments(numbers.plan, stream)
            # Whoever was away is listed as home of ranges that it never received: the
            # table says how the rounds were planned, the store how they went.
            wanted = wanted_versions(numbers.plan, stream.least)
            lacks = [not self.store.holds(segment, wanted) for segment in segments]
            absent = np.packbits(lacks).tobytes()
            buffer = encode(self.store.read_flat(segments), self._wire.value.name)
        self._served[peer, pull] = buffer
        return buffer.nbytes, absent

    def fused(self, stream: StreamKey) -> tuple[Floats, NDArray[np.bool_]]:
        """What a next holder gets of an own sum, and which ranges that lacks."""
        return self._rounds[stream.round_index].fused(stream)

    def promise(self, stream: StreamKey) -> memoryview:
        """What a reducer will get of the own offer, to be named by its hash."""
        made = self.contribution(stream)
        self._rounds[stream.round_index].promise(stream, made)
        return made[0]

    def contribution(self, stream: StreamKey) -> Made:
        """What a reducer gets of the own offer, and which ranges that lacks. However
        often it is made, it is the same."""
        numbers = self._rounds[stream.round_index]
        offer = numbers.offer
        given = Contribution.cut(numbers.plan, stream, offer, numbers.inside)
        return given.encoded(self._wire.contribution, self._owes(offer)), given.absent

    def chunk(self, peer: str, pull: int, offset: int, size: int) -> memoryview | None:
        """A piece of a stream that was started; None if it was stopped meanwhile."""
        if (buffer := self._served.get((peer, pull))) is None:
            return None
        if offset + size == buffer.nbytes:
            del self._served[peer, pull]
        return buffer[offset : offset + size]

    def stop_serving(self, peer: str, pull: int) -> None:
        """Frees a stream."""
        self._served.pop((peer, pull), None)
