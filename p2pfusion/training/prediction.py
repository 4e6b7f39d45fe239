"""What a sub-model will take of a machine's memory, before it is trained.

A step of the real trainer, with its objective, optimiser and evaluation, runs on some
records, twice: what is allocated after each operator (``ledger.py``) is a number
that does not depend on the batch, and one for each of its records. So a batch of any
size is known from two small ones. What the process has taken already, with the data, is
read from the system; copies that never are tensors are counted. A graphics card with
memory of its own has that counted alone.

Of several processes that train together this is one. It computes its part of every
batch, and torch keeps a copy of its gradients on their way to the others.

The largest fraction of several is found by halving: the peak grows with the fraction.
Only sub-models whose copies fit are ever built.
"""

from __future__ import annotations

import gc
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from p2pfusion.split.coverage import TRAINING_ELEMENT_BYTES
from p2pfusion.split.layout import Layout
from p2pfusion.split.segment import Segment, Split
from p2pfusion.training.data.records import Records
from p2pfusion.training.devices import find_devices, has_own_memory, taken_bytes
from p2pfusion.training.heap import KEPT_HEAP_BYTES
from p2pfusion.training.ledger import Ledger
from p2pfusion.training.loop import evaluation_batch
from p2pfusion.training.setup import Setup
from p2pfusion.training.trainer import Trainer

MOST, LEAST = 16, 4
"""Records of the larger of the two small batches; the other has half as many. Few are
computed by other kernels than many, and one alone would be broadcast."""

HEAP_BYTES = KEPT_HEAP_BYTES // 2
"""Freed memory that the heap has kept at the peak: between nothing and all it may."""

STEPS = 2
"""The optimiser has its buffers from the first step on."""

LATE_ROUND = 1_000
"""Objectives that change with the rounds have become what they are."""


@dataclass(frozen=True)
class Prediction:
    """The peak memory of one process of a trainer, in bytes, by what takes it."""

    process: int
    """Program, libraries and this peer's records."""
    parameters: int
    states: int
    """Gradients, the optimiser's buffers, and what the round began with."""
    activations: int
    """What grows with the batch: saved for the backward pass, and passing."""

    @property
    def total(self) -> int:
        """All of it."""
        return self.process + self.parameters + self.states + self.activations


@dataclass(frozen=True)
class Trace:
    """Bytes after each operator, of training and of what comes after it."""

    training: np.ndarray
    after: np.ndarray


