"""Image classification sets: one loader per kind.

A loader takes the path of the profile (or None) and which part is wanted, and gives the
examples, or None for a test part that the files do not have. The parts are loaded one
by one, because a training peer never needs the test set.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from p2pfusion.errors import DataError
from p2pfusion.training.data.benchmarks import benchmark_directory, needed
from p2pfusion.training.data.examples import Examples, examples
from p2pfusion.training.data.formats import read_csv, read_idx, read_npz

HELD_OUT_EVERY = 5
"""Of every class of the digits, every fifth record is held out: the file names no test
set, and its classes take turns, so every fifth record alone would be a skewed one."""

_DIGITS = Path(__file__).with_name("digits.csv.gz")
_DIGIT_SCALE = 16.0
_IDX_PREFIX = {"train": "train", "test": "t10k"}
_NPZ_PREFIX = {"train": "", "test": "test_"}


def digits(path: str | None, part: str) -> Examples:
    """The 8 x 8 handwritten digits that the package ships (see digits.LICENSE.txt)."""
    table = read_csv(_DIGITS)
    chosen = held_out(table[:, -1]) == (part == "test")
    rows = table[chosen]
    images = rows[:, :-1].astype(np.uint8).reshape(-1, 8, 8)
    return examples(images, rows[:, -1], str(_DIGITS), scale=_DIGIT_SCALE)


def held_out(labels: np.ndarray) -> np.ndarray:
    """Which records are the test part where nobody has said: every fifth of a class."""
    found = np.zeros(len(labels), dtype=bool)
    for label in np.unique(labels):
        records = np.flatnonzero(labels == label)
        found[records[HELD_OUT_EVERY - 1 :: HELD_OUT_EVERY]] = True
    return found


def idx(path: str | None, part: str) -> Examples:
    """A directory with the four IDX files of the MNIST family, ``.gz`` or not."""
    directory = needed(path, "idx", "the directory of the four IDX files")
    prefix = _IDX_PREFIX[part]
    images_path = _idx_file(directory, f"{prefix}-images-idx3-ubyte")
    labels_path = _idx_file(directory, f"{prefix}-labels-idx1-ubyte")
    images, labels = read_idx(images_path), read_idx(labels_path)
    if images.ndim != 3 or labels.ndim != 1:
        wrong, wanted = (images_path, 3) if images.ndim != 3 else (labels_path, 1)
        raise DataError(f"{wrong}: offset 3: not {wanted} dimensions")
    return examples(images, labels, f"{images_path} and {labels_path.name}")


def npz(path: str | None, part: str) -> Examples | None:
    """A numpy file: ``images``, ``labels``; perhaps the same with ``test_``.

    Or a directory with a ``.npy`` file for each of them.
    """
    file = needed(path, "npz", "the .npz file")
    prefix = _NPZ_PREFIX[part]
    names = (f"{prefix}images", f"{prefix}labels")
    found = read_npz(file, names)
    if not found and part == "test":
        return None
    for name in names:
        if name not in found:
            raise DataError(
                f"{file}: there is no array {name!r}",
                hint="save it with numpy.savez(file, images=..., labels=...)",
            )
    return examples(found[names[0]], found[names[1]], str(file))


def fashion_mnist(path: str | None, part: str) -> Examples:
    """Fashion-MNIST, from ``$P2PFUSION_DATA/fashion-mnist`` or the given directory."""
    if path:
        return idx(path, part)
    instead = 'use kind = "idx" with the path of its four files'
    return idx(str(benchmark_directory("fashion-mnist", instead)), part)


def _idx_file(directory: Path, stem: str) -> Path:
    if not directory.is_dir():
        raise DataError(
            f"{directory}: not a directory",
            hint="kind idx takes the directory that holds the four files",
        )
    for name in (stem, f"{stem}.gz"):
        if (directory / name).is_file():
            return directory / name
    raise DataError(
        f"{directory}: neither {stem} nor {stem}.gz is there",
        hint="kind idx needs train-images, train-labels, t10k-images and t10k-labels",
    )
