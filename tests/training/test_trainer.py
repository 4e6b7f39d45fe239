"""A trainer in this process: what it reads, what it gives back, and that it learns."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from p2pfusion.errors import (
    ConfigError,
    DataError,
    IncompatibleError,
    NonFiniteError,
    VerificationError,
)
from p2pfusion.split.segment import Segment, Split
from p2pfusion.store import Owed, Store
from p2pfusion.training.data import DataOptions, load
from p2pfusion.training.description import describe
from p2pfusion.training.devices import find_device
from p2pfusion.training.loop import Schedule
from p2pfusion.training.models import MODELS
from p2pfusion.training.setup import Setup
from p2pfusion.training.trainer import TrainedRound, Trainer
from p2pfusion.training.whole import evaluate_full, evaluation_records
from tests.training.samples import images_and_labels, window

HIDDEN: Mapping[str, object] = {"hidden": [32, 32]}
LAYOUT = MODELS["mlp"].layout(HIDDEN)
FULL = Split.full(LAYOUT)
DIGITS = {"kind": "digits"}


def setup(
    data: Mapping[str, object] = DIGITS, *, batch: int = 32, device: str = "cpu"
) -> Setup:
    return Setup(
        model="mlp",
        arguments=HIDDEN,
        layout=LAYOUT,
        seed=4,
        schedule=Schedule(batch),
        data=DataOptions.from_data(data),
        device=device,
    )


def train(trainer: Trainer, store: Store, split: Split = FULL) -> TrainedRound:
    return trainer.train(
        round_index=2, split=split, learning_rate=0.05, read=store.read
    )


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store.create(tmp_path / "store", LAYOUT, 4)


def test_a_round_gives_the_splits_values_and_leaves_the_store(store: Store) -> None:
    split = window(LAYOUT, start=20, cells=16)
    segments = list(split.segments(LAYOUT))
    before = [store.read(segment) for segment in segments]
    trainer = Trainer(setup())
    trained = train(trainer, store, split)
    assert [array.shape for array in trained.arrays] == [s.shape for s in segments]
    moved = [new - old for new, old in zip(trained.arrays, before, strict=True)]
    norm = math.sqrt(sum(float((part.astype(float) ** 2).sum()) for part in moved))
    assert trained.norm == pytest.approx(norm, rel=1e-5)
    l1 = sum(float(abs(part.astype(float)).sum()) for part in moved)
    assert trained.l1 == pytest.approx(l1, rel=1e-5)
    assert norm > 0
    for segment, values in zip(segments, before, strict=True):
        assert (store.read(segment) == values).all()
    assert (trained.samples, trained.steps) == (1442, 46)
    assert not trainer.measures


def test_rounds_are_reproducible(store: Store) -> None:
    one, other = (train(Trainer(setup()), store) for _ in range(2))
    for a, b in zip(one.arrays, other.arrays, strict=True):
        assert (a == b).all()
    assert one.loss == other.loss


PROJECTED: Mapping[str, object] = {**HIDDEN, "projection": 8}


def test_changes_are_what_training_adds(store: Store) -> None:
    split = window(LAYOUT, start=20, cells=16)
    values = train(Trainer(setup()), store, split)
    changed = train(Trainer(replace(setup(), changes=True)), store, split)
    assert (changed.norm, changed.l1) == (values.norm, values.l1)
    segments = split.segments(LAYOUT)
    for segment, new, change in zip(
        segments, values.arrays, changed.arrays, strict=True
    ):
        assert (change == new - store.read(segment)).all()
    with pytest.raises(ConfigError, match="no outer momentum"):
        Trainer(replace(setup(), changes=True, summed=True, outer_momentum=0.5))


def test_what_earlier_changes_have_lost_is_added(store: Store, tmp_path: Path) -> None:
    """Where something is owed; with the outer momentum, whose changes are averaged."""
    split = window(LAYOUT, start=20, cells=16)
    told = replace(setup(), changes=True, outer_momentum=0.5)
    pasts = (tmp_path / "one", tmp_path / "other")
    plain, owing = (replace(told, past=past) for past in pasts)
    owing = replace(owing, owed=tmp_path / "owed")
    segments = tuple(split.segments(LAYOUT))
    lost = np.arange(sum(s.size for s in segments), dtype=np.float32)
    Owed(tmp_path / "owed", LAYOUT).write(segments, lost)
    one = train(Trainer(plain), store, split)
    other = train(Trainer(owing), store, split)
    expected = [array.ravel() for array in one.arrays]
    found = [array.ravel() for array in other.arrays]
    np.testing.assert_array_equal(
        np.concatenate(found), np.concatenate(expected) + lost
    )
    assert (one.norm, one.l1) == (other.norm, other.l1)


def contrasting(
    name: str, outer_momentum: float = 0.0, past: Path | None = None
) -> Trainer:
    """A trainer of a model with a projection, with an objective."""
    return Trainer(
        Setup(
            model="mlp",
            arguments=PROJECTED,
            layout=MODELS["mlp"].layout(PROJECTED),
            seed=4,
            schedule=Schedule(32),
            data=DataOptions.from_data({**DIGITS, "limit": {"train": 200}}),
            objective={"name": name},
            outer_momentum=outer_momentum,
            past=past,
        )
    )


def values_of(trained: TrainedRound) -> list[float]:
    return np.concatenate([array.ravel() for array in trained.arrays]).tolist()


def test_a_contrast_begins_in_the_second_round_of_a_trainer(tmp_path: Path) -> None:
    """Until then, and so in the first one after a restart, it is the task."""
    layout = MODELS["mlp"].layout(PROJECTED)
    store = Store.create(tmp_path / "store", layout, 4)
    first, second = (window(layout, start=n, cells=16) for n in (0, 8))

    def rounds(name: str, splits: Mapping[int, Split]) -> list[TrainedRound]:
        trainer = contrasting(name)
        found = []
        for t, split in splits.items():
            done = trainer.train(
                round_index=t, split=split, learning_rate=0.05, read=store.read
            )
            arrays = [array.copy() for array in done.arrays]
            found.append(replace(done, arrays=arrays))
        return found

    task = rounds("task", {0: first, 1: second})
    found = rounds("contrastive", {0: first, 1: second})
    assert values_of(found[0]) == values_of(task[0])
    assert found[1].loss > task[1].loss
    assert values_of(found[1]) != values_of(task[1])
    assert [each.frozen for each in found] == [(), (second, first)]
    assert [each.frozen for each in task] == [(), ()]
    (restarted,) = rounds("contrastive", {1: second})
    assert values_of(restarted) == values_of(task[1])
    assert rounds("contrastive", {0: first, 1: second})[1].loss == found[1].loss


def test_outer_momentum_does_not_reach_what_a_contrast_remembers(
    tmp_path: Path,
) -> None:
    """Past sub-models are as trained. The third round is the first one to differ if
    they are not: the second one's values have the momentum of the first."""
    layout = MODELS["mlp"].layout(PROJECTED)

    def received(segment: Segment) -> np.ndarray:
        random = np.random.default_rng([number, segment.parameter])
        return random.normal(0, 0.1, segment.shape).astype(np.float32)

    losses = []
    for momentum in (0.0, 0.9):
        trainer = contrasting("contrastive", momentum, tmp_path / "past")
        for number in range(3):
            trained = trainer.train(
                round_index=number,
                split=Split.full(layout),
                learning_rate=0.05,
                read=received,
            )
        losses.append(trained.loss)
    assert losses[0] == losses[1]


