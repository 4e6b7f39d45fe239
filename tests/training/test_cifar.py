"""CIFAR-10's binary files, and the benchmark sets made of it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from p2pfusion.errors import DataError
from p2pfusion.training.data.cifar import (
    RECORD_BYTES,
    cifar,
    cifar10_exact,
    cifar10_jpeg,
)


def records(count: int) -> np.ndarray:
    found = np.random.default_rng(count).integers(0, 256, (count, RECORD_BYTES))
    found[:, 0] %= 10
    return found.astype(np.uint8)


def test_planes_are_channels_and_batches_follow_each_other(tmp_path: Path) -> None:
    first, second = records(3), records(2)
    (tmp_path / "data_batch_2.bin").write_bytes(second.tobytes())
    (tmp_path / "data_batch_1.bin").write_bytes(first.tobytes())
    (tmp_path / "test_batch.bin").write_bytes(second.tobytes())
    train, test = cifar(str(tmp_path), "train"), cifar(str(tmp_path), "test")
    assert (len(train), len(test)) == (5, 2)
    assert train.labels.tolist() == [*first[:, 0], *second[:, 0]]
    # The second row of the green plane of the second image.
    assert train.images[1, 1, 1].tolist() == first[1, 1 + 1024 + 32 :][:32].tolist()


def test_what_is_wrong_is_named(tmp_path: Path) -> None:
    path = tmp_path / "test_batch.bin"
    with pytest.raises(DataError, match=r"there is no test_batch\.bin"):
        cifar(str(tmp_path), "test")
    path.write_bytes(records(3).tobytes()[:-1])
    with pytest.raises(DataError, match="ends inside record 2"):
        cifar(str(tmp_path), "test")
    wrong = records(3)
    wrong[1, 0] = 10
    path.write_bytes(wrong.tobytes())
    with pytest.raises(DataError, match="record 1 has the label 10"):
        cifar(str(tmp_path), "test")


def test_benchmark_sets_are_found_in_the_data_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("P2PFUSION_DATA", str(tmp_path))
    for load in (cifar10_exact, cifar10_jpeg):
        with pytest.raises(DataError, match="cifar10 is not a directory"):
            load(None, "train")
    (tmp_path / "cifar10").mkdir()
    path = tmp_path / "cifar10" / "cifar10_exact_test1017.npz"
    np.savez(path, images=np.zeros((2, 32, 32, 3), np.uint8), labels=np.arange(2))
    assert cifar10_exact(None, "test").traits.shape == (3, 32, 32)
    np.savez(path, labels=np.arange(2))
    with pytest.raises(DataError, match="no array 'images'"):
        cifar10_exact(None, "test")


def test_the_exact_part_is_whole(benchmark_data: Path) -> None:
    directory = str(benchmark_data / "cifar10")
    test = cifar10_exact(directory, "test")
    counts = [105, 93, 100, 104, 92, 87, 114, 102, 110, 110]
    assert test.answer_counts(10).tolist() == counts
    assert test.traits.shape == (3, 32, 32)
