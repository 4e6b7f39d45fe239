"""What a loader of ``DATASETS`` owes the trainer, for every entry."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from p2pfusion.errors import P2PFusionError
from p2pfusion.training.data import (
    DATASETS,
    IMAGES,
    Coding,
    DataOptions,
    Records,
    load,
)
from p2pfusion.training.data.records import NO_ANSWER
from tests.training.samples import images_and_labels, write_idx_directory


def no_file(directory: Path) -> None:
    return None


def idx_directory(directory: Path) -> str:
    write_idx_directory(directory)
    return str(directory)


def npz_file(directory: Path) -> str:
    path = directory / "data.npz"
    images, labels = images_and_labels(30, seed=1)
    test_images, test_labels = images_and_labels(12, seed=2)
    np.savez(
        path,
        images=images,
        labels=labels,
        test_images=test_images,
        test_labels=test_labels,
    )
    return str(path)


def cifar_directory(directory: Path) -> str:
    for name, seed in (("data_batch_1", 1), ("data_batch_2", 2), ("test_batch", 3)):
        random = np.random.default_rng(seed)
        records = random.integers(0, 256, (12, 3073), np.uint8)
        records[:, 0] = np.arange(12) % 3
        (directory / f"{name}.bin").write_bytes(records.tobytes())
    return str(directory)


def cifar_archives(*names: str) -> Callable[[Path], str]:
    def write(directory: Path) -> str:
        for seed, name in enumerate(names):
            images, labels = images_and_labels(12, seed)
            colours = np.repeat(images[..., None], 3, axis=3)
            np.savez(directory / name, images=colours, labels=labels)
        return str(directory)

    return write


def folders(directory: Path) -> str:
    for part, count in (("train", 30), ("test", 12)):
        for number, image in enumerate(images_and_labels(count, seed=count)[0]):
            name = directory / part / f"class {number % 3}" / f"{number}.png"
            name.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image).save(name)
    return str(directory)


def table_directory(ending: str, between: str) -> Callable[[Path], str]:
    def write(directory: Path) -> str:
        for part, text in (("train", "a good film"), ("test", "film a good")):
            rows = [f"{text} {number}{between}{number % 2}" for number in range(12)]
            written = "\n".join([f"text{between}label", *rows]) + "\n"
            (directory / f"{part}.{ending}").write_text(written)
        return str(directory)

    return write


def text_file(directory: Path) -> str:
    path = directory / "mine.txt"
    path.write_text("".join(f"line {n} of some text\n" for n in range(200)))
    return str(path)


def articles(directory: Path) -> str:
    for part, first in (("train", 0), ("test", 50)):
        text = "".join(
            f" \n = Article {n} = \n \n Some words about {n} . \n"
            for n in range(first, first + 30)
        )
        (directory / f"{part}.txt").write_text(text)
    return str(directory)


SAMPLES: dict[str, Callable[[Path], str | None]] = {
    "cifar": cifar_directory,
    "cifar10-exact": cifar_archives(
        "cifar10_exact_train8068.npz", "cifar10_exact_test1017.npz"
    ),
    "cifar10-jpeg": cifar_archives(
        "cifar10_jpeg_train20k.npz", "cifar10_jpeg_test10k.npz"
    ),
    "csv": table_directory("csv", ","),
    "digits": no_file,
    "fashion-mnist": idx_directory,
    "idx": idx_directory,
    "image-folder": folders,
    "npz": npz_file,
    "sst2": table_directory("tsv", "\t"),
    "text": text_file,
    "tiny-shakespeare": text_file,
    "tsv": table_directory("tsv", "\t"),
    "wikitext-2": articles,
}

CPU = torch.device("cpu")
TASKS = {True: {"image"}, False: {"text", "language"}}

kinds = pytest.mark.parametrize("kind", DATASETS)


def both_parts(kind: str, directory: Path) -> tuple[Records, Records]:
    """The test part is read with the vocabulary of the training part, as in a swarm."""
    options = DataOptions(kind, SAMPLES[kind](directory))
    train = load(options, "train")
    assert train is not None
    length = train.traits.shape[0] if train.vocabulary else None
    test = load(options, "test", Coding(train.vocabulary, length=length))
    assert test is not None
    return train, test


def batch_of(records: Records) -> tuple[torch.Tensor, torch.Tensor]:
    return records.batch(torch.arange(len(records)), CPU)


def test_every_kind_has_a_sample() -> None:
    assert set(SAMPLES) == set(DATASETS)


@kinds
def test_both_parts_ask_the_same_of_a_model(kind: str, tmp_path: Path) -> None:
    train, test = both_parts(kind, tmp_path)
    one, other = train.traits, test.traits
    assert (one.task, one.shape) == (other.task, other.shape)
    assert one.task in TASKS[kind in IMAGES]
    assert other.classes <= one.classes
    assert one.vocabulary == other.vocabulary
    assert (train.vocabulary is None) == (one.vocabulary == 0)


@kinds
def test_a_batch_is_what_a_model_of_the_task_takes(kind: str, tmp_path: Path) -> None:
    for part in both_parts(kind, tmp_path):
        traits, (inputs, targets) = part.traits, batch_of(part)
        assert inputs.shape == (len(part), *traits.shape)
        assert targets.dtype == torch.int64
        if traits.task == "image":
            assert inputs.dtype == torch.float32
            assert inputs.min() >= -1 and inputs.max() <= 1
        else:
            assert inputs.dtype == torch.int64
            assert inputs.min() >= 0 and inputs.max() < traits.vocabulary
        answers = targets[targets != NO_ANSWER]
        assert answers.min() >= 0 and answers.max() < traits.classes
        expected = inputs.shape if traits.task == "language" else (len(part),)
        assert targets.shape == expected


@kinds
def test_records_have_either_classes_or_documents(kind: str, tmp_path: Path) -> None:
    for part in both_parts(kind, tmp_path):
        if part.labels is None:
            assert part.documents is not None and part.traits.task == "language"
            assert part.documents.shape == (len(part),)
            assert (np.diff(part.documents) >= 0).all()
        else:
            assert part.documents is None
            assert part.labels.dtype == torch.int64
            assert part.labels.shape == (len(part),)


@kinds
def test_answers_are_counted(kind: str, tmp_path: Path) -> None:
    for part in both_parts(kind, tmp_path):
        _, targets = batch_of(part)
        counts = part.answer_counts(part.traits.classes + 3)
        expected = targets[targets != NO_ANSWER].bincount(minlength=len(counts))
        assert counts.tolist() == expected.tolist()


@kinds
def test_a_selection_has_the_records_that_were_chosen(
    kind: str, tmp_path: Path
) -> None:
    part, _ = both_parts(kind, tmp_path)
    chosen = np.array([3, 0, 2])
    for found, whole in zip(batch_of(part.select(chosen)), batch_of(part), strict=True):
        assert torch.equal(found, whole[chosen])
    twice = part.select(np.arange(1, 4)).select(np.array([2, 1]))
    assert torch.equal(batch_of(twice)[0], batch_of(part)[0][[3, 2]])


@kinds
def test_no_test_record_is_trained_on(kind: str, tmp_path: Path) -> None:
    train, test = both_parts(kind, tmp_path)
    seen = {each.numpy().tobytes() for each in batch_of(train)[0]}
    assert not any(each.numpy().tobytes() in seen for each in batch_of(test)[0])


@kinds
def test_loading_twice_gives_the_same(kind: str, tmp_path: Path) -> None:
    options = DataOptions(kind, SAMPLES[kind](tmp_path))
    one, other = load(options, "train"), load(options, "train")
    assert one is not None and other is not None
    assert one.vocabulary == other.vocabulary
    for first, second in zip(batch_of(one), batch_of(other), strict=True):
        assert torch.equal(first, second)


@pytest.mark.parametrize("kind", [k for k, s in SAMPLES.items() if s is not no_file])
def test_a_file_that_is_not_there_is_an_error_of_ours(
    kind: str, tmp_path: Path
) -> None:
    missing = str(tmp_path / "missing")
    with pytest.raises(P2PFusionError, match="missing"):
        load(DataOptions(kind, missing), "train")
