"""The numbers of a swarm with secure aggregation: as others, but contributions are
masked, and a sum is made when it can be opened (``masking.py``)."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from p2pfusion.daemon.arriving import Arriving
from p2pfusion.daemon.contribution import Contribution
from p2pfusion.daemon.masking import Hiding, Masks, Opening, Ring
from p2pfusion.daemon.payloads import Payloads
from p2pfusion.daemon.sinks import Floats, KeptSink, Writer
from p2pfusion.daemon.weighed_payloads import WeighedPayloads
from p2pfusion.errors import LocalProtocolError, RemoteProtocolError
from p2pfusion.fusion.repeating import LastSaid
from p2pfusion.fusion.weighing import Opinions
from p2pfusion.protocol.events import OpenSink, StreamKey
from p2pfusion.protocol.manifest import Manifest
from p2pfusion.split.forms import FLOAT32, HIDDEN
from p2pfusion.split.grid import Counts
from p2pfusion.split.plan import Hop
from p2pfusion.store import Owed, Store


class HiddenPayloads(Payloads):
    """All arrays of one peer's exchange, of which reducers see sums."""

    def __init__(self, me: str, store: Store, masks: Masks) -> None:
        super().__init__(me, store, FLOAT32.name)
        self._wire = HIDDEN
        self._masks = masks
        self._openings: dict[tuple[int, str], Opening] = {}
        self._hidings: dict[tuple[int, str, str], Hiding] = {}

    def forget(self, round_index: int) -> None:
        """Nobody will ask for this round any more."""
        super().forget(round_index)
        for opened in [key for key in self._openings if key[0] == round_index]:
            del self._openings[opened]
        for hidden in [key for key in self._hidings if key[0] == round_index]:
            del self._hidings[hidden]

    # --- A reducer -------------------------------------------------------------------

    def open_reduction(self, round_index: int, instead_of: str) -> None:
        """Begins to collect what this peer reduces."""
        super().open_reduction(round_index, instead_of)
        plan = self._rounds[round_index].plan
        opening = Opening(plan, self.me, instead_of, self._masks)
        self._openings[round_index, instead_of] = opening

    def add_own(self, round_index: int, instead_of: str, weight: float) -> None:
        """The own offer counts, as any other, where a sum can be opened."""
        numbers = self._rounds[round_index]
        own = numbers.plan.own_ranges(self.me, instead_of=instead_of or None)
        numbers.own[instead_of] = set(own.tolist())
        self._openings[round_index, instead_of].own = True

    def close_reduction(self, round_index: int, instead_of: str) -> float:
        """Opens the sums, fuses, and writes to the store what was fused."""
        numbers = self._rounds[round_index]

        def own(ranges: Counts) -> Floats:
            if numbers.offer is None:
                raise LocalProtocolError("the own offer is to be added, and not made")
            return numbers.offer.read_flat(numbers.plan.segments(ranges.tolist()))

        self._openings[round_index, instead_of].fuse(numbers.sums[instead_of], own)
        return super().close_reduction(round_index, instead_of)

    def open_sink(self, event: OpenSink, export: Writer | None) -> None:
        """Prepares for a stream; ``RemoteProtocolError`` if its head makes no sense."""
        stream = event.stream
        if stream.hop not in (Hop.CONTRIBUTION, Hop.SEEDS):
            super().open_sink(event, export)
            return
        if event.absent:
            raise RemoteProtocolError("a masked contribution lacks something")
        opening = self._openings[stream.round_index, stream.instead_of]

        def whole(values: Ring) -> None:
            if stream.hop == Hop.CONTRIBUTION:
                opening.came(stream.source, values)
            else:
                opening.told(stream.source, stream.asked, values)

        form = HIDDEN.form(stream.hop)
        room = np.empty(form.most_in(event.total_bytes), np.uint32)
        sink = KeptSink(room, whole)
        self._arriving[event.pull] = Arriving(stream, sink, form, event.total_bytes)

    # --- A holder --------------------------------------------------------------------

    def start(self, peer: str, pull: int, stream: StreamKey) -> tuple[int, bytes]:
        """Makes a stream ready; its length in bytes, and which ranges it lacks."""
        if stream.hop != Hop.SEEDS:
            return super().start(peer, pull, stream)
        told = self._hiding(stream).seeds(stream.asked)
        self._served[peer, pull] = told.view(np.uint8).data
        return told.nbytes, b""

    def contribution(self, stream: StreamKey) -> tuple[memoryview, bytes]:
        """What a reducer gets of the own offer, masked; always with the same masks."""
        numbers = self._rounds[stream.round_index]
        given = Contribution.cut(numbers.plan, stream, numbers.offer, None)
        return self._hiding(stream).hidden(given.values).view(np.uint8).data, b""

    def _hiding(self, stream: StreamKey) -> Hiding:
        number, target, failed = stream.round_index, stream.target, stream.instead_of
        found = self._hidings.get((number, target, failed))
        if found is None:
            plan = self._rounds[number].plan
            found = Hiding(plan, self.me, target, failed, self._masks)
            self._hidings[number, target, failed] = found
        return found


def owed_of(manifest: Manifest, path: Path) -> Owed | None:
    """A peer's book of what its contributions lose, if they lose something."""
    return Owed(path, manifest.layout) if manifest.wire.is_lossy else None


def payloads_of(
    manifest: Manifest,
    me: str,
    store: Store,
    *,
    owed: Owed | None,
    pair_secret: Callable[[str], bytes],
    opinions: Opinions | None = None,
    last_said: LastSaid | None = None,
) -> Payloads:
    """The numbers of one peer of a swarm; ``pair_secret`` gives what only this peer and
    another know. ``opinions``: what is known of reducers that contradict each other;
    ``last_said``: what contributors have said before."""
    if manifest.wire.hides:
        masks = Masks(manifest.secure_aggregation, pair_secret)
        return HiddenPayloads(me, store, masks)
    if manifest.weighs:
        return WeighedPayloads(
            me,
            store,
            manifest.wire_dtype,
            fusion=manifest.fusion,
            owed=owed,
            opinions=opinions or Opinions(),
            last_said=last_said,
        )
    return Payloads(
        me,
        store,
        manifest.wire_dtype,
        fusion=manifest.fusion,
        adds_changes=manifest.adds_changes,
        owed=owed,
        last_said=last_said,
    )
