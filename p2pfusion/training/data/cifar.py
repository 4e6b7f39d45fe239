"""CIFAR-10: the official binary files, and the two benchmark sets made of it."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from p2pfusion.errors import DataError
from p2pfusion.training.data.benchmarks import benchmark_directory, needed
from p2pfusion.training.data.examples import Examples, examples
from p2pfusion.training.data.formats import read_content, read_npz

RECORD_BYTES = 1 + 3 * 32 * 32
"""One label, then the red, green and blue planes of 32 x 32 pixels."""

CLASSES = 10
_FILES = {"train": r"data_batch_\d+\.bin(\.gz)?", "test": r"test_batch\.bin(\.gz)?"}
_JPEG = {"train": "cifar10_jpeg_train20k.npz", "test": "cifar10_jpeg_test10k.npz"}
_EXACT = {"train": "cifar10_exact_train8068.npz", "test": "cifar10_exact_test1017.npz"}


def cifar(path: str | None, part: str) -> Examples:
    """A directory with the official ``data_batch_*.bin`` and ``test_batch.bin``."""
    directory = needed(path, "cifar", "the directory of the binary files")
    if not directory.is_dir():
        raise DataError(f"{directory}: not a directory")
    files = sorted(
        file for file in directory.iterdir() if re.fullmatch(_FILES[part], file.name)
    )
    if not files:
        wanted = "data_batch_1.bin" if part == "train" else "test_batch.bin"
        raise DataError(
            f"{directory}: there is no {wanted}",
            hint="kind cifar reads the binary version of CIFAR-10, unpacked",
        )
    records = np.concatenate([_records(file) for file in files])
    images = records[:, 1:].reshape(-1, 3, 32, 32)
    return examples(images, records[:, 0], f"{directory}")


def _records(file: Path) -> np.ndarray:
    content = read_content(file)
    whole, rest = divmod(len(content), RECORD_BYTES)
    if rest or not whole:
        raise DataError(
            f"{file}: ends inside record {whole}: {len(content)} bytes are not a "
            f"multiple of {RECORD_BYTES}",
            hint="the download was cut short; fetch the file again",
        )
    found = np.frombuffer(content, np.uint8).reshape(whole, RECORD_BYTES)
    wrong = found[:, 0] >= CLASSES
    if wrong.any():
        record = int(np.argmax(wrong))
        raise DataError(f"{file}: record {record} has the label {found[record, 0]}")
    return found


def cifar10_jpeg(path: str | None, part: str) -> Examples:
    """20,000 images for training and the 10,000 of the test set, recompressed: their
    pixels are not the original ones."""
    return _archive(path, _JPEG[part], "cifar10-jpeg")


def cifar10_exact(path: str | None, part: str) -> Examples:
    """8,068 and 1,017 images with their original pixels."""
    return _archive(path, _EXACT[part], "cifar10-exact")


def _archive(path: str | None, name: str, kind: str) -> Examples:
    instead = f"give the directory of {name} as path"
    directory = (
        Path(path) if path else benchmark_directory(kind, instead, folder="cifar10")
    )
    file = directory / name
    found = read_npz(file, ("images", "labels"))
    for wanted in ("images", "labels"):
        if wanted not in found:
            raise DataError(f"{file}: there is no array {wanted!r}")
    return examples(found["images"], found["labels"], str(file))
