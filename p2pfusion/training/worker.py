"""The trainer process: ``python -m p2pfusion.training FD [LIFELINE]``.

One JSON object per line comes in over the inherited descriptor, and lines go out:

    describe   -> {"done": "describe", "layout", "arguments", "vocabulary", "deep",
                  "held", "tied", "buffers", "versions"}
    setup      -> {"done": "setup", "samples", "class_counts", "validation_samples"}
    train      -> {"event": "progress", ...} some times, then {"done": "train", ...},
                  and if that says "measures", {"done": "measure", "accuracy", "round"}
                  some time later, before anything else is answered
    fit        -> {"done": "fit", "chosen", "predicted"}
    announce   -> the same, then {"done": "announce", "announced": base64}
    evaluate   -> {"done": "evaluate", "accuracy", "loss", "perplexity", ...}; of a
                  linear probe also {"probe_labels", "random_encoder_accuracy"}
    look       -> {"done": "look", "devices"}
    read       -> {"done": "read", "samples"}
    any failure -> {"failed": <do>, "error": {"name", "message", "hint"}}

Every request may name ``models`` and ``objectives`` of its owner's own, which it may
import from then on. Data is the owner's in any case.
Values never pass through the channel: they are read from the store, which is open
read-only, and the trained ones are written as an offer file. The process
lives until the other end closes the channel. It ignores Ctrl-C, because the daemon
decides when training ends, and stdout and stderr never carry protocol.

With ``processes`` in setup it starts others of its kind, each with a LIFELINE that ends
it with this one, and they train together (``siblings.py``).
"""

from __future__ import annotations

import base64
import json
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import BinaryIO

import torch

from p2pfusion.errors import ConfigError, LocalProtocolError
from p2pfusion.limits import MAX_TRAINER_LINE_BYTES
from p2pfusion.split.layout import Layout
from p2pfusion.split.segment import Split
from p2pfusion.store import Store, reading_from, write_offer
from p2pfusion.store.beside import beside_path
from p2pfusion.training.data import DataOptions, check_share, load
from p2pfusion.training.descent import Optimiser
from p2pfusion.training.description import describe
from p2pfusion.training.devices import check_precision, find_devices
from p2pfusion.training.heap import bound_heap
from p2pfusion.training.judging import judged
from p2pfusion.training.loop import Schedule
from p2pfusion.training.outside import MODEL, OBJECTIVE, allow
from p2pfusion.training.prediction import Predictor, largest
from p2pfusion.training.privacy import Privacy
from p2pfusion.training.replicas import ALONE, Team, join
from p2pfusion.training.request import Fields, Request, failure, parse
from p2pfusion.training.setup import Setup
from p2pfusion.training.siblings import Following, Siblings
from p2pfusion.training.trainer import Trainer
from p2pfusion.training.whole import save_beside, state_names

PROGRESS_INTERVAL_S = 0.2
"""Time between two progress lines: no display needs more."""

NICENESS = 5
"""Where cores are few, the daemon goes first: peers give up one that does not answer
for seconds, and training is not slower for the moments that the daemon needs."""

MEASURE = "measure"

Send = Callable[[Fields], None]


