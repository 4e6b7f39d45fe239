"""Arrays become checked examples, and bytes become numbers one batch at a time."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from p2pfusion.errors import DataError
from p2pfusion.training.data.examples import MAX_CLASSES, examples

CPU = torch.device("cpu")


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        ((5, 8, 7), (1, 8, 7)),
        ((5, 8, 7, 3), (3, 8, 7)),
        ((5, 3, 8, 7), (3, 8, 7)),
        ((5, 9), (1, 1, 9)),
    ],
)
def test_channels_come_first(
    shape: tuple[int, ...], expected: tuple[int, int, int]
) -> None:
    found = examples(np.zeros(shape, np.uint8), np.arange(5), "file")
    assert found.traits.shape == expected
    assert len(found) == 5


def test_channels_last_images_are_transposed() -> None:
    images = np.arange(2 * 4 * 5 * 3, dtype=np.uint8).reshape(2, 4, 5, 3)
    found = examples(images, np.zeros(2, np.int64), "file")
    assert found.images[1, 2, 3, 4] == images[1, 3, 4, 2]


def test_bytes_stay_bytes_until_a_batch_is_made() -> None:
    images = np.array([[[0, 16]], [[8, 4]]], dtype=np.uint8)
    found = examples(images, np.array([1, 2]), "file", scale=16.0)
    assert found.images.dtype == torch.uint8
    batch, labels = found.batch(torch.tensor([1, 0]), CPU)
    assert batch.tolist() == [[[[0.0, -0.5]]], [[[-1.0, 1.0]]]]
    assert labels.tolist() == [2, 1]
    assert found.images.tolist() == [[[[0, 16]]], [[[8, 4]]]]


def test_float_images_are_used_as_given() -> None:
    images = np.array([[[0.25, 7.0]]])
    found = examples(images, np.array([0]), "file")
    batch, _ = found.batch(torch.tensor([0]), CPU)
    assert batch.dtype == torch.float32
    assert batch.flatten().tolist() == [0.25, 7.0]


def test_selection_keeps_order_and_copies() -> None:
    found = examples(np.arange(4, dtype=np.uint8).reshape(4, 1, 1), np.arange(4), "f")
    chosen = found.select(np.array([3, 1]))
    found.images.zero_()
    assert chosen.images.flatten().tolist() == [3, 1]
    assert chosen.labels.tolist() == [3, 1]


GOOD = np.zeros((3, 2, 2), np.uint8)
NOT_FINITE = np.zeros((3, 2, 2))
NOT_FINITE[2, 1, 0] = np.nan


@pytest.mark.parametrize(
    ("images", "labels", "said"),
    [
        (GOOD, np.arange(2), "3 images but 2 labels"),
        (GOOD[:0], np.arange(0), "no records"),
        (np.zeros((3, 9, 9, 9), np.uint8), np.arange(3), "shape"),
        (np.zeros(3, np.uint8), np.arange(3), "shape"),
        (np.zeros((3, 0, 4), np.uint8), np.arange(3), "no pixels"),
        (GOOD.astype(np.int32), np.arange(3), "int32"),
        (NOT_FINITE, np.arange(3), "record 2"),
        (GOOD, np.array([0, -1, 2]), "record 1 has the label -1"),
        (GOOD, np.array([0, 1, MAX_CLASSES]), "record 2"),
        (GOOD, np.arange(3.0), "float64"),
        (GOOD, np.zeros((3, 1), np.int64), "labels"),
    ],
)
def test_unsuitable_arrays_are_named(
    images: np.ndarray, labels: np.ndarray, said: str
) -> None:
    with pytest.raises(DataError, match=said) as caught:
        examples(images, labels, "the-file.npz")
    assert "the-file.npz" in caught.value.message
