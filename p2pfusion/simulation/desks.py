"""How the peers of an experiment exchange: the daemon's own code, and no network.

A desk is what a daemon's ``Payloads`` is to it. Contributions are cut from offer files,
encoded, decoded and summed exactly as between daemons, one stream after the other.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np

from p2pfusion.daemon.hidden_payloads import payloads_of
from p2pfusion.daemon.weighed_payloads import WeighedPayloads
from p2pfusion.errors import RemoteProtocolError
from p2pfusion.fusion import Deviation, decode, encode
from p2pfusion.fusion.repeating import LastSaid
from p2pfusion.fusion.weighing import Opinions
from p2pfusion.limits import CHUNK_BYTES
from p2pfusion.protocol.events import OpenSink, StreamKey
from p2pfusion.protocol.manifest import Manifest
from p2pfusion.protocol.messages import Chunk
from p2pfusion.protocol.stream import stream_segments
from p2pfusion.security import ExchangeKey
from p2pfusion.simulation.attacks import Hostile
from p2pfusion.split.groups import pack_missing
from p2pfusion.split.homes import Homes
from p2pfusion.split.plan import ExchangePlan, Hop
from p2pfusion.split.segment import Segment, Split
from p2pfusion.store import Owed, Store
from p2pfusion.store.files import Floats


class Desks:
    """Everybody's desk in one round. All share one store, the assembled model."""

    def __init__(
        self,
        plan: ExchangePlan,
        store: Store,
        homes: Homes,
        manifest: Manifest,
        *,
        owed: Mapping[str, Owed | None],
        hostile: Hostile | None = None,
        opinions: Mapping[str, Opinions] | None = None,
        last_said: Mapping[str, LastSaid] | None = None,
    ) -> None:
        """``owed``: everybody's book of what contributions have lost, if they do.
        ``hostile``: who does not do as the others. ``opinions``: what everybody knows
        of reducers that contradict each other, where fused values are weighed;
        ``last_said``: what everybody remembers that contributors have said."""
        self._plan, self._store, self._hostile = plan, store, hostile
        self._form, self._hides = manifest.wire.contribution, manifest.wire.hides
        self._value, self._weighs = manifest.wire.value, manifest.weighs
        self.deviations: list[dict[str, Deviation]] = []
        """Of each reducer, how contributions lie to each other, if it looks."""
        self.refused: set[str] = set()
        """Who has sent what no peer takes."""
        self.caught: set[str] = set()
        """Whose fused values were found to be lies."""
        keys = {peer: ExchangeKey.generate() for peer in plan.peers}

        def secret(peer: str, other: str) -> bytes:
            return keys[peer].shared(keys[other].public)

        self._of = {
            peer: payloads_of(
                manifest,
                peer,
                store,
                owed=owed[peer],
                pair_secret=partial(secret, peer),
                opinions=(opinions or {}).get(peer),
                last_said=(last_said or {}).get(peer),
            )
            for peer in plan.peers
        }
        for desk in self._of.values():
            desk.enter(plan, homes)

    def offer(
        self,
        peer: str,
        path: Path,
        split: Split,
        base_round: int,
        since: Path | None = None,
    ) -> None:
        """What a peer has trained on a split, in this round or one before, going on
        from what it offered ``since`` then, if it did."""
        desk, number = self._of[peer], self._plan.round_index
        desk.offered(base_round, path, split, since)
        if base_round != number:
            desk.offer_late(number, base_round)

    def fuse(self, weights: Mapping[str, float]) -> None:
        """Sums everything, at every reducer; who has no weight has offered nothing."""
        for reducer in self._plan.peers:
            self._reduce(reducer, "", weights)
            total = self._of[reducer].total(self._plan.round_index, "")
            self.deviations.append(total.deviations)

    def hand_out(self, weights: Mapping[str, float]) -> None:
        """What was fused goes to whoever holds it next; hostile reducers lie.

        All share one store, so that has what the last one took of it.
        """
        hostile = self._hostile.peers if self._hostile else frozenset[str]()
        for reducer in sorted(hostile.intersection(self._plan.peers)):
            self._write_told(reducer)
        if not self._weighs:
            return
        for reducer in self._plan.peers:
            self._ask_backups(reducer, weights)
        for target in self._plan.peers:
            if target not in hostile:
                for reducer in self._plan.sources(Hop.FUSED, target):
                    self._compare(reducer, target)
                self._of[target].conclude(self._plan.round_index)

    def lose(self, peers: Collection[str]) -> None:
        """What this round has made of a range goes with those who were put out, where
        nobody else keeps it: what the others had before stays."""
        plan = self._plan
        stays = ~np.isin(plan.peers, list(peers))
        kept = plan.next_holders[stays].any(axis=0) | stays[plan.reducer]
        segments = plan.segments(np.flatnonzero((plan.reducer >= 0) & ~kept).tolist())
        self._store.write_flat(segments, self._store.read_flat(segments))

    def _fused(self, source: str, target: str, instead_of: str = "") -> StreamKey:
        number = self._plan.round_index
        return StreamKey(Hop.FUSED.value, number, source, target, instead_of)

    def _write_told(self, reducer: str) -> None:
        """Writes what a reducer says that it has fused."""
        total = self._of[reducer].total(self._plan.round_index, "")
        ids = self._plan.reduced_by(reducer)[~total.absent]
        segments = self._plan.segments(ids.tolist())
        new = total.values(np.flatnonzero(~total.absent))
        self._store.write_flat(segments, self._told(reducer, segments, new))

    def _told(self, peer: str, segments: Sequence[Segment], new: Floats) -> Floats:
        """What a peer makes of what it has fused."""
        if self._hostile is None:
            return new
        return self._hostile.told(peer, self._store.read_flat(segments), new)

    def _tell(self, stream: StreamKey) -> None:
        """A stream of fused values, as its source tells them."""
        giver, taker, pull = self._of[stream.source], self._of[stream.target], 0
        size, absent = giver.start(stream.target, pull, stream)
        payload = giver.chunk(stream.target, pull, 0, size)
        assert payload is not None
        segments, form = stream_segments(self._plan, stream), self._value.name
        told = self._told(stream.source, segments, decode(payload, form))
        payload = encode(told, form)
        taker.open_sink(OpenSink(pull, stream, 1.0, size, absent), None)
        taker.absorb(pull, payload)
        taker.close_sink(pull, complete=True)

    def _ask_backups(self, reducer: str, weights: Mapping[str, float]) -> None:
        """A reducer's backups make the same again. What they write of it to the store
        that all share is replaced by what the reducer says."""
        backups = {
            backup
            for target in self._plan.peers
            for backup in self._plan.backups(reducer, target)
        }
        for backup in sorted(backups):
            self._reduce(backup, reducer, weights)
        self._write_told(reducer)

    def _compare(self, reducer: str, target: str) -> None:
        """A target gets what a reducer has fused, and what its backups have made."""
        self._tell(self._fused(reducer, target))
        for backup in self._plan.backups(reducer, target):
            if backup != target:
                self._tell(self._fused(backup, target, reducer))
        desk = self._of[target]
        assert isinstance(desk, WeighedPayloads)
        told = desk.settle(self._plan.round_index, reducer)
        self.caught |= {caught.peer for caught in told}

    def _reduce(
        self, reducer: str, instead_of: str, weights: Mapping[str, float]
    ) -> None:
        desk, number = self._of[reducer], self._plan.round_index
        desk.open_reduction(number, instead_of)
        if reducer in weights:
            desk.add_own(number, instead_of, weights[reducer])
        sources = self._plan.sources(
            Hop.CONTRIBUTION, reducer, instead_of=instead_of or None
        )
        came = [source for source in sources if source in weights]
        for source in came:
            stream = StreamKey(
                Hop.CONTRIBUTION.value, number, source, reducer, instead_of
            )
            self._carry(stream, weights[source])
        if self._hides:
            missing = set(self._plan.peers) - weights.keys()
            asked = pack_missing(self._plan, missing)
            for source in came:
                stream = StreamKey(
                    Hop.SEEDS.value, number, source, reducer, instead_of, asked=asked
                )
                self._carry(stream, 1.0)
        desk.close_reduction(number, instead_of)

    def _carry(self, stream: StreamKey, weight: float) -> None:
        """One stream into a sum; what is refused counts as far as it came."""
        giver, taker, pull = self._of[stream.source], self._of[stream.target], 0
        size, absent = giver.start(stream.target, pull, stream)
        taker.open_sink(OpenSink(pull, stream, weight, size, absent), None)
        try:
            for offset in range(0, size, CHUNK_BYTES):
                length = min(CHUNK_BYTES, size - offset)
                payload = giver.chunk(stream.target, pull, offset, length)
                assert payload is not None
                if self._hostile is not None and stream.hop == Hop.CONTRIBUTION:
                    payload = self._hostile.sent(stream.source, self._form, payload)
                taker.check(stream.source, Chunk(pull, offset, payload))
                taker.absorb(pull, payload)
        except RemoteProtocolError:
            self.refused.add(stream.source)
            taker.close_sink(pull, complete=False)
        else:
            taker.close_sink(pull, complete=True)
