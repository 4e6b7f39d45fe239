"""Labelled images, and how a batch is made of them.

Images stay as they were stored (one byte per pixel for the image kinds) and become
floating point one batch at a time: the training set is the largest thing that a peer
keeps, and four bytes per pixel would make it four times as large. Images that are
mapped from a file stay there: a share of them is a list of rows.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from p2pfusion.errors import DataError
from p2pfusion.training.data.mapping import as_tensor, is_mapped
from p2pfusion.training.traits import Traits

MAX_CLASSES = 1 << 20
"""Labels are below this: a class is an output of the model, not a hash."""

CHECKED_AT_ONCE = 1024
"""Float images looked at together: what is mapped may be larger than memory."""


@dataclass(frozen=True)
class Examples:
    """Images (N, C, H, W) of bytes or floating point, and labels of int64.

    ``scale`` is the largest pixel value of byte images. Float images are used as given.
    ``rows``: the images that are meant, one for each label, where the images are mapped
    from a file; otherwise None, and all are meant.
    """

    images: Tensor
    labels: Tensor
    scale: float = 1.0
    rows: Tensor | None = None
    classes: int = 0
    """How many there are at least, also those that no record here is of."""

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def traits(self) -> Traits:
        """What these images ask of a model."""
        classes = max(self.classes, int(self.labels.max()) + 1)
        return Traits("image", tuple(self.images.shape[1:]), classes)

    @property
    def vocabulary(self) -> None:
        """Images have none."""
        return None

    @property
    def documents(self) -> None:
        """Images are of none."""
        return None

    @property
    def blank(self) -> float:
        """The value of a black pixel in a batch."""
        return -1.0 if self.images.dtype == torch.uint8 else 0.0

    def answer_counts(self, classes: int) -> np.ndarray:
        """Images of each class."""
        return np.bincount(self.labels.numpy(), minlength=classes)

    def select(self, indices: np.ndarray) -> Examples:
        """The examples at these positions, in this order: a copy, unless mapped."""
        chosen = torch.from_numpy(np.ascontiguousarray(indices, dtype=np.int64))
        labels = self.labels[chosen]
        if self.rows is None:
            return replace(self, images=self.images[chosen], labels=labels)
        return replace(self, labels=labels, rows=self.rows[chosen])

    def batch(self, chosen: Tensor, device: torch.device) -> tuple[Tensor, Tensor]:
        """Float images (B, C, H, W) and labels (B,) on the device.

        Bytes are mapped to -1 ... 1, a fixed rule: a rule that looked at the data would
        differ between peers, and their models would disagree about brightness.
        """
        rows = chosen if self.rows is None else self.rows[chosen]
        images = self.images[rows]
        if images.dtype != torch.uint8:
            # Before it moves: not every device knows all of torch's types.
            images = images.to(torch.float32).to(device).contiguous()
        else:
            # After it: bytes are a quarter of what goes to a card.
            images = images.to(device).to(torch.float32).contiguous()
            images = images.mul_(2.0 / self.scale).sub_(1.0)
        return images, self.labels[chosen].to(device)


def examples(
    images: np.ndarray,
    labels: np.ndarray,
    where: str,
    *,
    scale: float = 255.0,
    classes: int = 0,
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
    pixels = as_tensor(_pixels(images, where))
    answers = torch.from_numpy(_classes(labels, where))
    rows = torch.arange(len(answers)) if is_mapped(images) else None
    return Examples(pixels, answers, scale, rows, classes)


def _pixels(images: np.ndarray, where: str) -> np.ndarray:
    mapped = is_mapped(images)
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
        return images if mapped else np.ascontiguousarray(images)
    if images.dtype.kind != "f":
        raise DataError(
            f"{where}: pixels are {images.dtype}", hint="store them as uint8 or float32"
        )
    values = images if mapped else np.ascontiguousarray(images, dtype=np.float32)
    for start in range(0, len(values), CHECKED_AT_ONCE):
        part = values[start : start + CHECKED_AT_ONCE]
        finite = np.isfinite(part).reshape(len(part), -1).all(axis=1)
        if not finite.all():
            record = start + int(np.argmin(finite))
            raise DataError(f"{where}: record {record} has a pixel that is not a "
                            "finite number")  # fmt: skip
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
