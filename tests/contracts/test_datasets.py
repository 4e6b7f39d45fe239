"""What a loader of ``DATASETS`` owes the trainer, for every entry."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from p2pfusion.errors import P2PFusionError
from p2pfusion.training.data import DATASETS, DataOptions, load
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


SAMPLES: dict[str, Callable[[Path], str | None]] = {
    "digits": no_file,
    "fashion-mnist": idx_directory,
    "idx": idx_directory,
    "npz": npz_file,
}

kinds = pytest.mark.parametrize("kind", DATASETS)


def test_every_kind_has_a_sample() -> None:
    assert set(SAMPLES) == set(DATASETS)


@kinds
def test_both_parts_are_compact_images_with_labels(kind: str, tmp_path: Path) -> None:
    options = DataOptions(kind, SAMPLES[kind](tmp_path))
    train, test = load(options, "train"), load(options, "test")
    assert train is not None and test is not None
    assert train.traits.shape == test.traits.shape
    for part in (train, test):
        assert part.images.dtype == torch.uint8
        assert part.images.dim() == 4
        assert part.labels.dtype == torch.int64
        assert part.labels.shape == (len(part),)
        assert part.labels.min() >= 0
        batch, _ = part.batch(torch.arange(len(part)), torch.device("cpu"))
        assert batch.min() >= -1 and batch.max() <= 1
    assert set(test.labels.tolist()) <= set(train.labels.tolist())


@kinds
def test_no_test_record_is_trained_on(kind: str, tmp_path: Path) -> None:
    options = DataOptions(kind, SAMPLES[kind](tmp_path))
    train, test = load(options, "train"), load(options, "test")
    assert train is not None and test is not None
    seen = {image.numpy().tobytes() for image in train.images}
    assert not any(image.numpy().tobytes() in seen for image in test.images)


@kinds
def test_loading_twice_gives_the_same(kind: str, tmp_path: Path) -> None:
    options = DataOptions(kind, SAMPLES[kind](tmp_path))
    one, other = load(options, "train"), load(options, "train")
    assert one is not None and other is not None
    assert torch.equal(one.images, other.images)
    assert torch.equal(one.labels, other.labels)


@pytest.mark.parametrize("kind", [k for k, s in SAMPLES.items() if s is not no_file])
def test_a_file_that_is_not_there_is_an_error_of_ours(
    kind: str, tmp_path: Path
) -> None:
    missing = str(tmp_path / "missing")
    with pytest.raises(P2PFusionError, match="missing"):
        load(DataOptions(kind, missing), "train")
