"""One trainer process: set up, asked for rounds, replaced when it dies."""

from __future__ import annotations

import os
import select
import signal
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from p2pfusion.daemon.apprentice import (
    Apprentice,
    Described,
    Fatal,
    NotTrained,
    Outcome,
    Trained,
)
from p2pfusion.daemon.config import DataSettings, PeerSettings
from p2pfusion.errors import ConfigError, DataError, TrainerError
from p2pfusion.limits import MAX_TRAINER_RESTARTS
from p2pfusion.protocol.manifest import Manifest
from p2pfusion.split.segment import Split
from p2pfusion.store import Offer, Store

PATIENCE_S = 60.0
ARGUMENTS = {"hidden": [8]}


@pytest.fixture
def apprentice(tmp_path: Path) -> Iterator[Apprentice]:
    """A trainer that learns the digits."""
    made = Apprentice(tmp_path / "trainer.log", PeerSettings(), DataSettings())
    yield made
    made.stop()


def outcomes(apprentice: Apprentice, count: int = 1) -> list[Outcome]:
    """The next things that come of it."""
    found: list[Outcome] = []
    while len(found) < count:
        ready, _, _ = select.select([*apprentice.descriptors()], [], [], PATIENCE_S)
        assert ready, "the trainer says nothing"
        found += apprentice.ready()
    return found


def set_up(apprentice: Apprentice, root: Path) -> Manifest:
    """Describes the model, makes the store, and tells the trainer."""
    apprentice.describe("mlp", ARGUMENTS)
    (described,) = outcomes(apprentice)
    assert isinstance(described, Described)
    manifest = Manifest(
        name="test",
        model="mlp",
        model_arguments=described.arguments,
        layout=described.layout,
    )
    Store.create(root / "store", manifest.layout, manifest.seed)
    (root / "offers").mkdir(exist_ok=True)
    apprentice.set_up(manifest, store=root / "store", offers=root / "offers")
    return manifest


def kill(apprentice: Apprentice) -> None:
    """As the kernel does when memory runs out."""
    os.kill(apprentice.pid, signal.SIGKILL)


def test_a_round_is_trained_and_a_dead_trainer_is_replaced(
    apprentice: Apprentice, tmp_path: Path
) -> None:
    manifest = set_up(apprentice, tmp_path)
    assert manifest.model_arguments == {**ARGUMENTS, "inputs": 64, "classes": 10}
    split = Split.full(manifest.layout)
    # Asked before the set-up is done: it waits, and a newer round replaces it.
    assert apprentice.train(0, split, 0.1) == []
    apprentice.train(1, split, 0.1)
    (trained,) = outcomes(apprentice)
    assert isinstance(trained, Trained)
    assert (trained.round_index, trained.split) == (1, split)
    assert trained.samples == apprentice.samples == 1298
    assert trained.accuracy is not None and 0 < trained.loss < 3 and trained.norm > 0
    offer = Offer.open(trained.offer, manifest.layout, split)
    assert np.isfinite(offer.read_array(0)).all()
    assert apprentice.state == "ready"
    apprentice.train(2, split, 0.1)
    assert apprentice.state == "training"
    kill(apprentice)
    (lost,) = outcomes(apprentice)
    assert lost == NotTrained(2, "the trainer died (killed by SIGKILL)")
    assert apprentice.state == "restarting" and apprentice.samples is None
    apprentice.train(3, split, 0.1)
    (again,) = outcomes(apprentice)
    assert isinstance(again, Trained) and again.round_index == 3
    assert_given_up_after_too_many_deaths(apprentice, split)


def assert_given_up_after_too_many_deaths(apprentice: Apprentice, split: Split) -> None:
    """A peer whose trainer cannot live serves on, and says why it does not train."""
    apprentice.train(4, split, 0.1)
    kill(apprentice)
    (lost,) = outcomes(apprentice)
    assert isinstance(lost, NotTrained)
    apprentice.train(5, split, 0.1)
    for _ in range(MAX_TRAINER_RESTARTS - 1):
        kill(apprentice)
        select.select([*apprentice.descriptors()], [], [], PATIENCE_S)
        assert apprentice.ready() == []
    kill(apprentice)
    (waiting,) = outcomes(apprentice)
    assert isinstance(waiting, NotTrained) and waiting.round_index == 5
    assert apprentice.state == "failed: the trainer died (killed by SIGKILL)"
    assert apprentice.descriptors() == {}
    (refused,) = apprentice.train(6, split, 0.1)
    assert refused == NotTrained(6, "the trainer died (killed by SIGKILL)")


def test_a_trainer_that_never_gets_ready_is_fatal(apprentice: Apprentice) -> None:
    for _ in range(MAX_TRAINER_RESTARTS):
        kill(apprentice)
        select.select([*apprentice.descriptors()], [], [], PATIENCE_S)
        assert apprentice.ready() == []
        assert apprentice.state == "restarting"
    kill(apprentice)
    (fatal,) = outcomes(apprentice)
    assert isinstance(fatal, Fatal) and isinstance(fatal.error, TrainerError)
    assert "SIGKILL" in fatal.error.message and "trainer.log" in fatal.error.hint


def test_errors_of_the_users_making_are_fatal_and_keep_their_class(
    apprentice: Apprentice, tmp_path: Path
) -> None:
    apprentice.describe("nope", {})
    (fatal,) = outcomes(apprentice)
    assert isinstance(fatal, Fatal) and type(fatal.error) is ConfigError
    assert "nope" in fatal.error.message
    assert apprentice.state.startswith("failed: ")
    (tmp_path / "bad.npz").write_bytes(b"no archive")
    data = DataSettings(kind="npz", path=str(tmp_path / "bad.npz"))
    other = Apprentice(tmp_path / "other.log", PeerSettings(), data)
    try:
        other.describe("mlp", {})
        (fatal,) = outcomes(other)
        assert isinstance(fatal, Fatal) and type(fatal.error) is DataError
        assert "bad.npz" in fatal.error.message
    finally:
        other.stop()


def test_a_round_that_diverges_is_lost_and_the_next_is_trained(
    apprentice: Apprentice, tmp_path: Path
) -> None:
    manifest = set_up(apprentice, tmp_path)
    split = Split.full(manifest.layout)
    apprentice.train(0, split, 1e30)
    (lost,) = outcomes(apprentice)
    assert isinstance(lost, NotTrained) and lost.round_index == 0
    assert "diverged" in lost.reason
    apprentice.train(1, split, 0.1)
    (trained,) = outcomes(apprentice)
    assert isinstance(trained, Trained) and trained.round_index == 1
