"""One trainer process: set up, asked for rounds, replaced when it dies."""

from __future__ import annotations

import os
import select
import signal
import time
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from p2pfusion.daemon.apprentice import (
    MEASURING,
    STARTING,
    TRAINER_PAUSE_S,
    Apprentice,
)
from p2pfusion.daemon.config import DataSettings, PeerSettings
from p2pfusion.daemon.home import Home
from p2pfusion.daemon.outcomes import (
    Described,
    Fatal,
    Fitted,
    Measured,
    NotFoundOut,
    NotTrained,
    Outcome,
    TooLarge,
    Trained,
)
from p2pfusion.daemon.swarm_settings import SwarmSettings, read_swarm
from p2pfusion.errors import ConfigError, DataError, TrainerError
from p2pfusion.limits import MAX_TRAINER_RESTARTS
from p2pfusion.protocol.events import StartTraining
from p2pfusion.protocol.manifest import Manifest
from p2pfusion.split.depth import cut_in_depth, depth_split
from p2pfusion.split.segment import Split
from p2pfusion.store import Offer, Store

PATIENCE_S = 60.0
ARGUMENTS = {"hidden": [8]}
VIT: dict[str, object] = {
    **{"image_size": 8, "patch": 4, "width": 8, "heads": 2, "layers": 2},
    **{"inner": 8, "group": 4},
}


@pytest.fixture
def apprentice(tmp_path: Path) -> Iterator[Apprentice]:
    """A trainer that learns the digits."""
    made = Apprentice(Home(tmp_path), PeerSettings(), DataSettings())
    yield made
    made.stop()


def outcomes(apprentice: Apprentice, wanted: int = 1) -> list[Outcome]:
    """The next things that come of it, without accuracies, and when none is due."""
    found: list[Outcome] = []
    while len(found) < wanted or apprentice.state == MEASURING:
        ready, _, _ = select.select([*apprentice.descriptors()], [], [], PATIENCE_S)
        assert ready, "the trainer says nothing"
        found += [o for o in apprentice.ready() if not isinstance(o, Measured)]
    return found


def founded(model: str, arguments: dict[str, object]) -> SwarmSettings:
    """What a founder's profile says."""
    table = {"name": "test", "model": model, "model_arguments": arguments}
    return read_swarm(table, "test")


def set_up(
    apprentice: Apprentice, root: Path, model: str = "mlp", **swarm: object
) -> Manifest:
    """Describes the model, makes the store, and tells the trainer."""
    projection = 8 if "objective" in swarm else 0
    mlp = {**ARGUMENTS, "projection": projection}
    apprentice.describe(founded(model, mlp if model == "mlp" else {}))
    (described,) = outcomes(apprentice)
    assert isinstance(described, Described)
    manifest = Manifest(
        name="test",
        model=model,
        model_arguments=described.arguments,
        layout=described.layout,
        **swarm,  # type: ignore[arg-type]
    )
    Store.create(root / "store", manifest.layout, manifest.seed)
    (root / "offers").mkdir(exist_ok=True)
    apprentice.set_up(manifest, store=root / "store", offers=root / "offers")
    return manifest


def test_the_objective_reaches_the_trainer(
    apprentice: Apprentice, tmp_path: Path
) -> None:
    """Its losses are the contrast's, until a trainer starts again."""
    losses: dict[str, list[float]] = {}
    for name in ("task", "contrastive"):
        root = tmp_path / name
        root.mkdir()
        manifest = set_up(apprentice, root, objective=name)
        split = Split.full(manifest.layout)
        losses[name] = []
        for round_index in range(3):
            if round_index == 2:
                kill(apprentice)
                assert next_outcomes(apprentice) == []
            apprentice.train(StartTraining(round_index, split, 0.1))
            (trained,) = outcomes(apprentice)
            assert isinstance(trained, Trained)
            losses[name].append(trained.loss)
    first, second, restarted = zip(losses["task"], losses["contrastive"], strict=True)
    assert first[0] == first[1]
    assert second[0] < second[1]
    assert restarted[0] == restarted[1]