def test_a_contrast_that_diverges_is_refused(tmp_path: Path) -> None:
    layout = MODELS["mlp"].layout(PROJECTED)
    store = Store.create(tmp_path / "store", layout, 4)
    trainer, full = contrasting("contrastive"), Split.full(layout)

    def trained(round_index: int, rate: float) -> TrainedRound:
        return trainer.train(
            round_index=round_index, split=full, learning_rate=rate, read=store.read
        )

    trained(0, 0.05)
    with pytest.raises(NonFiniteError, match="diverged"):
        trained(1, 1e30)
    assert trained(2, 0.05).frozen == (full, full)


def test_records_that_are_loaded_already_change_nothing(store: Store) -> None:
    options = setup({"kind": "digits", "partition": {"share": "1/3"}})
    records = load(options.data, "train")
    one, other = Trainer(options), Trainer(options, records=records)
    assert one.class_counts == other.class_counts
    assert train(one, store).loss == train(other, store).loss


def test_counts_are_those_of_the_share() -> None:
    data = {
        "kind": "digits",
        "validation": 0.2,
        "partition": {"rule": "shards", "shards": 2, "share": "3/5"},
    }
    trainer = Trainer(setup(data))
    assert sum(trainer.class_counts) == trainer.samples
    assert len(trainer.class_counts) == 10
    assert sum(count > 0 for count in trainer.class_counts) == 2
    whole = trainer.samples + trainer.validation_samples
    assert trainer.validation_samples == int(0.2 * whole)


