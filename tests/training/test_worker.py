"""The real trainer process, on a real socket pair, with a real store."""

from __future__ import annotations

import base64
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pytest

from p2pfusion.methods import announcing, build_method
from p2pfusion.split.depth import cut_in_depth
from p2pfusion.split.layout import Layout
from p2pfusion.split.segment import Split
from p2pfusion.store import Offer, Owed, Store, write_checkpoint
from p2pfusion.training import worker
from p2pfusion.training.data import DataOptions
from p2pfusion.training.descent import Optimiser
from p2pfusion.training.loop import Schedule
from p2pfusion.training.models import MODELS
from p2pfusion.training.probe import initial_model
from p2pfusion.training.setup import Setup
from p2pfusion.training.trainer import Trainer
from tests.training.samples import window

ARGUMENTS: dict[str, object] = {"hidden": [32, 32]}
LAYOUT = MODELS["mlp"].layout(ARGUMENTS)
SEED = 11
DATA = {
    "kind": "digits",
    "path": None,
    "partition": {"rule": "dirichlet", "alpha": 0.5, "shards": 2, "share": "1/4"},
    "validation": 0.1,
    "limit": None,
}
EXIT_S = 30

Fields = dict[str, object]


class Process:
    """A trainer process, and the daemon's end of its channel."""

    def __init__(self, log: BinaryIO) -> None:
        ours, theirs = socket.socketpair()
        ours.settimeout(EXIT_S)
        self.popen = subprocess.Popen(
            [sys.executable, "-m", "p2pfusion.training", str(theirs.fileno())],
            pass_fds=[theirs.fileno()],
            stdout=log,
            stderr=log,
        )
        theirs.close()
        self._lines = ours.makefile("rb")
        self.socket = ours
        self.events: list[Fields] = []
        self.measured: Fields = {}

    def send(self, line: bytes) -> None:
        self.socket.sendall(line + b"\n")

    def ask(self, request: Fields) -> Fields:
        """The line that answers the request; the events before it are kept, and what
        is measured after it."""
        self.send(json.dumps(request).encode())
        found = self.reply()
        if found.get("measures"):
            self.measured = json.loads(self._lines.readline())
        return found

    def reply(self) -> Fields:
        self.events = []
        for line in self._lines:
            found: Fields = json.loads(line)
            if "event" not in found:
                return found
            self.events.append(found)
        raise AssertionError("the trainer hung up")

    def error(self, request: Fields) -> Fields:
        reply = self.ask(request)
        assert reply.get("failed") == request["do"], reply
        error = reply["error"]
        assert isinstance(error, dict) and set(error) == {"name", "message", "hint"}
        return error

    def close(self) -> int:
        self._lines.close()
        self.socket.close()
        return self.popen.wait(EXIT_S)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("home")
    Store.create(directory / "store", LAYOUT, SEED)
    (directory / "offers").mkdir()
    return directory


@pytest.fixture(scope="module")
def process(home: Path) -> Iterator[Process]:
    with open(home / "log", "wb") as log:
        found = Process(log)
        yield found
        assert found.close() == 0
    assert (home / "log").read_bytes() == b"", "nobody should have anything to say"


def setup_request(home: Path) -> Fields:
    return {
        "do": "setup",
        "model": "mlp",
        "arguments": ARGUMENTS,
        "layout": LAYOUT.to_data(),
        "seed": SEED,
        "objective": {"label_mask": True},
        "optimiser": {"momentum": 0.9, "weight_decay": 1e-4, "clip": 1.0},
        "outer_momentum": 0.0,
        "depth_dropout": 0.0,
        "batch": 16,
        "local_epochs": 2,
        "local_steps": None,
        "data": DATA,
        "store": str(home / "store"),
        "offers": str(home / "offers"),
        "augment": "none",
        "accumulation": 1,
        "precision": "float32",
        "device": "cpu",
        "processes": 1,
        "threads": 1,
    }


def train_request(round_index: int, split: Split, rate: float = 0.05) -> Fields:
    return {
        "do": "train",
        "round": round_index,
        "split": split.to_data(),
        "learning_rate": rate,
    }


def same_trainer() -> Trainer:
    return Trainer(
        Setup(
            model="mlp",
            arguments=ARGUMENTS,
            layout=LAYOUT,
            seed=SEED,
            objective={"label_mask": True},
            optimiser=Optimiser(0.9, 1e-4, 1.0),
            schedule=Schedule(16, epochs=2),
            data=DataOptions.from_data(DATA),
        )
    )


