"""The trainer process: ``python -m p2pfusion.training.worker FD``.

One JSON object per line comes in over the inherited descriptor, and lines go out:

    describe   -> {"done": "describe", "layout", "arguments", "vocabulary", "deep",
                  "held", "tied", "buffers", "versions"}
    setup      -> {"done": "setup", "samples", "class_counts", "validation_samples"}
    train      -> {"event": "progress", ...} some times, then {"done": "train", ...}
    fit        -> {"done": "fit", "chosen", "predicted"}
    announce   -> the same, then {"done": "announce", "announced": base64}
    evaluate   -> {"done": "evaluate", "accuracy", "loss", "perplexity", ...}; of a
                  linear probe also {"probe_labels", "random_encoder_accuracy"}
    any failure -> {"failed": <do>, "error": {"name", "message", "hint"}}

Every request may name ``models`` and ``objectives`` of its owner's own, which it may
import from then on. Data is the owner's in any case.
Values never pass through the channel: they are read from the store, which is opened
read-only in every round, and the trained ones are written as an offer file. The process
lives until the other end closes the channel. It ignores Ctrl-C, because the daemon
decides when training ends, and stdout and stderr never carry protocol.
"""

from __future__ import annotations

import base64
import json
import math
import os
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import BinaryIO

import torch

from p2pfusion.errors import ConfigError, LocalProtocolError
from p2pfusion.limits import MAX_TRAINER_LINE_BYTES
from p2pfusion.split.layout import Layout
from p2pfusion.split.segment import Split
from p2pfusion.store import Store, read_checkpoint, reading_from, write_offer
from p2pfusion.store.beside import beside_path
from p2pfusion.training.data import DataOptions, load
from p2pfusion.training.descent import Optimiser
from p2pfusion.training.description import coding_of, describe
from p2pfusion.training.heap import bound_heap
from p2pfusion.training.loop import Schedule
from p2pfusion.training.objectives import SELF_SUPERVISED
from p2pfusion.training.outside import MODEL, OBJECTIVE, allow
from p2pfusion.training.prediction import Predictor, largest
from p2pfusion.training.probe import PROBE_LABELS, initial_model
from p2pfusion.training.request import Fields, Request, failure, parse
from p2pfusion.training.trainer import Setup, Trainer
from p2pfusion.training.whole import (
    evaluate_full,
    evaluation_records,
    save_beside,
    state_names,
)

PROGRESS_INTERVAL_S = 0.2
"""Time between two progress lines: no display needs more."""

NICENESS = 5
"""Where cores are few, the daemon goes first: peers give up one that does not answer
for seconds, and training is not slower for the moments that the daemon needs."""

Send = Callable[[Fields], None]