def test_validation_gives_an_accuracy(store: Store) -> None:
    trainer = Trainer(setup({"kind": "digits", "validation": 0.2}))
    train(trainer, store)
    assert trainer.measures
    assert 0.5 < trainer.measure() <= 1.0


def test_what_is_measured_is_what_was_trained(store: Store, tmp_path: Path) -> None:
    """Without the outer momentum, though that is in what is offered."""
    chosen = setup({"kind": "digits", "validation": 0.2})
    moved = replace(chosen, outer_momentum=0.9, past=tmp_path / "past")
    found = []
    for trainer in (Trainer(chosen), Trainer(moved)):
        arrays = [store.read(segment) for segment in FULL.segments(LAYOUT)]
        for round_index in range(2):
            trained = trainer.train(
                round_index=round_index,
                split=FULL,
                learning_rate=0.05,
                read=lambda segment, arrays=arrays: arrays[segment.parameter],
            )
            # Both go on from what the plain one has trained.
            if trainer.measures and round_index == 0:
                arrays = [array.copy() for array in trained.arrays]
        found.append((trainer.measure(), [each.copy() for each in trained.arrays]))
    (plain, offered), (measured, accelerated) = found
    assert measured == plain
    assert any((a != b).any() for a, b in zip(offered, accelerated, strict=True))


def test_a_module_of_the_same_shape_is_filled_anew(store: Store) -> None:
    """The same bits as with modules that are built for a round, also after one that
    diverged half-way, and between others of another shape."""
    kept = Trainer(setup())
    for start, cells, rate in (
        *((0, 16, 0.05), (9, 16, 0.05), (9, 16, 1e30), (20, 16, 0.05)),
        *((3, 8, 0.05), (5, 16, 0.05)),
    ):
        split = window(LAYOUT, start=start, cells=cells)
        told = {"round_index": start, "split": split, "learning_rate": rate}
        if rate > 1:
            with pytest.raises(NonFiniteError):
                kept.train(**told, read=store.read)  # type: ignore[arg-type]
            continue
        fresh = Trainer(setup()).train(**told, read=store.read)  # type: ignore[arg-type]
        again = kept.train(**told, read=store.read)  # type: ignore[arg-type]
        assert again.loss == fresh.loss
        for a, b in zip(again.arrays, fresh.arrays, strict=True):
            assert (a == b).all()


def test_the_mlp_learns_the_digits(tmp_path: Path) -> None:
    """Plain training on one machine, the reference for what a swarm can reach."""
    layout = MODELS["mlp"].layout({})
    full = Split.full(layout)
    data = DataOptions("digits")
    trainer = Trainer(
        Setup(model="mlp", layout=layout, seed=0, schedule=Schedule(32), data=data)
    )
    store = Store.create(tmp_path, layout, 0)
    arrays = [store.read(segment) for segment in full.segments(layout)]
    for round_index in range(20):
        trained = trainer.train(
            round_index=round_index,
            split=full,
            learning_rate=0.1 * (1 - round_index / 20),
            read=lambda segment: arrays[segment.parameter],  # noqa: B023
        )
        arrays = trained.arrays
    names = (parameter.name for parameter in layout.parameters)
    records, held_out = evaluation_records(data)
    values = dict(zip(names, arrays, strict=True))
    found = evaluate_full("mlp", {}, values, records, held_out=held_out)
    assert found.result.accuracy >= 0.96
    assert found.result.samples == 355
    assert found.held_out
    assert 0.1 <= found.chance_accuracy < 0.11


