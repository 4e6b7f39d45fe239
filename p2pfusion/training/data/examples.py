"""Labelled examples in memory, and how a batch is made of them.

Images stay as they were stored (one byte per pixel for the image kinds) and become
floating point one batch at a time: the training set is the largest thing that a peer
keeps, and four bytes per pixel would make it four times as large.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from p2pfusion.errors import DataError
from p2pfusion.training.traits import Traits

MAX_CLASSES = 1 << 20
"""Labels are below this: a class is an output of the model, not a hash."""


@dataclass(frozen=True)
class Examples:
    """Images (N, C, H, W) of bytes or float32, and labels (N,) of int64.

    ``scale`` is the largest pixel value of byte images. Float images are used as given.
    """

    images: Tensor
    labels: Tensor
    scale: float = 1.0

    def __len__(self) -> int:
        return self.images.shape[0]

    @property
    def traits(self) -> Traits:
        """What these images ask of a model."""
        classes = int(self.labels.max()) + 1
        return Traits("image", tuple(self.images.shape[1:]), classes)

    def select(self, indices: np.ndarray) -> Examples:
        """The examples at these positions, in this order, as a copy."""
        chosen = torch.from_numpy(np.ascontiguousarray(indices, dtype=np.int64))
        return Examples(self.images[chosen], self.labels[chosen], self.scale)

    def batch(self, chosen: Tensor, device: torch.device) -> tuple[Tensor, Tensor]:
        """Float images (B, C, H, W) and labels (B,) on the device.

        Bytes are mapped to -1 ... 1, a fixed rule: a rule that looked at the data would
        differ between peers, and their models would disagree about brightness.
        """
        images = self.images[chosen].to(device, torch.float32)
        if self.images.dtype == torch.uint8:
            images = images.mul_(2.0 / self.scale).sub_(1.0)
        return images, self.labels[chosen].to(device)


def examples(
    images: np.ndarray, labels: np.ndarray, where: str, *, scale: float = 255.0
) -> Examples:
    """Checked examples from arrays; ``DataError`` names ``where``, record and reason.

    Images are (N, H, W), (N, H, W, C) with at most four channels, (N, C, H, W), or
    vectors (N, F).
    """
    if len(images) != len(labels):
        raise DataError(
            f"{where}: {len(images)} images but {len(labels)} labels",
            hint="every image needs exactly one label, in the same order",
        )
    if not len(images):
        raise DataError(f"{where}: there are no records")
    pixels = torch.from_numpy(_pixels(images, where))
    classes = torch.from_numpy(_classes(labels, where))
    return Examples(pixels, classes, scale)


def _pixels(images: np.ndarray, where: str) -> np.ndarray:
    if images.ndim == 2:
        images = images[:, None, None, :]
    elif images.ndim == 3:
        images = images[:, None, :, :]
    elif images.ndim == 4 and images.shape[3] <= 4:
        images = images.transpose(0, 3, 1, 2)
    elif images.ndim != 4 or images.shape[1] > 4:
        raise DataError(
            f"{where}: images of shape {images.shape} are not (N, H, W), (N, H, W, C), "
            "(N, C, H, W) or (N, F)"
        )
    if 0 in images.shape:
        raise DataError(f"{where}: images of shape {images.shape} have no pixels")
    if images.dtype == np.uint8:
        return np.ascontiguousarray(images)
    if images.dtype.kind != "f":
        raise DataError(
            f"{where}: pixels are {images.dtype}", hint="store them as uint8 or float32"
        )
    values = np.ascontiguousarray(images, dtype=np.float32)
    finite = np.isfinite(values).reshape(len(values), -1).all(axis=1)
    if not finite.all():
        raise DataError(f"{where}: record {int(np.argmin(finite))} has a pixel that is "
                        "not a finite number")  # fmt: skip
    return values


def _classes(labels: np.ndarray, where: str) -> np.ndarray:
    if labels.ndim != 1 or labels.dtype.kind not in "iu":
        raise DataError(
            f"{where}: labels are {labels.dtype} of shape {labels.shape}",
            hint="labels are one whole number per record",
        )
    wide = labels.astype(np.int64)
    wrong = (wide < 0) | (wide >= MAX_CLASSES)
    if wrong.any():
        record = int(np.argmax(wrong))
        raise DataError(f"{where}: record {record} has the label {labels[record]}")
    return wide
