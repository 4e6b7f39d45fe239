"""Real numbers for a simulated peer: its store, its sums, its offers.

Without this a simulation moves versions and lengths of streams only. With it every
effect is also performed by the daemon's own ``Payloads`` on a real ``Store``, chunks
carry real values, and somebody trains: what comes out is a model. Time stays virtual;
training takes as long as the machine's speed says, however long it really took.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from p2pfusion.daemon.hidden_payloads import owed_of, payloads_of
from p2pfusion.daemon.watching import Watching
from p2pfusion.daemon.weighed_payloads import WeighedPayloads
from p2pfusion.protocol import events as e
from p2pfusion.protocol.manifest import Manifest
from p2pfusion.split.depth import tensor_shape
from p2pfusion.split.segment import Segment, Split
from p2pfusion.store import Store, reading_from, write_offer

Floats = NDArray[np.float32]
Read = Callable[[Segment], Floats]


@dataclass(frozen=True)
class Trained:
    """A round's outcome: dense arrays in the layout's order, and what is told of it."""

    arrays: Sequence[NDArray[np.floating]]
    samples: int
    loss: float
    norm: float
    l1: float = 0.0


Train = Callable[[int, Split, Read], Trained]
"""Trains a split in a round, from the values that the reader gives."""


class Assembly:
    """A whole model in memory: where an export's streams go."""

    def __init__(self, store: Store) -> None:
        """Begins with what this store has."""
        self._layout = store.layout
        full = Split.full(self._layout)
        self.arrays = [
            store.read(full.segment(self._layout, index)).copy()
            for index in range(len(self._layout.parameters))
        ]

    def write_flat(self, segments: list[Segment], values: Floats) -> None:
        """Puts the flat values of segments where they belong."""
        start = 0
        for segment in segments:
            rows = (np.fromiter(indices, np.int64) for indices in segment.sets)
            piece = values[start : start + segment.size].reshape(segment.shape)
            self.arrays[segment.parameter][np.ix_(*rows)] = piece
            start += segment.size

    def values(self) -> dict[str, Floats]:
        """The model's tensors, by name."""
        pairs = zip(self._layout.parameters, self.arrays, strict=True)
        return {p.name: array.reshape(tensor_shape(p)) for p, array in pairs}


class Numbers:
    """The arrays behind one life's effects."""

    def __init__(
        self,
        me: str,
        directory: Path,
        manifest: Manifest,
        train: Train,
        pair_secret: Callable[[str], bytes],
    ) -> None:
        """In a directory that outlives the life, as a machine's disk does.

        ``pair_secret``: what this life and the present one of another only know.
        """
        self._directory = directory
        path, layout, seed = directory / "store", manifest.layout, manifest.seed
        self.store = (
            Store.open(path, layout, seed, writable=True)
            if path.exists()
            else Store.create(path, layout, seed)
        )
        self._payloads = payloads_of(
            manifest,
            me,
            self.store,
            owed=owed_of(manifest, directory / "owed"),
            pair_secret=pair_secret,
        )
        self._watching = Watching()
        self._train = train
        self._rounds = manifest.rounds
        self._results: dict[int, Trained] = {}
        self.export: Assembly | None = None
        self.moved = 0.0
        """How far the last reduction has moved values."""
        self.caught: list[e.Caught] = []
        """Who was caught, and is still to be told."""
        self._perform: dict[type, Callable[..., object]] = {
            e.EnterRound: lambda x: self._payloads.enter(x.plan, x.homes),
            e.OfferLate: lambda x: self._payloads.offer_late(
                x.round_index, x.base_round
            ),
            e.OpenReduction: lambda x: self._payloads.open_reduction(
                x.round_index, x.instead_of
            ),
            e.AddOwn: lambda x: self._payloads.add_own(
                x.round_index, x.instead_of, x.weight
            ),
            e.CloseReduction: self._close_reduction,
            e.KeepOld: self._keep_old,
            e.OpenSink: self._open_sink,
            e.Absorb: self._absorb,
            e.CloseSink: self._close_sink,
            e.Settle: self._settle,
            e.StopServing: lambda x: self._payloads.stop_serving(x.peer, x.pull),
            e.Seal: self._seal,
            e.Forget: lambda x: self._payloads.forget(x.round_index),
        }

    def perform(self, effect: e.Effect) -> None:
        """Does what an effect means for the arrays, if it means anything."""
        perform = self._perform.get(type(effect))
        if perform is not None:
            perform(effect)

    def _close_reduction(self, effect: e.CloseReduction) -> None:
        number, instead_of = effect.round_index, effect.instead_of
        self.moved = self._payloads.close_reduction(number, instead_of)
        total = self._payloads.total(number, instead_of)
        self.caught += self._watching.note(total.deviations)

    def _keep_old(self, effect: e.KeepOld) -> None:
        self._payloads.keep_old(effect.round_index, effect.cells)
        if effect.round_index == self._rounds:
            self.store.flush()  # no seal follows the last round

    def _open_sink(self, effect: e.OpenSink) -> None:
        if effect.stream.hop != "table":
            self._payloads.open_sink(effect, self.export)

    def _close_sink(self, effect: e.CloseSink) -> None:
        number = self._payloads.round_of(effect.pull)
        self._payloads.close_sink(effect.pull, complete=effect.complete)
        if number == self._rounds:
            self.store.flush()  # no seal follows the last round

    def _settle(self, effect: e.Settle) -> None:
        assert isinstance(self._payloads, WeighedPayloads)
        number = effect.round_index
        self.caught += self._payloads.settle(number, effect.reducer)
        if number == self._rounds:
            self.store.flush()

    def _seal(self, effect: e.Seal) -> None:
        self._payloads.conclude(effect.next_round - 1)
        self.store.flush()

    def _absorb(self, effect: e.Absorb) -> None:
        if self._payloads.round_of(effect.pull) is not None:
            self._payloads.absorb(effect.pull, effect.payload)

    def start(self, effect: e.SendStart) -> tuple[int, bytes]:
        """Makes a stream ready: its length, and what it lacks."""
        return self._payloads.start(effect.peer, effect.pull, effect.stream)

    def chunk(self, effect: e.SendChunk) -> memoryview | None:
        """The bytes of a chunk; None if its stream was stopped."""
        return self._payloads.chunk(
            effect.peer, effect.pull, effect.offset, effect.size
        )

    def train(self, begun: e.StartTraining) -> None:
        """Trains a round; what comes of it is kept until the machine is done."""
        number, split, store = begun.round_index, begun.split, self.store
        read = reading_from(self._since(begun), store.layout, split, store.read)
        self._results[number] = self._train(number, split, read)

    def trained(self, done: e.StartTraining) -> Trained:
        """The machine is done with a round: its values can be served."""
        number = done.round_index
        result, path = self._results.pop(number), self._offer(number)
        write_offer(path, result.arrays)
        self._payloads.offered(number, path, done.split, self._since(done))
        return result

    def _offer(self, number: int) -> Path:
        return self._directory / f"offer-{number}.f32"

    def _since(self, begun: e.StartTraining) -> Path | None:
        return self._offer(begun.round_index - 1) if begun.goes_on else None

    def begin_export(self) -> None:
        """The next export's streams make up a model."""
        self.export = Assembly(self.store)