def test_training_before_setup_is_refused(process: Process) -> None:
    error = process.error(train_request(0, Split.full(LAYOUT)))
    assert error["name"] == "local-protocol"


def test_describe(process: Process) -> None:
    plain = process.ask({"do": "describe", "model": "mlp", "arguments": ARGUMENTS})
    assert Layout.from_data(plain["layout"]).digest == LAYOUT.digest
    assert plain["arguments"] == {**MODELS["mlp"].defaults, **ARGUMENTS}
    assert plain["deep"] is False
    data = process.ask(
        {"do": "describe", "model": "cnn", "arguments": {}, "data": {"kind": "digits"}}
    )
    assert data["arguments"] == {**MODELS["cnn"].defaults}


def test_describe_makes_the_vocabulary_of_the_founders_text(
    process: Process, tmp_path: Path
) -> None:
    path = tmp_path / "a.txt"
    path.write_text("b a b\n" * 20)
    request = {
        "do": "describe",
        "model": "transformer",
        "arguments": {"length": 4},
        "vocabulary": {"size": 5},
        "data": {"kind": "text", "path": str(path)},
    }
    done = process.ask(request)
    tokens = ["<pad>", "<unk>", "<eos>", "b", "a"]
    assert done["vocabulary"] == {"size": 5, "level": "word", "tokens": tokens}
    assert done["deep"] is True
    arguments = done["arguments"]
    assert isinstance(arguments, dict)
    expected = {"length": 4, "vocabulary": 5, "classes": 5}
    assert arguments.items() >= expected.items()


def test_setup_counts_the_share(process: Process, home: Path) -> None:
    trainer = same_trainer()
    assert process.ask(setup_request(home)) == {
        "done": "setup",
        "samples": trainer.samples,
        "class_counts": trainer.class_counts,
        "validation_samples": trainer.validation_samples,
    }


@pytest.mark.parametrize("round_index", [0, 1, 2])
def test_a_round_becomes_an_offer(
    process: Process, home: Path, round_index: int
) -> None:
    """The same bits as a trainer in this process gives, from the same store."""
    process.ask(setup_request(home))
    split = window(LAYOUT, start=round_index, cells=20)
    done = process.ask(train_request(round_index, split))
    store = Store.open(home / "store", LAYOUT, SEED)
    trainer = same_trainer()
    expected = trainer.train(
        round_index=round_index, split=split, learning_rate=0.05, read=store.read
    )
    assert done["done"] == "train"
    assert done["round"] == round_index
    assert done["samples"] == expected.samples
    assert done["steps"] == expected.steps
    assert done["loss"] == pytest.approx(expected.loss)
    accuracy = {"round": round_index, "accuracy": trainer.measure()}
    assert process.measured == {"done": "measure", **accuracy}
    assert done["norm"] == pytest.approx(expected.norm)
    offer = Offer.open(Path(str(done["offer"])), LAYOUT, split)
    for index, array in enumerate(expected.arrays):
        np.testing.assert_array_equal(offer.read_array(index), array)
    for event in process.events:  # none, if the round before had one just now
        assert (event["event"], event["round"]) == ("progress", round_index)
        assert event["steps"] == expected.steps


def test_changes_are_offered_where_they_are_asked_for(
    process: Process, home: Path
) -> None:
    process.ask({**setup_request(home), "changes": True})
    split = window(LAYOUT, start=1, cells=20)
    done = process.ask(train_request(0, split))
    store = Store.open(home / "store", LAYOUT, SEED)
    values = same_trainer().train(
        round_index=0, split=split, learning_rate=0.05, read=store.read
    )
    assert done["l1"] == pytest.approx(values.l1)
    offer = Offer.open(Path(str(done["offer"])), LAYOUT, split)
    for index, segment in enumerate(split.segments(LAYOUT)):
        change = values.arrays[index] - store.read(segment)
        np.testing.assert_array_equal(offer.read_array(index), change)


