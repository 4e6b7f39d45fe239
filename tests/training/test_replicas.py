"""Several processes that train together: real ones, with torch's own averages between
them, against one process with the same batches."""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import BinaryIO

import numpy as np
import psutil
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from p2pfusion.split.layout import Layout
from p2pfusion.split.segment import Split
from p2pfusion.split.windows import rolling_window, window_cells
from p2pfusion.store import Offer, Store
from p2pfusion.training.data import DataOptions
from p2pfusion.training.description import describe
from p2pfusion.training.outside import MODEL, allow
from p2pfusion.training.replicas import ALONE, Replica
from tests.training.test_worker import (
    EXIT_S,
    Fields,
    Process,
    setup_request,
    train_request,
)

CPU = torch.device("cpu")
BEGIN_S = 300
"""Several processes that import torch at once."""
WORDS = "one word after another, and then the next one that nobody has seen before\n"
SHARE = {"rule": "dirichlet", "alpha": 0.5, "shards": 2, "share": "1/4"}
DIGITS: Fields = {"kind": "digits", "partition": SHARE, "validation": 0.1}
BATCH_NORM = """
from torch import nn


def build(classes=10):
    return nn.Sequential(
        nn.Conv2d(1, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(),
        nn.Dropout(0.0), nn.Linear(8 * 36, classes)
    )
"""


@given(st.integers(1, 300), st.integers(1, 9))
def test_parts_are_the_batch_and_alike(count: int, processes: int) -> None:
    parts = [Replica(rank, processes, CPU).part(count) for rank in range(processes)]
    seen = [n for part in parts if part.counts for n in range(part.start, part.stop)]
    assert seen == list(range(count))
    sizes = [part.stop - part.start for part in parts]
    assert max(sizes) - min(sizes) <= 1 and min(sizes) > 0
    assert {part.of for part in parts} == {count}
    assert Replica(0, 1, CPU).part(count) == ALONE.part(count)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """For a trainer's files; with a package of somebody's own on its path."""
    (tmp_path / "elsewhere.py").write_text(BATCH_NORM)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), *sys.path]))
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("TORCH_CPP_LOG_LEVEL", "ERROR")  # as daemons have it
    (tmp_path / "offers").mkdir()
    return tmp_path


def patient(log: BinaryIO) -> Process:
    """A trainer whose others may take their time to begin."""
    process = Process(log)
    process.socket.settimeout(BEGIN_S)
    return process


@pytest.fixture
def process(home: Path) -> Iterator[Process]:
    """A trainer that says nothing on standard error, and leaves nobody behind."""
    with open(home / "log", "wb") as log:
        found = patient(log)
        yield found
        alone = psutil.Process(found.popen.pid).children()
        assert found.close() == 0
    assert (home / "log").read_bytes() == b""
    assert not psutil.wait_procs(alone, EXIT_S)[1]


def set_up(process: Process, home: Path, processes: int, **told: object) -> Layout:
    """A store, and a trainer that trains in it; the model's layout."""
    data = DataOptions.from_data(told.get("data", DIGITS))  # type: ignore[arg-type]
    found = describe(str(told["model"]), {}, data)
    if not (home / "store").exists():
        Store.create(home / "store", found.layout, 11)
    done = process.ask(
        {
            **{**setup_request(home), "data": DIGITS, "arguments": found.arguments},
            **{"layout": found.layout.to_data(), "vocabulary": found.vocabulary},
            **{"processes": processes, **told},
        }
    )
    assert done["done"] == "setup", done
    return found.layout


def half(layout: Layout) -> Split:
    """Of every width, from its fourth cell on."""
    return Split.of(
        {
            axis.name: rolling_window(axis, window_cells(axis, Fraction(1, 2)), 3)
            for axis in layout.axes
        }
    )


def trained(process: Process, home: Path, processes: int, **told: object) -> Fields:
    """What the second of two rounds on half of a model gives."""
    layout = set_up(process, home, processes, **told)
    split = half(layout)
    for round_index in range(2):
        done = process.ask(train_request(round_index, split, 0.05))
        assert done["done"] == "train", done
    offer = Offer.open(Path(str(done["offer"])), layout, split)
    arrays = [offer.read_array(n).ravel() for n in range(len(layout.parameters))]
    accuracy = process.measured.get("accuracy")
    return {**done, "accuracy": accuracy, "values": np.concatenate(arrays)}


CASES: dict[str, tuple[int, Fields]] = {
    # 526 records: the last batch has one, and two of three processes none.
    "a record for three": (3, {"model": "mlp", "batch": 25}),
    "parts and moved images": (
        2,
        {"model": "cnn", "batch": 64, "accumulation": 3, "augment": "flip-crop"},
    ),
    "checkpoints": (2, {"model": "vit", "batch": 64, "checkpointing": True}),
}