class Worker:
    """What the requests of one channel have set up so far."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self._setup: Setup | None = None
        self._trainer: Trainer | None = None
        self._store = Path()
        self._offers = Path()

    def describe(self, request: Request) -> Fields:
        """A model's layout; with data, arguments and vocabulary that suit it."""
        data = request.fields.get("data")
        found = describe(
            request.text("model"),
            request.table("arguments"),
            None if data is None else DataOptions.from_data(request.table("data")),
            request.table("vocabulary"),
            objective=str(request.fields.get("objective", "task")),
        )
        return {
            "layout": found.layout.to_data(),
            "arguments": found.arguments,
            "vocabulary": found.vocabulary,
            "deep": found.is_deep,
            "held": found.held,
            "versions": found.versions,
            **state_names(request.text("model"), found.arguments),
        }

    def setup(self, request: Request) -> Fields:
        """Everything that stays the same over the rounds; loads the data."""
        if request.fields.get("threads") is not None:
            torch.set_num_threads(request.whole("threads", least=1))
        steps = request.fields.get("local_steps")
        offers = Path(str(request.fields.get("offers", "")))
        setup = Setup(
            model=request.text("model"),
            arguments=request.table("arguments"),
            layout=Layout.from_data(request.fields.get("layout")),
            seed=request.whole("seed"),
            objective=request.table("objective"),
            optimiser=Optimiser.from_data(request.table("optimiser")),
            schedule=Schedule(
                batch=request.whole("batch", least=1),
                epochs=request.whole("local_epochs", least=1),
                steps=None if steps is None else request.whole("local_steps", least=1),
                parts=request.whole("accumulation", least=1),
            ),
            data=DataOptions.from_data(request.table("data")),
            vocabulary=request.table("vocabulary"),
            versions=request.table("versions"),
            augment=request.text("augment"),
            device=request.text("device"),
            precision=request.text("precision"),
            checkpointing=request.flag("checkpointing"),
            outer_momentum=request.number("outer_momentum"),
            past=offers / "past",
            depth_dropout=request.number("depth_dropout"),
            changes=request.flag("changes"),
            summed=request.flag("summed"),
            owed=Path(request.text("owed")) if request.fields.get("owed") else None,
        )
        trainer = Trainer(setup)
        self._setup, self._trainer = setup, trainer
        # Without a store this process is only asked what training would take.
        self._store = Path(str(request.fields.get("store", "")))
        if request.fields.get("store"):
            save_beside(setup.model, setup.arguments, beside_path(self._store))
        self._offers = offers
        return {
            "samples": trainer.samples,
            "class_counts": trainer.class_counts,
            "validation_samples": trainer.validation_samples,
        }

    def _ready(self) -> tuple[Setup, Trainer]:
        """What setup has left."""
        if self._setup is None or self._trainer is None:
            raise LocalProtocolError("training was asked for before setup")
        return self._setup, self._trainer

    def _open_store(self, setup: Setup) -> Store:
        """The store as it is now."""
        return Store.open(self._store, setup.layout, setup.seed)

    def fit(self, request: Request) -> Fields:
        """Which of some splits, ascending, is the last that so much memory suffices
        for; and what that one takes, and the next, as far as it could be found out."""
        setup, trainer = self._ready()
        given = request.fields.get("splits")
        if not isinstance(given, list) or not given:
            raise ConfigError("trainer request: splits is not a list of splits")
        splits = [Split.from_data(each, setup.layout) for each in given]
        predictor = Predictor(setup, trainer.records, trainer.validation_samples)
        chosen, found = largest(predictor, splits, request.whole("memory", least=1))
        predicted = {str(place): asdict(each) for place, each in found.items()}
        return {"chosen": chosen, "predicted": predicted}

    def announce(self, request: Request) -> Fields:
        """What the method lets this peer find out by itself, as base64."""
        setup, trainer = self._ready()
        found = trainer.announce(
            request.table("asked"),
            learning_rate=request.number("learning_rate"),
            read=self._open_store(setup).read,
            on_progress=_Throttle(self._send, 0),
        )
        return {"announced": base64.b64encode(found).decode()}

    def train(self, request: Request) -> Fields:
        """One round: read the split from the store, or from the offer that it goes on
        from, train it, write it as an offer."""
        setup, trainer = self._ready()
        layout, round_index = setup.layout, request.whole("round")
        split = Split.from_data(request.fields.get("split"), layout)
        since = Path(request.text("since")) if request.fields.get("since") else None
        store = self._open_store(setup)
        trained = trainer.train(
            round_index=round_index,
            split=split,
            learning_rate=request.number("learning_rate"),
            read=reading_from(since, layout, split, store.read),
            on_progress=_Throttle(self._send, round_index),
        )
        # Two files in turn: this round may have gone on from the previous one's offer.
        offer = self._offers / f"offer-{round_index % 2}.f32"
        write_offer(offer, trained.arrays)
        return {
            "round": round_index,
            "offer": str(offer),
            "samples": trained.samples,
            "loss": trained.loss,
            "accuracy": trained.accuracy,
            "norm": trained.norm,
            "l1": trained.l1,
            "seconds": trained.seconds,
            "steps": trained.steps,
        }

    def rest(self) -> None:
        """What nobody waits for, after an answer has left."""
        if self._trainer is not None:
            self._trainer.rest()

    def evaluate(self, request: Request) -> Fields:
        """An assembled model, from a safetensors file, on the test part of the data.

        After a self-supervised ``objective`` a linear probe stands in for the model's
        classifier. It is fitted with labels of the training part. Beside it is the same
        of initial values, of the swarm's ``seed`` where it is told; none are silent.
        """
        values, _ = read_checkpoint(Path(request.text("file")))
        model, arguments = request.text("model"), request.table("arguments")
        options = DataOptions.from_data(request.table("data"))
        coding = coding_of(arguments, request.table("vocabulary"))
        records, held_out = evaluation_records(options, coding)
        probed = request.fields.get("objective") in SELF_SUPERVISED
        labelled = load(options, "train", coding) if probed else None
        found = evaluate_full(
            model, arguments, values, records, held_out=held_out, labelled=labelled
        )
        beside: Fields = {}
        if labelled is not None:
            seed = request.whole("seed") if "seed" in request.fields else 0
            fresh = initial_model(model, arguments, seed)
            random = evaluate_full(model, arguments, fresh, records, labelled=labelled)
            beside = {
                "probe_labels": min(PROBE_LABELS, len(labelled)),
                "random_encoder_accuracy": random.result.accuracy,
            }
        return {
            **beside,
            "accuracy": found.result.accuracy,
            "loss": _finite(found.result.loss),
            "perplexity": _finite(found.result.perplexity),
            "samples": found.result.samples,
            "chance_accuracy": found.chance_accuracy,
            "chance_perplexity": found.chance_perplexity,
            "held_out": found.held_out,
        }


