"""How the peers of an experiment exchange: the daemon's own code, and no network.

A desk is what a daemon's ``Payloads`` is to it. Contributions are cut from offer files,
encoded, decoded and summed exactly as between daemons, one stream after the other.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from functools import partial
from pathlib import Path

import numpy as np

from p2pfusion.daemon.hidden_payloads import payloads_of
from p2pfusion.errors import RemoteProtocolError
from p2pfusion.fusion import Deviation, decode
from p2pfusion.limits import CHUNK_BYTES
from p2pfusion.protocol.events import OpenSink, StreamKey
from p2pfusion.protocol.manifest import Manifest
from p2pfusion.protocol.messages import Chunk
from p2pfusion.protocol.stream import stream_segments
from p2pfusion.security import ExchangeKey
from p2pfusion.simulation.attacks import Hostile
from p2pfusion.split.forms import FLOAT32
from p2pfusion.split.groups import pack_missing
from p2pfusion.split.homes import Homes
from p2pfusion.split.plan import ExchangePlan, Hop
from p2pfusion.split.segment import Segment, Split
from p2pfusion.store import Owed, Store
from p2pfusion.store.files import Floats

ASKED_BACKUPS = 2
"""Of so many reducers every peer checks something in a round. With ten peers a lying
reducer is then found in its first round with seven chances of eight."""

MOST_APART = 1.0
"""So far, in lengths of the change, what a backup has made may be from what a reducer
says. Of honest ones 99 in 100 are nearer than a third and all than two thirds, with two
of ten peers a thousand times too long; one that turns its change around is at two."""


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
    ) -> None:
        """``owed``: everybody's book of what contributions have lost, if they do.
        ``hostile``: who does not do as the others."""
        self._plan, self._store, self._hostile = plan, store, hostile
        self._form, self._hides = manifest.wire.contribution, manifest.wire.hides
        self.deviations: list[dict[str, Deviation]] = []
        """Of each reducer, how contributions lie to each other, if it looks."""
        self.refused: set[str] = set()
        """Who has sent what no peer takes."""
        self._again: set[tuple[str, str]] = set()
        self._second: list[tuple[str, tuple[Segment, ...], Floats, Floats]] = []
        """Reducers, what was asked again of their work, what was there before, and what
        a backup answered."""
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
            self.deviations.append(
                self._of[reducer].deviations(self._plan.round_index, "")
            )

    def ask_backups(self, weights: Mapping[str, float], drawn: random.Random) -> None:
        """Every peer asks backups for something that it gets from its reducers, some of
        them, drawn anew in each round: ``liars`` compares.

        Before ``fuse``: what is fused later stands in the store all share.

        Other forms than float32 round what a reducer gets, and not what it adds of its
        own, so that a backup has something else.
        """
        if self._form is not FLOAT32:
            return
        for target in self._plan.peers:
            reducers = self._plan.sources(Hop.FUSED, target)
            for reducer in drawn.sample(reducers, min(ASKED_BACKUPS, len(reducers))):
                others = [b for b in self._plan.backups(reducer, target) if b != target]
                if not others:
                    continue
                backup = drawn.choice(others)
                if (backup, reducer) not in self._again:
                    self._reduce(backup, reducer, weights)
                self._again.add((backup, reducer))
                self._ask(backup, reducer, target)

    def _ask(self, backup: str, reducer: str, target: str) -> None:
        number = self._plan.round_index
        stream = StreamKey(Hop.FUSED.value, number, backup, target, reducer)
        size, absent = self._of[backup].start(target, 0, stream)
        if size and not any(absent):
            told = self._of[backup].chunk(target, 0, 0, size)
            assert told is not None
            segments = stream_segments(self._plan, stream)
            before = self._store.read_flat(segments)
            self._second.append((reducer, segments, before, decode(told, "float32")))

    def liars(self) -> set[str]:
        """Whose fused changes are far from what backups have made of the same.

        Not any other: lengths are compared over all ranges that a reducer has, and the
        backup has only some of these, so that it may cut a long change a little more or
        less. In a swarm it takes the contributors' signatures to say which one lies.
        """
        apart: dict[str, float] = {}
        moved: dict[str, float] = {}
        for reducer, segments, before, told in self._second:
            lie = _square(self._store.read_flat(segments), told)
            apart[reducer] = apart.get(reducer, 0.0) + lie
            moved[reducer] = moved.get(reducer, 0.0) + _square(told, before)
        return {r for r in apart if apart[r] > MOST_APART**2 * moved[r]}

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


def _square(one: Floats, other: Floats) -> float:
    """The squared distance."""
    apart = one.astype(np.float64) - other
    return float(apart @ apart)