def test_what_is_owed_is_added_where_there_is_a_book(
    process: Process, home: Path
) -> None:
    split = window(LAYOUT, start=1, cells=20)
    segments = tuple(split.segments(LAYOUT))
    size = sum(segment.size for segment in segments)
    Owed(home / "owed", LAYOUT).write(segments, np.full(size, 2, np.float32))
    told = {"changes": True, "owed": str(home / "owed")}
    process.ask({**setup_request(home), **told})
    done = process.ask(train_request(0, split))
    process.ask({**setup_request(home), "changes": True, "owed": None})
    plain = process.ask(train_request(1, split))
    first, second = (
        Offer.open(Path(str(each["offer"])), LAYOUT, split) for each in (done, plain)
    )
    # Other rounds draw other batches, but none moves a value by that much.
    apart = first.read_flat(segments) - second.read_flat(segments)
    assert np.abs(apart - 2).max() < 1


def test_a_mask_is_announced(process: Process, tmp_path: Path) -> None:
    """As the daemon asks for it; the same in every process."""
    layout = cut_in_depth(MODELS["vit"].layout(VIT_ARGUMENTS))
    Store.create(tmp_path / "store", layout, SEED)
    (tmp_path / "offers").mkdir()
    vit = {"model": "vit", "arguments": VIT_ARGUMENTS, "layout": layout.to_data()}
    process.ask({**setup_request(tmp_path), **vit})
    rule, half = announcing(build_method("co-s2p", {"mask_epochs": 1})), Fraction(1, 2)
    assert rule is not None
    request = {
        "do": "announce",
        "asked": rule.asks(layout, half),
        "learning_rate": 0.01,
    }
    done, again = process.ask(request), process.ask(request)
    announced = base64.b64decode(str(done["announced"]))
    rule.check_announced(layout, half, announced)
    assert done == again and process.events
    error = process.error({**request, "asked": {}})
    assert error["name"] == "local-protocol"


VIT_ARGUMENTS: dict[str, object] = {
    **{"in_channels": 1, "image_size": 8, "patch": 4, "width": 8, "heads": 2},
    **{"layers": 2, "inner": 6, "group": 4},
}


def test_two_rounds_keep_both_offers(process: Process, home: Path) -> None:
    process.ask(setup_request(home))
    split = window(LAYOUT, start=0, cells=8)
    paths = [process.ask(train_request(n, split))["offer"] for n in (4, 5, 6)]
    assert paths[0] == paths[2] != paths[1]
    assert len(list((home / "offers").iterdir())) == 2


def test_what_the_daemon_stores_is_trained_on(process: Process, tmp_path: Path) -> None:
    store = Store.create(tmp_path / "store", LAYOUT, SEED)
    (tmp_path / "offers").mkdir()
    process.ask(setup_request(tmp_path))
    full = Split.full(LAYOUT)
    fresh = process.ask(train_request(0, full, rate=0.0))
    segments = tuple(full.segments(LAYOUT))
    values = np.linspace(-0.1, 0.1, LAYOUT.size, dtype=np.float32)
    store.write_flat(segments, values)
    store.set_version(segments, 1)
    store.flush()
    stored = process.ask(train_request(1, full, rate=0.0))
    assert stored["loss"] != fresh["loss"]
    offer = Offer.open(Path(str(stored["offer"])), LAYOUT, full)
    np.testing.assert_array_equal(offer.read_flat(segments), values)


def test_divergence_offers_nothing(process: Process, tmp_path: Path) -> None:
    Store.create(tmp_path / "store", LAYOUT, SEED)
    (tmp_path / "offers").mkdir()
    process.ask(setup_request(tmp_path))
    error = process.error(train_request(0, Split.full(LAYOUT), rate=1e30))
    assert error["name"] == "non-finite"
    assert not list((tmp_path / "offers").iterdir())
    assert process.ask(train_request(1, Split.full(LAYOUT)))["done"] == "train"


@pytest.mark.parametrize(
    ("change", "name", "said"),
    [
        ({"model": "mpl"}, "bad-configuration", "'mpl'"),
        ({"batch": 0}, "bad-configuration", "batch"),
        ({"arguments": {}}, "incompatible", "layout"),
        ({"layout": {}}, "bad-layout", "layout"),
        ({"device": "abacus"}, "no-device", "abacus"),
        (
            {"data": {"kind": "digits", "partition": {"share": "5/4"}}},
            "bad-configuration",
            "data.partition.share",
        ),
        ({"data": {"kind": "npz", "path": "/no/file"}}, "bad-data", "/no/file"),
    ],
)
def test_a_wrong_setup_says_what_is_wrong(
    process: Process, home: Path, change: Fields, name: str, said: str
) -> None:
    error = process.error({**setup_request(home), **change})
    assert error["name"] == name
    assert said in str(error["message"])


