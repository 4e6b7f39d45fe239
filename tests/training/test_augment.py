"""Crops and flips: against a slow version, and the same for the same generator."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from p2pfusion.errors import ConfigError, DataError
from p2pfusion.training.data.augment import CROP_PIXELS, augmentation, flip_crop
from p2pfusion.training.data.examples import examples
from p2pfusion.training.data.texts import texts
from p2pfusion.training.data.vocabulary import Coding


def stream(seed: int = 3) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_every_image_is_a_moved_and_perhaps_flipped_one() -> None:
    images = torch.rand(40, 3, 9, 7, generator=stream(0))
    found = flip_crop(images, stream(), blank=-1.0)
    drawn = torch.randint(
        0, 2 * CROP_PIXELS + 1, (2, 40), generator=(again := stream())
    )
    flipped = torch.randint(0, 2, (40, 1), generator=again).flatten().tolist()
    assert 0 < sum(flipped) < 40
    for n, (down, across) in enumerate(drawn.T.tolist()):
        framed = torch.full((3, 9 + 2 * CROP_PIXELS, 7 + 2 * CROP_PIXELS), -1.0)
        framed[:, CROP_PIXELS:-CROP_PIXELS, CROP_PIXELS:-CROP_PIXELS] = images[n]
        expected = framed[:, down : down + 9, across : across + 7]
        expected = expected.flip(2) if flipped[n] else expected
        assert torch.equal(found[n], expected)


def test_parts_of_a_batch_are_drawn_as_the_whole_batch() -> None:
    images = torch.rand(20, 1, 8, 8)
    whole = flip_crop(images, stream(), blank=0.0)
    parts = [
        flip_crop(images[start:stop], stream(), blank=0.0, start=start, count=20)
        for start, stop in ((0, 7), (7, 8), (8, 20))
    ]
    assert torch.equal(torch.cat(parts), whole)


def test_the_same_generator_gives_the_same_images() -> None:
    images = torch.rand(20, 1, 8, 8)
    one, other = (flip_crop(images, stream(), blank=0.0) for _ in range(2))
    assert torch.equal(one, other)
    assert not torch.equal(one, flip_crop(images, stream(4), blank=0.0))
    assert one.is_contiguous()


def test_blank_is_black_for_bytes_and_zero_for_numbers() -> None:
    black = np.zeros((5, 8, 8), np.uint8)
    for images, value in ((black, -1.0), (black.astype(np.float32), 0.0)):
        records = examples(images, np.arange(5), "f")
        batch, _ = records.batch(torch.arange(5), torch.device("cpu"))
        augment = augmentation("flip-crop", records)
        assert augment is not None
        assert (augment(batch, stream()) == value).all()


def test_what_cannot_be_augmented_is_refused() -> None:
    words = texts(["a b"], [0], Coding(), "word")
    vectors = examples(np.zeros((3, 4), np.uint8), np.arange(3), "f")
    assert augmentation("none", words) is None
    for records in (words, vectors):
        with pytest.raises(DataError, match="is for images"):
            augmentation("flip-crop", records)
    with pytest.raises(ConfigError, match="mirror"):
        augmentation("mirror", vectors)
