"""The image kinds, and what they say when a file is not there."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from p2pfusion.errors import ConfigError, DataError
from p2pfusion.training.data import images
from p2pfusion.training.data.formats import read_csv
from p2pfusion.training.data.images import digits, fashion_mnist, idx, npz
from tests.training.samples import IDX_NAMES, images_and_labels, write_idx_directory


def test_every_fifth_digit_of_a_class_is_held_out() -> None:
    train, test = digits(None, "train"), digits(None, "test")
    assert (len(train), len(test)) == (1442, 355)
    assert train.traits.shape == test.traits.shape == (1, 8, 8)
    assert train.images.max() == train.scale == 16
    classes = train.labels.bincount() + test.labels.bincount()
    assert (test.labels.bincount() == classes // 5).all()
    # It begins with 0 to 9 three times, then 0, 9, 5, 5: record 33 is the fifth five.
    table = read_csv(Path(images.__file__).with_name("digits.csv.gz"))
    assert (train.images[:33, 0].flatten(1).numpy() == table[:33, :64]).all()
    assert (test.images[0].flatten().numpy() == table[33, :64]).all()
    assert test.labels[0] == 5


def test_the_digits_name_their_licence() -> None:
    text = Path(images.__file__).with_name("digits.LICENSE.txt").read_text()
    for words in ("Alpaydin", "Kaynak", "CC BY 4.0", "UCI"):
        assert words in text


def test_idx_reads_both_parts(tmp_path: Path) -> None:
    write_idx_directory(tmp_path, train=30, test=12)
    for part, count in (("train", 30), ("test", 12)):
        found = idx(str(tmp_path), part)
        pixels, labels = images_and_labels(count, seed=count)
        assert (found.images[:, 0].numpy() == pixels).all()
        assert (found.labels.numpy() == labels).all()
        assert found.scale == 255


def test_idx_names_the_missing_file(tmp_path: Path) -> None:
    write_idx_directory(tmp_path)
    missing = tmp_path / IDX_NAMES["test", "labels"]
    missing.unlink()
    with pytest.raises(DataError, match=missing.name):
        idx(str(tmp_path), "test")
    with pytest.raises(DataError, match="not a directory"):
        idx(str(tmp_path / "nowhere"), "train")


def test_idx_with_images_and_labels_exchanged(tmp_path: Path) -> None:
    write_idx_directory(tmp_path)
    labels = tmp_path / IDX_NAMES["test", "labels"]
    labels.replace(tmp_path / IDX_NAMES["test", "images"])
    _, numbers = images_and_labels(12, seed=12)
    labels.write_bytes(bytes([0, 0, 8, 1, 0, 0, 0, 12]) + numbers.tobytes())
    with pytest.raises(DataError, match="offset 3: not 3 dimensions"):
        idx(str(tmp_path), "test")


def test_npz_with_and_without_a_test_part(tmp_path: Path) -> None:
    pixels, labels = images_and_labels(9, seed=1)
    alone, both = tmp_path / "alone.npz", tmp_path / "both.npz"
    np.savez(alone, images=pixels, labels=labels)
    np.savez(
        both,
        images=pixels,
        labels=labels,
        test_images=pixels[:4],
        test_labels=labels[:4],
    )
    assert npz(str(alone), "test") is None
    train, test = npz(str(both), "train"), npz(str(both), "test")
    assert train is not None and test is not None
    assert (len(train), len(test)) == (9, 4)


def test_npz_names_the_missing_array(tmp_path: Path) -> None:
    path = tmp_path / "data.npz"
    np.savez(path, images=np.zeros((2, 3, 3), np.uint8), test_labels=np.zeros(2))
    with pytest.raises(DataError, match="no array 'labels'"):
        npz(str(path), "train")
    with pytest.raises(DataError, match="no array 'test_images'"):
        npz(str(path), "test")


@pytest.mark.parametrize("load", [idx, npz])
def test_a_kind_without_its_path(load: images.Loader) -> None:
    with pytest.raises(ConfigError, match=r"data\.path"):
        load(None, "train")


def test_fashion_mnist_is_found_in_the_data_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_idx_directory(tmp_path / "fashion-mnist", train=15)
    monkeypatch.setenv("P2PFUSION_DATA", str(tmp_path))
    assert len(fashion_mnist(None, "train")) == 15


def test_fashion_mnist_says_where_it_looked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("P2PFUSION_DATA", str(tmp_path))
    with pytest.raises(DataError, match=str(tmp_path)) as caught:
        fashion_mnist(None, "train")
    assert "P2PFUSION_DATA" in caught.value.hint
    monkeypatch.delenv("P2PFUSION_DATA")
    with pytest.raises(DataError, match="P2PFUSION_DATA is not set"):
        fashion_mnist(None, "train")


def test_fashion_mnist_is_whole(benchmark_data: Path) -> None:
    directory = str(benchmark_data / "fashion-mnist")
    train, test = fashion_mnist(directory, "train"), fashion_mnist(directory, "test")
    assert train.labels.bincount().tolist() == [6000] * 10
    assert test.labels.bincount().tolist() == [1000] * 10
    assert train.traits.shape == (1, 28, 28)