def test_a_damaged_store_is_named(process: Process, home: Path, tmp_path: Path) -> None:
    process.ask({**setup_request(home), "store": str(tmp_path)})
    error = process.error(train_request(0, Split.full(LAYOUT)))
    assert error["name"] == "verification-failed"
    assert str(tmp_path) in str(error["message"])


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (b"{", "not JSON"),
        (b"\xff", "not JSON"),
        (b"[]", "not a JSON object"),
        (b"{}", "cannot do"),
        (b'{"do": "dance"}', "cannot do 'dance'"),
    ],
)
def test_lines_that_are_no_requests(process: Process, line: bytes, said: str) -> None:
    process.send(line)
    reply = process.reply()
    assert "failed" in reply
    assert said in str(reply["error"])


def test_evaluate_an_assembled_model(process: Process, tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    segments = tuple(Split.full(LAYOUT).segments(LAYOUT))
    with write_checkpoint(path, LAYOUT, {}) as writer:
        writer.write_flat(segments, np.zeros(LAYOUT.size, np.float32))
    request = {
        "do": "evaluate",
        "model": "mlp",
        "arguments": ARGUMENTS,
        "file": str(path),
        "data": DATA,
    }
    done = process.ask(request)
    assert done["loss"] == pytest.approx(np.log(10))
    assert (done["samples"], done["held_out"]) == (355, True)
    assert done["perplexity"] is done["chance_perplexity"] is None
    assert (
        0 < float(str(done["accuracy"])) <= float(str(done["chance_accuracy"])) < 0.11
    )
    path.write_bytes(path.read_bytes()[:-4])
    assert process.error(request)["name"] == "verification-failed"
    assert process.error({**request, "file": "/none"})["name"] == "verification-failed"


def test_evaluate_an_encoder_that_was_trained_without_labels(
    process: Process, tmp_path: Path
) -> None:
    """Beside the same of the values that its swarm began with."""
    path = tmp_path / "model.safetensors"
    segments = tuple(Split.full(LAYOUT).segments(LAYOUT))
    values = initial_model("mlp", ARGUMENTS, SEED).values()
    with write_checkpoint(path, LAYOUT, {}) as writer:
        writer.write_flat(segments, np.concatenate([v.ravel() for v in values]))
    request = {
        "do": "evaluate",
        "model": "mlp",
        "arguments": ARGUMENTS,
        "objective": "moco",
        "seed": SEED,
        "file": str(path),
        "data": DATA,
    }
    done = process.ask(request)
    assert (done["samples"], done["held_out"], done["probe_labels"]) == (
        355,
        True,
        1442,
    )
    assert done["accuracy"] == done["random_encoder_accuracy"]
    assert float(str(done["accuracy"])) > 0.8
    other = process.ask({**request, "seed": SEED + 1})
    assert other["random_encoder_accuracy"] != done["accuracy"] == other["accuracy"]
    plain = process.ask({**request, "objective": "task"})
    assert float(str(plain["accuracy"])) < 0.5 and "probe_labels" not in plain


def test_ctrl_c_is_the_daemons_business(process: Process) -> None:
    os.kill(process.popen.pid, signal.SIGINT)
    done = process.ask({"do": "describe", "model": "mlp", "arguments": {}})
    assert done["done"] == "describe"


def test_a_daemon_that_dies_in_a_round_ends_the_trainer(
    home: Path, tmp_path: Path
) -> None:
    with open(tmp_path / "log", "wb") as log:
        process = Process(log)
        process.ask({**setup_request(home), "local_epochs": 1_000_000})
        process.send(json.dumps(train_request(0, Split.full(LAYOUT))).encode())
        assert process.close() == 0
    assert (tmp_path / "log").read_bytes() == b""


def test_the_progress_of_short_rounds_is_not_told_in_each(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Every line wakes the daemon."""
    said: list[Fields] = []
    now = [0.0]
    monkeypatch.setattr(worker.time, "monotonic", lambda: now[0])
    throttle = worker._Throttle(lambda fields: said.append(dict(fields)))
    for number in range(10):
        for step in (1, 2):
            throttle.of(number)(step, 2, 0.5)
            now[0] += worker.PROGRESS_INTERVAL_S / 7
    assert [(each["round"], each["step"]) for each in said] == [(0, 1), (3, 2), (7, 1)]
