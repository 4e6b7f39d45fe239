"""Arrays that stay in their file: large ones are mapped into memory, not read.

The system then brings in the pages that a batch needs and drops them again, so a set
may be larger than memory. Small arrays are read: a copy is safe from whoever cuts the
file short meanwhile, and zip's checksum is only looked at when all is read.
"""

from __future__ import annotations

import mmap
import struct
import warnings
import zipfile
from pathlib import Path
from typing import BinaryIO

import numpy as np
import torch
from torch import Tensor

MAPPED_FROM_BYTES = 16 << 20
"""Arrays from this size on are mapped: smaller ones cost nobody anything."""

_LOCAL_HEADER = struct.Struct("<4s22xHH")
"""Of a zip member: its mark, and the lengths of its name and its extra field."""


def is_mapped(array: np.ndarray) -> bool:
    """Whether the values lie in a file, also those of a view or of another shape."""
    base: object = array
    while isinstance(base, np.ndarray):
        if isinstance(base, np.memmap):
            return True
        base = base.base
    return isinstance(base, mmap.mmap)


def map_array(
    path: Path, shape: tuple[int, ...], dtype: np.dtype, offset_bytes: int
) -> np.ndarray | None:
    """The array at this place of a file, read-only; None if it is small or cut short.

    Not copy on write: the system refuses such maps where they exceed its memory.
    """
    size = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
    if size < MAPPED_FROM_BYTES or path.stat().st_size < offset_bytes + size:
        return None
    return np.memmap(path, dtype, mode="r", offset=offset_bytes, shape=shape)


def as_tensor(array: np.ndarray) -> Tensor:
    """The array as a tensor that shares its memory. Nobody may write to a mapped one:
    torch, which does not know of read-only tensors, warns of it for that reason."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The given NumPy array is not writable")
        return torch.from_numpy(array)


def map_npy(path: Path, offset_bytes: int = 0) -> np.ndarray | None:
    """The array of a ``.npy`` file, or of one inside another file from there on.

    None where it has to be read in the ordinary way, which also finds what is wrong.
    """
    with path.open("rb") as file:
        file.seek(offset_bytes)
        header = _npy_header(file)
        if header is None:
            return None
        shape, fortran, dtype = header
        start = file.tell()
    if fortran or dtype.hasobject or dtype.kind not in "uif":
        return None
    return map_array(path, shape, dtype, start)


def map_npz_member(path: Path, name: str) -> np.ndarray | None:
    """An array that was stored without compression in a ``.npz`` file; None if not."""
    with zipfile.ZipFile(path) as archive:
        try:
            member = archive.getinfo(f"{name}.npy")
        except KeyError:
            return None
    if member.compress_type != zipfile.ZIP_STORED or member.flag_bits & 1:
        return None
    with path.open("rb") as file:
        file.seek(member.header_offset)
        head = file.read(_LOCAL_HEADER.size)
    if len(head) < _LOCAL_HEADER.size:
        return None
    mark, name_bytes, extra_bytes = _LOCAL_HEADER.unpack(head)
    if mark != b"PK\x03\x04":
        return None
    start = member.header_offset + _LOCAL_HEADER.size + name_bytes + extra_bytes
    return map_npy(path, start)


def _npy_header(file: BinaryIO) -> tuple[tuple[int, ...], bool, np.dtype] | None:
    readers = {
        (1, 0): np.lib.format.read_array_header_1_0,
        (2, 0): np.lib.format.read_array_header_2_0,
    }
    try:
        version = np.lib.format.read_magic(file)
        found: tuple[tuple[int, ...], bool, np.dtype] = readers[version](file)
    except (ValueError, KeyError):
        return None
    return found