@pytest.mark.slow
@pytest.mark.parametrize(
    "case",
    [
        "a record for three",
        *(
            pytest.param(case, marks=pytest.mark.soak)
            for case in CASES
            if case != "a record for three"
        ),
    ],
)
def test_rounds_are_those_of_one_process(
    process: Process, home: Path, case: str
) -> None:
    processes, told = CASES[case]
    several = trained(process, home, processes, **told)
    assert len(psutil.Process(process.popen.pid).children()) == processes - 1
    one = trained(process, home, 1, **told)
    assert not psutil.Process(process.popen.pid).children(), "they have left"
    assert several["loss"] == pytest.approx(one["loss"], rel=1e-4)
    assert (several["steps"], several["samples"]) == (one["steps"], one["samples"])
    assert several["accuracy"] == pytest.approx(one["accuracy"], abs=0.02)
    np.testing.assert_allclose(several["values"], one["values"], rtol=0, atol=2e-4)


@pytest.mark.slow
@pytest.mark.soak
def test_parts_of_text_have_unlike_many_answers(process: Process, home: Path) -> None:
    (home / "words.txt").write_text(WORDS * 20)
    text = {"kind": "text", "path": str(home / "words.txt"), "validation": 0.0}
    told = {"model": "transformer", "data": text, "batch": 5}
    several = trained(process, home, 2, **told)
    one = trained(process, home, 1, **told)
    np.testing.assert_allclose(several["values"], one["values"], rtol=0, atol=2e-4)


@pytest.mark.slow
def test_statistics_are_everybody_s_mean(process: Process, home: Path) -> None:
    """Of one step over all records: the mean of two halves' means is the whole one."""
    allow(MODEL, ["elsewhere:build"])
    own: Fields = {"model": "elsewhere:build", "models": ["elsewhere:build"]}
    told = {**own, "batch": 526, "local_steps": 1}
    layout = set_up(process, home, 2, **told)
    names = [parameter.name for parameter in layout.parameters]
    found = []
    for processes in (2, 1):
        set_up(process, home, processes, **told)
        done = process.ask(train_request(processes, Split.full(layout)))
        offer = Offer.open(Path(str(done["offer"])), layout, Split.full(layout))
        found.append({n: offer.read_array(i) for i, n in enumerate(names)})
    several, one = found
    means = np.abs(several["1.running_mean"] - one["1.running_mean"])
    assert means.max() < 1e-6 < np.abs(one["1.running_mean"]).max()
    np.testing.assert_allclose(
        several["1.running_var"], one["1.running_var"], rtol=0.02
    )


@pytest.mark.slow
def test_a_diverged_round_is_all_of_theirs_and_they_go_on(
    process: Process, home: Path
) -> None:
    layout = set_up(process, home, 2, model="mlp")
    assert process.error(train_request(0, half(layout), 1e30))["name"] == "non-finite"
    assert process.ask(train_request(1, half(layout)))["done"] == "train"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("ending", "name", "why"),
    [
        (signal.SIGKILL, "out-of-memory", "was killed by SIGKILL"),
        pytest.param(
            *(signal.SIGTERM, "trainer", "has ended: killed by signal 15"),
            marks=pytest.mark.soak,
        ),
    ],
)
def test_one_that_dies_ends_the_round_in_one_line(
    home: Path, ending: signal.Signals, name: str, why: str
) -> None:
    with open(home / "log", "wb") as log:
        process = patient(log)
        layout = set_up(process, home, 3, model="mlp", local_epochs=1_000_000)
        process.send(json.dumps(train_request(0, half(layout))).encode())
        process.socket.recv(1, socket.MSG_PEEK)  # it trains
        children = psutil.Process(process.popen.pid).children()
        children[-1].send_signal(ending)
        error = process.reply()["error"]
        assert isinstance(error, dict)
        assert error["name"] == name
        which = "process 2 of 3 that train together, on cpu,"
        assert error["message"].startswith(f"{which} {why}")
        assert process.popen.wait(EXIT_S) == 1
    said = (home / "log").read_text()
    assert said.count("\n") == 1 and why in said, said
    assert not psutil.wait_procs(children, EXIT_S)[1]


@pytest.mark.slow
@pytest.mark.parametrize("who", ["the first one", "the daemon"])
def test_nobody_stays_when_one_is_gone(home: Path, who: str) -> None:
    with open(home / "log", "wb") as log:
        process = patient(log)
        layout = set_up(process, home, 2, model="mlp", local_epochs=1_000_000)
        process.send(json.dumps(train_request(0, half(layout))).encode())
        process.socket.recv(1, socket.MSG_PEEK)
        children = psutil.Process(process.popen.pid).children()
        if who == "the first one":
            process.popen.kill()
        else:
            assert process.close() == 0
        assert len(children) == 1 and not psutil.wait_procs(children, EXIT_S)[1]
    assert (home / "log").read_bytes() == b""


@pytest.mark.slow
def test_what_cannot_be_is_told_once_and_for_all(home: Path) -> None:
    with open(home / "log", "wb") as log:
        process = patient(log)
        request = {**setup_request(home), "processes": 2}
        if not torch.cuda.is_available():
            error = process.error({**request, "device": "cuda"})
            assert "'cuda' is not available here" in str(error["message"])
        error = process.error({**request, "objective": {"name": "byol"}})
        assert "cannot be computed in parts" in str(error["message"])
        assert process.popen.wait(EXIT_S) == 1