class Predictor:
    """Predicts for one peer: its setup, and all of its own records."""

    def __init__(self, setup: Setup, records: Records, validation_count: int) -> None:
        """``records``: any of those that are trained on."""
        self._setup = setup
        self._records = records
        self._device = find_devices(setup.device, setup.processes)[0]
        self._is_apart = has_own_memory(self._device)
        self._batch = -(-min(setup.schedule.batch, len(records)) // setup.processes)
        self._validated = min(validation_count, evaluation_batch(records))

    def predict(self, split: Split) -> Prediction:
        """The peak of training this split."""
        parts = self._setup.schedule.parts
        many = max(LEAST, min(MOST, self._batch // parts))
        few = self._trace(split, many // 2 * parts)
        more = self._trace(split, many // 2 * 2 * parts)
        count = many // 2 * parts
        peak, growing = _peak(few.training, more.training, count, self._batch)
        if self._validated:
            after = _peak(few.after, more.after, count, self._validated)
            if after[0] > peak:
                peak, growing = after
        layout = self._setup.layout
        parameters = split.size(layout) * TRAINING_ELEMENT_BYTES
        trained = split.trained.size(layout) * TRAINING_ELEMENT_BYTES
        # What was received is kept in arrays, of which the ledger knows nothing; so is
        # what is given away, when there are no gradients any more.
        peak = max(int(peak), parameters + trained * self._given_away)
        beside = self._received + (self._setup.processes > 1)
        return Prediction(
            process=taken_bytes(self._device) + (0 if self._is_apart else HEAP_BYTES),
            parameters=parameters,
            states=peak - parameters - int(growing) + trained * beside,
            activations=int(growing),
        )

    @property
    def _received(self) -> int:
        """Copies of what was received, in arrays, which are the machine's."""
        return 0 if self._is_apart else 1

    @property
    def _given_away(self) -> int:
        setup = self._setup
        is_copied = setup.changes or setup.outer_momentum > 0
        return self._received if is_copied or setup.privacy else 0

    def least(self, split: Split) -> int:
        """The least that training it takes, without building it: the process,
        parameters, gradients and what the round began with."""
        layout = self._setup.layout
        held, trained = split.size(layout), split.trained.size(layout)
        copies = held + trained + self._received * trained
        return taken_bytes(self._device) + copies * TRAINING_ELEMENT_BYTES

    def _trace(self, split: Split, count: int) -> Trace:
        setup = self._setup
        share = 0.5 if self._validated else 0.0
        wanted = 2 * count if self._validated else count
        chosen = np.resize(np.arange(len(self._records)), wanted)
        trainer = Trainer(
            replace(
                setup,
                schedule=replace(setup.schedule, batch=count, steps=STEPS),
                data=replace(setup.data, partition=None, validation=share),
                outer_momentum=0.0,
                owed=None,
                processes=1,
            ),
            records=self._records.select(chosen),
        )
        ends: list[int] = []
        draws = np.random.default_rng(0)
        with Ledger(self._device if self._is_apart else None) as ledger:
            for round_index in range(LATE_ROUND, LATE_ROUND + self._rounds):
                trainer.train(
                    round_index=round_index,
                    split=split,
                    learning_rate=1e-6,
                    read=lambda segment: _drawn(setup.layout, segment, draws),
                    on_progress=lambda *_: ends.append(len(ledger.timeline)),
                )
                if trainer.measures:
                    trainer.measure()
        del trainer
        gc.collect()
        timeline = np.array(ledger.timeline, np.float64)
        return Trace(timeline[: ends[-1]], timeline[ends[-1] :])

    @property
    def _rounds(self) -> int:
        """So many rounds, and an objective has all the past that it keeps."""
        previous = self._setup.objective.get("previous", 0)
        return 1 + (previous if isinstance(previous, int) else 0)


def largest(
    predictor: Predictor, splits: Sequence[Split], memory_bytes: int
) -> tuple[int, dict[int, Prediction]]:
    """Which of these splits, ascending, is the last whose peak fits, the first if none
    does; and what was predicted, by place: of that one, and of the next if it could be
    built."""
    found: dict[int, Prediction] = {}

    def fits(place: int) -> bool:
        if predictor.least(splits[place]) > memory_bytes:
            return False
        found[place] = predictor.predict(splits[place])
        return found[place].total <= memory_bytes

    low, high = 0, len(splits)
    while high - low > 1:
        middle = (low + high) // 2
        if fits(middle):
            low = middle
        else:
            high = middle
    if low not in found:
        found[low] = predictor.predict(splits[low])
    return low, {place: found[place] for place in (low, high) if place in found}


def _line(
    few: np.ndarray, more: np.ndarray, count: int
) -> tuple[np.ndarray, np.ndarray]:
    """What does not grow with the records, and what each of them adds, at every
    operator; where two runs took different ways, of their peaks alone. The runs had
    ``count`` records, and twice as many."""
    if few.shape != more.shape or not few.size:
        few, more = (np.array([each.max(initial=0.0)]) for each in (few, more))
    slope = np.maximum((more - few) / count, 0.0)
    return few - count * slope, slope


def _peak(
    few: np.ndarray, more: np.ndarray, count: int, records: int
) -> tuple[float, float]:
    """The most bytes of so many records, and how much of it grows with them."""
    fixed, slope = _line(few, more, count)
    total = fixed + slope * records
    place = int(total.argmax())
    return float(total[place]), float(slope[place] * records)


def _drawn(layout: Layout, segment: Segment, random: np.random.Generator) -> np.ndarray:
    """Values like those that a swarm begins with."""
    initial = layout.parameters[segment.parameter].initial
    if initial.kind != "uniform":
        return np.full(segment.shape, 1.0 if initial.kind == "ones" else 0.0, "f4")
    return random.uniform(-initial.bound, initial.bound, segment.shape).astype("f4")
