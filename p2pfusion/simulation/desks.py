"""How the peers of an experiment exchange: the daemon's own code, and no network.

A desk is what a daemon's ``Payloads`` is to it. Contributions are cut from offer files,
encoded, decoded and summed exactly as between daemons, one stream after the other.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path

from p2pfusion.daemon.hidden_payloads import payloads_of
from p2pfusion.limits import CHUNK_BYTES
from p2pfusion.protocol.events import OpenSink, StreamKey
from p2pfusion.protocol.manifest import Manifest
from p2pfusion.security import ExchangeKey
from p2pfusion.split.groups import pack_missing
from p2pfusion.split.homes import Homes
from p2pfusion.split.plan import ExchangePlan, Hop
from p2pfusion.split.segment import Split
from p2pfusion.store import Owed, Store


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
    ) -> None:
        """``owed``: everybody's book of what contributions have lost, if they do."""
        self._plan = plan
        self._hides = manifest.wire.hides
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
            )
            for peer in plan.peers
        }
        for desk in self._of.values():
            desk.enter(plan, homes)

    def offer(self, peer: str, path: Path, split: Split, base_round: int) -> None:
        """What a peer has trained on a split, in this round or one before."""
        desk, number = self._of[peer], self._plan.round_index
        desk.offered(base_round, path, split)
        if base_round != number:
            desk.offer_late(number, base_round)

    def fuse(self, weights: Mapping[str, float]) -> None:
        """Sums everything, at every reducer; who has no weight has offered nothing."""
        for reducer in self._plan.peers:
            self._reduce(reducer, weights)

    def _reduce(self, reducer: str, weights: Mapping[str, float]) -> None:
        desk, number = self._of[reducer], self._plan.round_index
        desk.open_reduction(number, "")
        if reducer in weights:
            desk.add_own(number, "", weights[reducer])
        sources = self._plan.sources(Hop.CONTRIBUTION, reducer)
        came = [source for source in sources if source in weights]
        for source in came:
            stream = StreamKey(Hop.CONTRIBUTION.value, number, source, reducer)
            self._carry(stream, weights[source])
        if self._hides:
            missing = set(self._plan.peers) - weights.keys()
            asked = pack_missing(self._plan, missing)
            for source in came:
                stream = StreamKey(
                    Hop.SEEDS.value, number, source, reducer, asked=asked
                )
                self._carry(stream, 1.0)
        desk.close_reduction(number, "")

    def _carry(self, stream: StreamKey, weight: float) -> None:
        giver, taker, pull = self._of[stream.source], self._of[stream.target], 0
        size, absent = giver.start(stream.target, pull, stream)
        taker.open_sink(OpenSink(pull, stream, weight, size, absent), None)
        for offset in range(0, size, CHUNK_BYTES):
            length = min(CHUNK_BYTES, size - offset)
            chunk = giver.chunk(stream.target, pull, offset, length)
            assert chunk is not None
            taker.absorb(pull, chunk)
        taker.close_sink(pull, complete=True)
