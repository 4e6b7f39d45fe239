"""How the peers of an experiment exchange: the daemon's own code, and no network.

A desk is what a daemon's ``Payloads`` is to it. Contributions are cut from offer files,
encoded, decoded and summed exactly as between daemons, one stream after the other.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from p2pfusion.daemon.payloads import Payloads
from p2pfusion.limits import CHUNK_BYTES
from p2pfusion.protocol.events import OpenSink, StreamKey
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
        wire_dtype: str,
        *,
        adds_changes: bool = False,
        owed: Mapping[str, Owed | None],
    ) -> None:
        """``adds_changes``: what is offered are changes, and weights are shares.
        ``owed``: everybody's book of what contributions have lost, if they do."""
        self._plan = plan
        self._of = {
            peer: Payloads(
                peer, store, wire_dtype, adds_changes=adds_changes, owed=owed[peer]
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
            self._reduce(reducer, weights)

    def _reduce(self, reducer: str, weights: Mapping[str, float]) -> None:
        desk, number = self._of[reducer], self._plan.round_index
        desk.open_reduction(number, "")
        if reducer in weights:
            desk.add_own(number, "", weights[reducer])
        for pull, source in enumerate(self._plan.sources(Hop.CONTRIBUTION, reducer)):
            if source not in weights:
                continue
            stream = StreamKey(Hop.CONTRIBUTION.value, number, source, reducer)
            size, absent = self._of[source].start(reducer, pull, stream)
            sink = OpenSink(pull, stream, weights[source], size, absent)
            desk.open_sink(sink, None)
            for offset in range(0, size, CHUNK_BYTES):
                length = min(CHUNK_BYTES, size - offset)
                chunk = self._of[source].chunk(reducer, pull, offset, length)
                assert chunk is not None
                desk.absorb(pull, chunk)
            desk.close_sink(pull, complete=True)
        desk.close_reduction(number, "")