def test_depth_dropout_and_the_proximal_term_reach_the_trainer(
    apprentice: Apprentice, tmp_path: Path
) -> None:
    """Both change what comes of a round in which a layer is frozen."""
    found = []
    for name, chance, proximal in (("a", 0.0, 0.0), ("b", 0.9, 0.0), ("c", 0.0, 9.0)):
        root = tmp_path / name
        (root / "offers").mkdir(parents=True)
        apprentice.describe(founded("vit", VIT))
        (described,) = outcomes(apprentice)
        assert isinstance(described, Described)
        arguments = {"layers_per_stage": 1, "depth_dropout": chance}
        manifest = Manifest(
            name="test",
            model="vit",
            model_arguments=described.arguments,
            layout=cut_in_depth(described.layout),
            method="lw-fedssl",
            method_arguments=arguments,
            proximal=proximal,
        )
        Store.create(root / "store", manifest.layout, manifest.seed)
        apprentice.set_up(manifest, store=root / "store", offers=root / "offers")
        layers = manifest.layout.layers
        split = depth_split(manifest.layout, layers, frozen=layers[:2])
        apprentice.train(StartTraining(1, split, 0.1))
        (trained,) = outcomes(apprentice)
        assert isinstance(trained, Trained)
        found.append(trained.norm)
    assert len(set(found)) == 3


def test_a_trainer_that_finds_nothing_out_trains_all_the_same(
    apprentice: Apprentice, tmp_path: Path
) -> None:
    manifest = set_up(apprentice, tmp_path)
    split = Split.full(manifest.layout)
    apprentice.find_out("1/2", {"asked": {}, "learning_rate": 0.1})
    apprentice.train(StartTraining(0, split, 0.1))
    nothing, trained = outcomes(apprentice, 2)
    assert isinstance(nothing, NotFoundOut) and nothing.reason
    assert isinstance(trained, Trained) and trained.round_index == 0
    apprentice.find_out(
        "1/2", {"asked": {}, "learning_rate": 0.1}
    )  # it is not tried again
    apprentice.train(StartTraining(1, split, 0.1))
    (trained,) = outcomes(apprentice)
    assert isinstance(trained, Trained) and trained.round_index == 1


def kill(apprentice: Apprentice) -> None:
    """As the kernel does when memory runs out."""
    os.kill(apprentice.pid, signal.SIGKILL)


def test_a_round_is_trained_and_a_dead_trainer_is_replaced(
    apprentice: Apprentice, tmp_path: Path
) -> None:
    manifest = set_up(apprentice, tmp_path)
    expected = {**ARGUMENTS, "inputs": 64, "classes": 10, "projection": 0}
    assert manifest.model_arguments == expected
    split = Split.full(manifest.layout)
    # Asked before the set-up is done: it waits, unless nobody is to wait for it, and a
    # newer round replaces it.
    unready = StartTraining(0, split, 0.1, if_ready=True)
    assert apprentice.train(unready) == [NotTrained(0, STARTING)]
    assert apprentice.train(StartTraining(0, split, 0.1)) == []
    apprentice.train(StartTraining(1, split, 0.1))
    (trained,) = outcomes(apprentice)
    assert isinstance(trained, Trained)
    assert (trained.round_index, trained.split) == (1, split)
    assert trained.samples == apprentice.samples == 1298
    assert apprentice.train(StartTraining(2, split, 0.1, if_ready=True)) == []
    (trained,) = outcomes(apprentice)
    assert isinstance(trained, Trained) and trained.round_index == 2
    assert trained.is_measured and 0 < trained.loss < 3 and trained.norm > 0
    offer = Offer.open(trained.offer, manifest.layout, split)
    assert np.isfinite(offer.read_array(0)).all()
    assert apprentice.state == "ready"
    apprentice.train(StartTraining(2, split, 0.1))
    assert apprentice.state == "training"
    kill(apprentice)
    (lost,) = outcomes(apprentice)
    assert lost == NotTrained(2, "the trainer died (killed by SIGKILL)")
    assert apprentice.state == "restarting" and apprentice.samples is None
    apprentice.train(StartTraining(3, split, 0.1))
    (again,) = outcomes(apprentice)
    assert isinstance(again, Trained) and again.round_index == 3
    assert_pauses_grow(apprentice, split)