def _finite(value: float | None) -> float | None:
    # JSON has no name for what is not finite; unknown is null.
    return value if value is not None and math.isfinite(value) else None


class _Throttle:
    """Passes progress on, not more often than a reader can use it."""

    def __init__(self, send: Send, round_index: int) -> None:
        self._send = send
        self._round_index = round_index
        self._next_s = 0.0

    def __call__(self, step: int, steps: int, loss: float) -> None:
        now_s = time.monotonic()
        if now_s < self._next_s:
            return
        self._next_s = now_s + PROGRESS_INTERVAL_S
        event = {"round": self._round_index, "step": step, "steps": steps, "loss": loss}
        self._send({"event": "progress", **event})


def answer(worker: Worker, line: bytes) -> Fields:
    """The last line that one request is answered with, whatever goes wrong."""
    do = "?"
    try:
        fields = parse(line)
        do = str(fields.get("do"))
        actions = {
            "describe": worker.describe,
            "setup": worker.setup,
            "fit": worker.fit,
            "train": worker.train,
            "announce": worker.announce,
            "evaluate": worker.evaluate,
        }
        if do not in actions:
            raise ConfigError(f"trainer request: cannot do {do!r}")
        request = Request(fields)
        for kind in (MODEL, OBJECTIVE):
            allow(kind, request.texts(kind.key))
        return {"done": do, **actions[do](request)}
    except ConnectionError:
        raise
    except Exception as error:
        return failure(do, error)


def serve(reader: BinaryIO, writer: BinaryIO) -> None:
    """Answers requests until the other end closes the channel."""

    def send(fields: Fields) -> None:
        writer.write(json.dumps(fields, separators=(",", ":")).encode() + b"\n")
        writer.flush()

    worker = Worker(send)
    while line := reader.readline(MAX_TRAINER_LINE_BYTES + 1):
        if len(line) > MAX_TRAINER_LINE_BYTES:
            raise LocalProtocolError(
                "a request line is longer than a trainer line may be"
            )
        send(answer(worker, line))
        worker.rest()


def main() -> None:
    """Serves the descriptor that the only argument names."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.nice(NICENESS)
    descriptor = int(sys.argv[1])
    os.set_blocking(descriptor, True)
    bound_heap()
    try:
        with open(descriptor, "rb") as reader, open(os.dup(descriptor), "wb") as writer:
            serve(reader, writer)
    except ConnectionError:
        # The daemon is gone, or has no use for the rest: that is how a trainer ends.
        os._exit(0)


if __name__ == "__main__":
    main()