def text_setup(path: Path, **changes: object) -> Setup:
    arguments = {"vocabulary": 257, "classes": 257, "length": 8, "width": 16,
                 "heads": 2, "layers": 1, "inner": 16, "group": 2}  # fmt: skip
    settings: dict[str, object] = {
        "model": "transformer",
        "arguments": arguments,
        "layout": MODELS["transformer"].layout(arguments),
        "seed": 4,
        "schedule": Schedule(8),
        "data": DataOptions("text", str(path), validation=0.2),
        "vocabulary": {"level": "byte"},
        **changes,
    }
    return Setup(**settings)  # type: ignore[arg-type]


def test_running_text_is_trained_on_as_the_swarm_reads_it(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(b"abc " * 200)
    chosen = text_setup(path)
    trainer = Trainer(chosen)
    # A token is its byte plus 1. Each is as long as the model's argument says.
    assert {n for n, count in enumerate(trainer.class_counts) if count} == {
        byte + 1 for byte in b"abc "
    }
    assert trainer.samples + trainer.validation_samples == 90
    store = Store.create(tmp_path / "text", chosen.layout, 4)
    trained = train(trainer, store, Split.full(chosen.layout))
    assert trainer.measures
    assert trained.loss < math.log(257)


def test_text_without_the_swarms_vocabulary_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("to be\n" * 50)
    for vocabulary in ({}, {"level": "word", "size": 9}):
        with pytest.raises(IncompatibleError, match="no vocabulary"):
            Trainer(text_setup(path, vocabulary=vocabulary))
    with pytest.raises(DataError, match="of the kind 'image'"):
        Trainer(text_setup(path, model="mlp", arguments=HIDDEN, layout=LAYOUT))
    with pytest.raises(DataError, match="transformer"):
        Trainer(text_setup(path, data=DataOptions("digits")))
    with pytest.raises(DataError, match="augment"):
        Trainer(text_setup(path, augment="flip-crop"))


def test_another_layout_than_the_manifests_is_refused() -> None:
    other = Setup(
        model="mlp",
        layout=LAYOUT,
        seed=4,
        schedule=Schedule(8),
        data=DataOptions("digits"),
    )
    with pytest.raises(IncompatibleError, match="'mlp' has another layout"):
        Trainer(other)


def test_data_of_another_shape_is_refused(tmp_path: Path) -> None:
    images, labels = images_and_labels(12, seed=0)
    path = tmp_path / "data.npz"
    np.savez(path, images=images, labels=labels)
    with pytest.raises(DataError, match="inputs = 30, the model has 64"):
        Trainer(setup({"kind": "npz", "path": str(path)}))


def test_describe_completes_arguments_from_the_data(tmp_path: Path) -> None:
    images, labels = images_and_labels(12, seed=0)
    path = tmp_path / "data.npz"
    np.savez(path, images=images, labels=labels)
    options = DataOptions("npz", str(path))
    found = describe("mlp", {"hidden": [8]}, options)
    expected = {"inputs": 30, "hidden": [8], "classes": 3, "projection": 0}
    assert found.arguments == expected
    assert found.layout.parameters[0].shape == (8, 30)
    assert found.vocabulary == {}
    assert describe("mlp", {"classes": 9}, options).arguments["classes"] == 9
    assert describe("mlp", {}).arguments == MODELS["mlp"].defaults
    records, held_out = evaluation_records(options)
    assert (len(records), held_out) == (12, False)


def test_a_checkpoint_of_another_model_is_refused() -> None:
    records, _ = evaluation_records(DataOptions("digits"))
    values = {p.name: np.zeros(p.shape, np.float32) for p in LAYOUT.parameters}
    with pytest.raises(VerificationError, match=r"layers\.0\.weight of shape \(128"):
        evaluate_full("mlp", {}, values, records)
    del values["layers.2.bias"]
    with pytest.raises(VerificationError, match=r"layers\.2\.bias"):
        evaluate_full("mlp", HIDDEN, values, records)


@pytest.mark.parametrize("name", ["gpu", "mps", "cuda:99", "meta"])
def test_devices_that_cannot_be_used(name: str) -> None:
    with pytest.raises(ConfigError, match=name):
        find_device(name)