def assert_pauses_grow(apprentice: Apprentice, split: Split) -> None:
    """A trainer that dies again and again rests in between, and is never given up."""
    kill(apprentice)
    assert next_outcomes(apprentice) == []
    assert apprentice.state == "restarting", "the first death may be an accident"
    pauses = []
    for round_index in range(4, 8):
        if round_index == 4:
            apprentice.train(StartTraining(round_index, split, 0.1))
        kill(apprentice)
        before = time.monotonic()
        lost = next_outcomes(apprentice)
        assert lost == ([] if round_index > 4 else [NotTrained(4, apprentice.resting)])
        assert "killed by SIGKILL" in apprentice.state
        assert apprentice.descriptors() == {}
        assert apprentice.check() == []
        (refused,) = apprentice.train(StartTraining(round_index, split, 0.1))
        assert refused == NotTrained(round_index, apprentice.resting)
        pauses.append(apprentice.deadline() - before)
        # The pause is cut short here; its length is what was measured.
        apprentice._restart_at = before
        assert apprentice.check() == [] and apprentice.state == "restarting"
    for number, pause_s in enumerate(pauses):
        assert pause_s >= TRAINER_PAUSE_S * 2**number
    apprentice.train(StartTraining(9, split, 0.1))
    (again,) = outcomes(apprentice)
    assert isinstance(again, Trained) and again.round_index == 9
    assert apprentice.deadline() == float("inf")


def next_outcomes(apprentice: Apprentice) -> list[Outcome]:
    """What comes of the next that it says, or of its death."""
    select.select([*apprentice.descriptors()], [], [], PATIENCE_S)
    return apprentice.ready()


def test_two_rounds_in_a_row_without_memory_are_too_much(
    apprentice: Apprentice, tmp_path: Path
) -> None:
    manifest = set_up(apprentice, tmp_path)
    split = Split.full(manifest.layout)
    apprentice.train(StartTraining(0, split, 0.1))
    assert isinstance(outcomes(apprentice)[0], Trained)
    found: list[list[Outcome]] = []
    for round_index in (1, 2):
        apprentice.train(StartTraining(round_index, split, 0.1))
        # After a death it is set up again first.
        while apprentice.state != "training":
            assert next_outcomes(apprentice) == []
        kill(apprentice)
        found.append(next_outcomes(apprentice))
    why = "the trainer died (killed by SIGKILL)"
    assert found == [[NotTrained(1, why)], [NotTrained(2, why), TooLarge(why)]]


def test_a_trainer_that_never_gets_ready_is_fatal(apprentice: Apprentice) -> None:
    for _ in range(MAX_TRAINER_RESTARTS):
        kill(apprentice)
        assert next_outcomes(apprentice) == []
        assert apprentice.state == "restarting"
    kill(apprentice)
    (fatal,) = outcomes(apprentice)
    assert isinstance(fatal, Fatal) and isinstance(fatal.error, TrainerError)
    assert "SIGKILL" in fatal.error.message and "trainer.log" in fatal.error.hint


def test_errors_of_the_users_making_are_fatal_and_keep_their_class(
    apprentice: Apprentice, tmp_path: Path
) -> None:
    apprentice.describe(founded("nope", {}))
    (fatal,) = outcomes(apprentice)
    assert isinstance(fatal, Fatal) and type(fatal.error) is ConfigError
    assert "nope" in fatal.error.message
    assert apprentice.state.startswith("failed: ")
    (tmp_path / "bad.npz").write_bytes(b"no archive")
    data = DataSettings(kind="npz", path=str(tmp_path / "bad.npz"))
    other = Apprentice(Home(tmp_path), PeerSettings(), data)
    try:
        other.describe(founded("mlp", {}))
        (fatal,) = outcomes(other)
        assert isinstance(fatal, Fatal) and type(fatal.error) is DataError
        assert "bad.npz" in fatal.error.message
    finally:
        other.stop()


