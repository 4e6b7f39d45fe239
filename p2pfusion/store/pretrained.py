"""Start values from a checkpoint: what a cell has that nobody has trained yet.

A swarm whose manifest names a checkpoint begins with its values, at every peer alike,
so these are neither stored nor sent. The store keeps the file in its directory, as a
second name of the same file where the disk can do that, and it is known by its hash.
Values are read through a memory map, never the whole file.

What is in the file must be what the layout says: float32 tensors of its names and of
its tensors' shapes. Only of the last layer, the head, tensors may be lacking or of
another shape, as they are in a model for other classes; these begin as the seed says.
"""

from __future__ import annotations

import errno
import math
import mmap
import os
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from p2pfusion.errors import ConfigError, NotFoundError, VerificationError
from p2pfusion.split.depth import tensor_shape
from p2pfusion.split.layout import Layout
from p2pfusion.split.segment import Segment
from p2pfusion.store.beside import names_beside
from p2pfusion.store.checksum import METADATA, file_hash, read_entries
from p2pfusion.store.files import (
    FLOAT_BYTES,
    RESTORE,
    Floats,
    clear_errors,
    copy_file,
    sync_directory,
)
from p2pfusion.store.rectangles import pick_segment

DTYPE = "F32"

NO_SECOND_NAME = (errno.EXDEV, errno.EPERM, errno.EMLINK, errno.EOPNOTSUPP)
"""Why a file cannot have a second name in another directory: then it is copied."""


@dataclass(frozen=True)
class Tensor:
    """Where a tensor lies in a checkpoint."""

    shape: tuple[int, ...]
    offset_bytes: int

    @property
    def size(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)


class Pretrained:
    """The values of one checkpoint, for one layout."""

    def __init__(self, path: Path, layout: Layout) -> None:
        """``ConfigError`` if the file is another model's, ``VerificationError`` if it
        is damaged."""
        self._layout = layout
        self._tensors = matched(path, read_tensors(path), layout)
        with open(path, "rb") as file:
            self._file = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)

    @property
    def data(self) -> memoryview:
        """The whole file, mapped: what is read of it is read from the disk."""
        return memoryview(self._file)

    def has(self, parameter: int) -> bool:
        """Whether a parameter begins with the file's values, not with the seed's."""
        return parameter in self._tensors

    def fill(self, segment: Segment, mask: NDArray[np.bool_], into: Floats) -> None:
        """Puts values into a segment's dense array, where the mask says so."""
        parameter = self._layout.parameters[segment.parameter]
        start = self._tensors[segment.parameter].offset_bytes
        flat = np.frombuffer(self._file, "<f4", parameter.size, start)
        whole = flat.reshape(parameter.shape)
        if mask.all():
            pick_segment(whole, segment, into)
            return
        fresh = np.empty_like(into)
        pick_segment(whole, segment, fresh)
        np.copyto(into, fresh, where=mask)


def matched(
    path: Path, tensors: dict[str, Tensor], layout: Layout
) -> dict[int, Tensor]:
    """The tensor of each parameter that begins with one; ``ConfigError`` names the
    first that a model of this layout cannot begin with."""
    head = layout.layers[-1:]
    found = {}
    unknown = dict(tensors)
    for index, parameter in enumerate(layout.parameters):
        tensor, wanted = unknown.pop(parameter.name, None), tensor_shape(parameter)
        if tensor is not None and tensor.shape in (wanted, _without_ones(wanted)):
            found[index] = tensor
        elif parameter.layer not in head:
            has = "is not there" if tensor is None else f"is {tensor.shape}"
            raise _another(path, f"{parameter.name!r} of {wanted} {has}")
    for name in unknown:
        raise _another(path, f"the model has no parameter {name!r}")
    return found


def _without_ones(shape: tuple[int, ...]) -> tuple[int, ...]:
    """A parameter without dimensions has one of 1 in a traced model's layout."""
    return () if shape == (1,) else shape


def _another(path: Path, what: str) -> ConfigError:
    return ConfigError(
        f"the model cannot begin with {path}: {what}",
        hint="the arguments of the model must be those that the file was trained with; "
        "only the last layer may be another",
    )


def read_tensors(path: Path) -> dict[str, Tensor]:
    """All parameters of a checkpoint, without their values.

    ``VerificationError`` if they do not lie in the file, or are not of float32.
    """
    entries, base_bytes = read_entries(path)
    size_bytes = path.stat().st_size
    found = {}
    metadata = entries.get(METADATA)
    beside = names_beside(metadata) if isinstance(metadata, dict) else set()
    for name, entry in entries.items():
        if name != METADATA and name not in beside:
            found[name] = _tensor(path, name, entry, base_bytes, size_bytes)
    return found


def _tensor(
    path: Path, name: str, entry: object, base_bytes: int, size_bytes: int
) -> Tensor:
    fields = entry if isinstance(entry, dict) else {}
    if fields.get("dtype", DTYPE) != DTYPE:
        raise VerificationError(
            f"{path}: {name!r} is {fields['dtype']}, not {DTYPE}",
            hint="save it with values of float32",
        )
    shape, offsets = (_numbers(fields.get(key)) for key in ("shape", "data_offsets"))
    if shape is not None and offsets is not None and len(offsets) == 2:
        start, stop = (base_bytes + offset for offset in offsets)
        if stop <= size_bytes and stop - start == math.prod(shape) * FLOAT_BYTES:
            return Tensor(shape, start)
    raise VerificationError(f"{path} is damaged: nothing is where {name!r} should be")


def _numbers(value: object) -> tuple[int, ...] | None:
    """A list of numbers from 0; None for anything else."""
    if not isinstance(value, list):
        return None
    sound = all(type(each) is int and each >= 0 for each in value)
    return tuple(value) if sound else None


# --- In a store's directory ----------------------------------------------------------


def keep(source: Path, target: Path) -> str:
    """Gives a file a second name, or copies it; the hash of what is there then."""
    try:
        with clear_errors(target):
            target.unlink(missing_ok=True)
            try:
                os.link(source, target)
                sync_directory(target.parent)
            except OSError as error:
                if error.errno not in NO_SECOND_NAME:
                    raise
                copy_file(source, target)
    except FileNotFoundError:
        raise NotFoundError(f"{source}: there is no such file") from None
    return file_hash(target)


def check_kept(path: Path, expected: str) -> None:
    """``VerificationError`` unless the file is there and has this hash.

    Read once in a process: then only looked at, as long as nobody writes to it.
    """
    try:
        found = path.stat()
    except FileNotFoundError:
        raise VerificationError(f"{path} is missing", hint=RESTORE) from None
    if _hash_of(path, found.st_ino, found.st_size, found.st_mtime_ns) != expected:
        raise VerificationError(
            f"{path} is not the checkpoint that the swarm began with", hint=RESTORE
        )


@lru_cache(maxsize=16)
def _hash_of(path: Path, inode: int, size_bytes: int, changed_ns: int) -> str:
    """The hash of a file that has been looked at so."""
    return file_hash(path)
