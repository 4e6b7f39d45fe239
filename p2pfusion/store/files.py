"""How this package touches files: nothing by halves, and clear errors.

Nothing appears under its final name before it is complete; a full disk is a
``DiskFullError``, too many open files another ``ResourceError``; a file of another size
than expected is damaged.
"""

from __future__ import annotations

import errno
import mmap
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from p2pfusion.errors import DiskFullError, ResourceError, VerificationError

Floats = NDArray[np.float32]

FLOAT_BYTES = 4

PIECES_AT_ONCE = 1024
"""The system takes no more of them in one call."""

RESTORE = "remove its directory: the peer fetches what it needs from the swarm again"

DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
OUT_OF_RESOURCES = (errno.EMFILE, errno.ENFILE, errno.ENOMEM)


def map_floats(path: Path, count: int) -> Floats:
    """A file of exactly ``count`` float32 values, mapped read-only."""
    # The size is checked first: reading a map beyond the end of its file is fatal.
    check_size(path, count)
    if not count:
        return np.empty(0, np.float32)
    with open(path, "rb") as file:
        mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    return np.frombuffer(mapped, "<f4")


def check_size(path: Path, element_count: int) -> None:
    """``VerificationError`` unless a file has exactly so many four-byte elements."""
    try:
        size_bytes = path.stat().st_size
    except FileNotFoundError:
        raise VerificationError(f"{path} is missing", hint=RESTORE) from None
    if size_bytes != element_count * FLOAT_BYTES:
        raise VerificationError(
            f"{path} has {size_bytes} bytes and should have "
            f"{element_count * FLOAT_BYTES}",
            hint=RESTORE,
        )


class _Clearing:
    """Classes, since a round opens a file dozens of times, and a generator for each
    costs more than opening it."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        if isinstance(error, OSError):
            _raise_clear(error, self._path)


class _Clear(_Clearing):
    def __enter__(self) -> None:
        pass


class _Lent(_Clearing):
    def __init__(self, path: Path, file: int) -> None:
        super().__init__(path)
        self._file = file

    def __enter__(self) -> int:
        return self._file


class _Open(_Clearing):
    def __init__(self, path: Path, flags: int) -> None:
        super().__init__(path)
        self._flags = flags

    def __enter__(self) -> int:
        with _Clear(self._path):
            self._file = os.open(self._path, self._flags | os.O_CLOEXEC)
        return self._file

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        os.close(self._file)
        super().__exit__(kind, error, trace)


def clear_errors(path: Path) -> AbstractContextManager[None]:
    """Turn a full disk, or too many open files, into a ``ResourceError``."""
    return _Clear(path)


def _raise_clear(error: OSError, path: Path) -> None:
    text = f"cannot write {path}: {error.strerror}"
    if error.errno in DISK_FULL:
        hint = "free some disk space, or move the peer's home to a larger disk"
        raise DiskFullError(text, hint=hint) from error
    if error.errno in OUT_OF_RESOURCES:
        hint = "close other programs, or raise the system's limits"
        raise ResourceError(text, hint=hint) from error


def lent(path: Path, file: int) -> AbstractContextManager[int]:
    """An open file, which stays open; errors are clear as in ``open_to_write``."""
    return _Lent(path, file)


def open_to_read(path: Path) -> AbstractContextManager[int]:
    """An existing file, open for reading."""
    return _Open(path, os.O_RDONLY)


def open_to_write(path: Path) -> AbstractContextManager[int]:
    """An existing file, open for reading and writing in place."""
    return _Open(path, os.O_RDWR)


@contextmanager
def new_file(path: Path, *, durable: bool) -> Iterator[int]:
    """A file that appears under ``path`` complete, when the block ends, or not at all.

    ``durable``: it must also survive a power failure from then on.
    """
    # One temporary name per file: what a crash leaves behind, the next try overwrites.
    temporary = path.with_name(f".{path.name}.part")
    flags = os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC
    with clear_errors(path):
        file = os.open(temporary, flags, 0o644)
        try:
            yield file
            if durable:
                os.fsync(file)
            os.replace(temporary, path)
        except BaseException:
            with suppress(FileNotFoundError):
                os.unlink(temporary)
            raise
        finally:
            os.close(file)
        if durable:
            sync_directory(path.parent)


def copy_file(source: Path, target: Path) -> None:
    """A durable copy, which is there complete or not at all."""
    with (
        open(source, "rb") as read,
        new_file(target, durable=True) as file,
        open(file, "wb", closefd=False) as written,
    ):
        shutil.copyfileobj(read, written)


def sync_directory(directory: Path) -> None:
    """Make the names in a directory survive a power failure."""
    file = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(file)
    finally:
        os.close(file)


def write_at(file: int, data: bytes | memoryview, offset_bytes: int) -> None:
    """Write all of ``data`` at an offset; ``OSError`` if the disk is full."""
    written = os.pwrite(file, data, offset_bytes)
    while written < len(data):
        written += os.pwrite(file, data[written:], offset_bytes + written)


def write_pieces(
    file: int, pieces: Sequence[bytes | memoryview], offset_bytes: int
) -> None:
    """Write pieces one after the other at an offset; ``OSError`` as for one."""
    for first in range(0, len(pieces), PIECES_AT_ONCE):
        some = pieces[first : first + PIECES_AT_ONCE]
        size = sum(map(len, some))
        written = os.pwritev(file, some, offset_bytes)
        if written < size:
            # As on a disk that is nearly full: the rest is tried, or refused.
            write_at(file, b"".join(some)[written:], offset_bytes + written)
        offset_bytes += size


def raw_bytes(array: NDArray[np.generic]) -> memoryview:
    """The bytes of a contiguous array, not copied."""
    return array.reshape(-1).view(np.uint8).data
