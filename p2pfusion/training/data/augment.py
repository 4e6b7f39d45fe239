"""Augmentations: what is done to the images of a training batch, at random.

``flip-crop`` is what published results on small photographs are usually trained with: a
random crop of the image with four blank pixels around it, and a flip from left to right
of every second image. It draws from the generator that orders the batches, so a round
that is repeated sees the same images.
"""

from __future__ import annotations

from functools import partial
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional

from p2pfusion.errors import ConfigError, DataError
from p2pfusion.training.data.examples import Examples
from p2pfusion.training.data.records import Records

CROP_PIXELS = 4
"""How far an image is moved in each direction, at most."""


class Augmentation(Protocol):
    """What is done to some images of a batch of ``count``, those from ``start`` on; by
    default these are all of it."""

    def __call__(
        self,
        images: Tensor,
        generator: torch.Generator,
        *,
        start: int = 0,
        count: int | None = None,
    ) -> Tensor:
        """The images as they are trained on; the generator draws for the whole
        batch."""
        ...


def augmentation(name: str, records: Records) -> Augmentation | None:
    """The augmentation of that name for these records; None for ``none``."""
    if name == "none":
        return None
    if name != "flip-crop":
        raise ConfigError(f"augment: {name!r} is neither none nor flip-crop")
    if not isinstance(records, Examples) or min(records.traits.shape[1:]) < 2:
        raise DataError(
            f"the swarm's augment = {name!r} is for images, and this data is none",
            hint='use other data, or found the swarm with augment = "none"',
        )
    return partial(flip_crop, blank=records.blank)


def flip_crop(
    images: Tensor,
    generator: torch.Generator,
    *,
    blank: float,
    start: int = 0,
    count: int | None = None,
) -> Tensor:
    """Images (B, C, H, W), each moved, and flipped with a chance of one half.

    ``blank``: the value of the pixels that come in at the edges. ``start``, ``count``:
    of which batch these are a part (``Augmentation``).
    """
    own, _, height, width = images.shape
    of, here = count or own, slice(start, start + own)
    drawn = torch.randint(0, 2 * CROP_PIXELS + 1, (2, of), generator=generator)[:, here]
    flipped = torch.randint(0, 2, (of, 1), generator=generator)[here].bool()
    rows = drawn[0, :, None] + torch.arange(height)  # (B, H)
    across = torch.arange(width).expand(own, width)
    columns = drawn[1, :, None] + torch.where(flipped, across.flip(1), across)
    padded = functional.pad(images, (CROP_PIXELS,) * 4, value=blank)
    places = torch.arange(own)[:, None, None], rows[:, :, None], columns[:, None, :]
    first, second, third = (place.to(images.device) for place in places)
    # The slice between the indices moves the channels behind them: (B, H, W, C).
    return padded[first, :, second, third].permute(0, 3, 1, 2).contiguous()