def test_decoded_pictures_stay_in_the_home(tmp_path: Path) -> None:
    draw = np.random.default_rng(0)
    for number in range(40):
        picture = tmp_path / "photos" / f"class {number % 2}" / f"{number}.png"
        picture.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(draw.integers(0, 256, (8, 8), np.uint8)).save(picture)
    data = DataSettings(kind="image-folder", path=str(tmp_path / "photos"))
    home = Home(tmp_path / "home")
    home.create()
    peer = Apprentice(home, PeerSettings(), data)
    try:
        manifest = set_up(peer, tmp_path)
        peer.train(StartTraining(0, Split.full(manifest.layout), 0.1))
        (trained,) = outcomes(peer)
    finally:
        peer.stop()
    assert isinstance(trained, Trained) and trained.samples
    (kept,) = home.pictures.glob("*.npy")
    assert kept.name.startswith("train-") and np.load(kept).shape == (32, 8, 8)


def test_a_round_that_diverges_is_lost_and_the_next_is_trained(
    apprentice: Apprentice, tmp_path: Path
) -> None:
    manifest = set_up(apprentice, tmp_path)
    split = Split.full(manifest.layout)
    apprentice.train(StartTraining(0, split, 1e30))
    (lost,) = outcomes(apprentice)
    assert isinstance(lost, NotTrained) and lost.round_index == 0
    assert "diverged" in lost.reason
    apprentice.train(StartTraining(1, split, 0.1))
    (trained,) = outcomes(apprentice)
    assert isinstance(trained, Trained) and trained.round_index == 1


def test_a_trainer_that_dies_while_it_measures_lets_the_least_be_trained(
    apprentice: Apprentice, tmp_path: Path
) -> None:
    manifest = set_up(apprentice, tmp_path)
    splits = [Split.full(manifest.layout)] * 2
    apprentice.fit(splits, 1 << 50)
    assert outcomes(apprentice) == [Fitted(1)]
    os.kill(apprentice.pid, signal.SIGSTOP)
    apprentice.fit(splits, 1 << 50)
    os.kill(apprentice.pid, signal.SIGKILL)
    assert outcomes(apprentice) == [Fitted(0)]


def test_a_round_is_given_away_before_it_is_measured(
    apprentice: Apprentice, tmp_path: Path
) -> None:
    """And the next one is asked for after that."""
    manifest = set_up(apprentice, tmp_path)
    split = Split.full(manifest.layout)
    apprentice.train(StartTraining(0, split, 0.1))
    kinds: list[type[Outcome]] = []
    while Measured not in kinds:
        for outcome in next_outcomes(apprentice):
            kinds.append(type(outcome))
            if isinstance(outcome, Trained):
                assert outcome.is_measured
                apprentice.train(StartTraining(1, split, 0.1))
            if isinstance(outcome, Measured):
                assert outcome.round_index == 0 and outcome.accuracy is not None
                assert 0.5 < outcome.accuracy <= 1
    assert kinds == [Trained, Measured] and apprentice.state == "training"
    (following,) = outcomes(apprentice)
    assert isinstance(following, Trained) and following.round_index == 1


def test_a_death_over_the_accuracy_loses_that_number_alone(tmp_path: Path) -> None:
    """Most of the data is held back, so that it takes a while to measure on it."""
    held_back = DataSettings(validation=0.9)
    apprentice = Apprentice(Home(tmp_path), PeerSettings(), held_back)
    try:
        manifest = set_up(apprentice, tmp_path, model="cnn", local_steps=1)
        split = Split.full(manifest.layout)
        why = "the trainer died (killed by SIGKILL)"
        for attempt in count():
            found: list[Outcome] = []
            apprentice.train(StartTraining(attempt, split, 0.1))
            while not any(isinstance(outcome, Trained) for outcome in found):
                found += next_outcomes(apprentice)
            kill(apprentice)
            while apprentice.state != "restarting":
                found += next_outcomes(apprentice)
            if found[1:] == [Measured(attempt, None, why)]:
                break
            # It had measured before it was killed: once more.
        apprentice.train(StartTraining(attempt + 1, split, 0.1))
        (trained,) = outcomes(apprentice)
        assert isinstance(trained, Trained) and trained.round_index == attempt + 1
    finally:
        apprentice.stop()