class Worker:
    """What the requests of one channel have set up so far."""

    def __init__(self, send: Send, following: Following | None = None) -> None:
        """``following``: what ends this process, if it is not the first of several."""
        self._send, self._following = send, following
        self._throttle = _Throttle(send)
        self._setup: Setup | None = None
        self._trainer: Trainer | None = None
        self._siblings: Siblings | None = None
        self._store = Path()
        self._opened: Store | None = None
        self._offers = Path()
        self._unmeasured: int | None = None
        """The round whose accuracy is to be measured."""

    def describe(self, request: Request) -> Fields:
        """A model's layout; with data, arguments and vocabulary that suit it."""
        data = request.fields.get("data")
        found = describe(
            request.text("model"),
            request.table("arguments"),
            None if data is None else _data(request),
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
        told = request.fields.get("offers")
        offers = Path(str(told)) if told else None
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
            data=_data(request),
            vocabulary=request.table("vocabulary"),
            versions=request.table("versions"),
            augment=request.text("augment"),
            device=request.text("device"),
            processes=request.whole("processes", least=1),
            precision=request.text("precision"),
            checkpointing=request.flag("checkpointing"),
            outer_momentum=request.number("outer_momentum"),
            past=None if offers is None else offers / "past",
            depth_dropout=request.number("depth_dropout"),
            changes=request.flag("changes"),
            summed=request.flag("summed"),
            owed=Path(request.text("owed")) if request.fields.get("owed") else None,
            privacy=Privacy.from_data(request.table("privacy"))
            if request.fields.get("privacy")
            else None,
        )
        with self._gathered(
            request, find_devices(setup.device, setup.processes)
        ) as team:
            trainer = Trainer(setup, team=team)
        self._setup, self._trainer = setup, trainer
        # Without a store this process is only asked what training would take.
        self._store, self._opened = Path(str(request.fields.get("store", ""))), None
        if request.fields.get("store") and not team.rank:
            save_beside(setup.model, setup.arguments, beside_path(self._store))
        self._offers = offers or Path()
        return {
            "samples": trainer.samples,
            "class_counts": trainer.class_counts,
            "validation_samples": trainer.validation_samples,
        }

    @contextmanager
    def _gathered(
        self, request: Request, devices: Sequence[torch.device]
    ) -> Iterator[Team]:
        """Who trains with this process, while all of them are set up."""
        self.end()
        if len(devices) == 1:
            yield ALONE
        elif self._following is not None:
            rank, meeting = request.whole("rank", least=1), request.text("meeting")
            with self._following.quietly():
                yield join(rank, devices, Path(meeting))
        else:
            self._siblings = Siblings(devices, self._send)
            with self._siblings.joining(request.fields) as team:
                yield team

    def _as_others(self, request: Request) -> AbstractContextManager[None]:
        """Around what all processes do that train together."""
        if self._following is not None:
            return self._following.quietly()
        if self._siblings is not None:
            return self._siblings.doing(request.fields)
        return nullcontext()

    def end(self) -> None:
        """Nobody trains with this process any more."""
        siblings, self._siblings = self._siblings, None
        if siblings is not None:
            siblings.end()

    def _ready(self) -> tuple[Setup, Trainer]:
        """What setup has left."""
        if self._setup is None or self._trainer is None:
            raise LocalProtocolError("training was asked for before setup")
        return self._setup, self._trainer

    def _open_store(self, setup: Setup) -> Store:
        """The store as it is now."""
        if self._opened is None:
            self._opened = Store.open(self._store, setup.layout, setup.seed)
        self._opened.let_go()
        return self._opened

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
            on_progress=_Throttle(self._send),
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
        with self._as_others(request):
            trained = trainer.train(
                round_index=round_index,
                split=split,
                learning_rate=request.number("learning_rate"),
                read=reading_from(since, layout, split, store.read),
                on_progress=self._throttle.of(round_index),
            )
        if trainer.rank:
            return {}  # the first one gives it away
        # Two files in turn: this round may have gone on from the previous one's offer.
        offer = self._offers / f"offer-{round_index % 2}.f32"
        write_offer(offer, trained.arrays)
        self._unmeasured = round_index if trainer.measures else None
        return {
            "round": round_index,
            "offer": str(offer),
            "samples": trained.samples,
            "loss": trained.loss,
            "measures": trainer.measures,
            "norm": trained.norm,
            "l1": trained.l1,
            "seconds": trained.seconds,
            "steps": trained.steps,
        }

    def rest(self) -> None:
        """What nobody waits for, after an answer has left: while the daemon exchanges
        what was trained, its accuracy is measured. A request for the next round waits
        until that is done."""
        if self._trainer is None:
            return
        self._trainer.rest()
        round_index, self._unmeasured = self._unmeasured, None
        if round_index is None:
            return
        try:
            accuracy = self._trainer.measure()
        except Exception as error:
            self._send(failure(MEASURE, error))
        else:
            self._send({"done": MEASURE, "round": round_index, "accuracy": accuracy})

    def evaluate(self, request: Request) -> Fields:
        """An assembled model, from a safetensors file, on the test part of the data."""
        return judged(request)

    def look(self, request: Request) -> Fields:
        """Whether this machine has what a profile says that it trains on."""
        devices = find_devices(
            request.text("device"), request.whole("processes", least=1)
        )
        for device in devices:
            check_precision(request.text("precision"), device)
        return {"devices": [str(device) for device in devices]}

    def read(self, request: Request) -> Fields:
        """How many records a profile's data has; without a model, text is of words."""
        options = _data(request)
        records = load(options, "train")
        assert records is not None, "every loader has a training part"
        check_share(records, options)
        return {"samples": len(records)}


def _data(request: Request) -> DataOptions:
    kept = request.fields.get("kept")
    path = Path(request.text("kept")) if kept else None
    return DataOptions.from_data(request.table("data"), path)


class _Throttle:
    """Passes progress on, not more often than a reader can use it, over all rounds."""

    def __init__(self, send: Send) -> None:
        self._send, self._round_index, self._next_s = send, 0, 0.0

    def of(self, round_index: int) -> _Throttle:
        """From now on the progress is that of this round."""
        self._round_index = round_index
        return self

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
            "look": worker.look,
            "read": worker.read,
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


def serve(
    reader: BinaryIO, writer: BinaryIO, following: Following | None = None
) -> None:
    """Answers requests until the other end closes the channel."""

    def send(fields: Fields) -> None:
        writer.write(json.dumps(fields, separators=(",", ":")).encode() + b"\n")
        writer.flush()

    worker = Worker(send, following)
    while line := reader.readline(MAX_TRAINER_LINE_BYTES + 1):
        if len(line) > MAX_TRAINER_LINE_BYTES:
            raise LocalProtocolError(
                "a request line is longer than a trainer line may be"
            )
        send(answer(worker, line))
        worker.rest()
    worker.end()


def main() -> None:
    """Serves the descriptor that the first argument names."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    descriptor, *lifeline = map(int, sys.argv[1:])
    following = Following(*lifeline) if lifeline else None
    if following is None:
        os.nice(NICENESS)  # those that it starts are as nice already
    os.set_blocking(descriptor, True)
    bound_heap()
    try:
        with open(descriptor, "rb") as reader, open(os.dup(descriptor), "wb") as writer:
            serve(reader, writer, following)
    except ConnectionError:
        # The daemon is gone, or has no use for the rest: that is how a trainer ends.
        os._exit(0)
