"""File formats: bytes on disk to numpy arrays, with errors that name file and place.

Nothing here knows a data set. Files are somebody else's: a header may claim any size, a
compressed file may unpack to any length, and a numpy file may hold pickled objects. So
every read is bounded by what the header announced and by ``MAX_DATA_BYTES``, and pickle
is never allowed. Large arrays that lie in a file as they are get mapped, not read.
"""

from __future__ import annotations

import csv
import gzip
import io
import lzma
import struct
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO, TypeVar

import numpy as np

from p2pfusion.errors import DataError
from p2pfusion.training.data.mapping import map_array, map_npy, map_npz_member

MAX_DATA_BYTES = 8 << 30
"""One decoded array: what an ordinary machine can hold, far above every set in use."""

Result = TypeVar("Result")

_READ_BYTES = 1 << 20
_BROKEN = (OSError, EOFError, zlib.error, lzma.LZMAError, zipfile.BadZipFile)
_IDX_BYTE = 0x08


def read_idx(path: Path) -> np.ndarray:
    """The bytes of an IDX file (the MNIST family's format), plain or ``.gz``."""
    return _guarded(path, lambda: _read_idx(path))


def read_npz(path: Path, names: tuple[str, ...]) -> dict[str, np.ndarray]:
    """Those of the named arrays that a ``.npz`` file holds, or ``.npy`` files of these
    names in a directory."""
    return _guarded(path, lambda: _read_npz(path, names))


def read_csv(path: Path) -> np.ndarray:
    """Whole numbers (records, columns) from a gzip-compressed file without header."""
    return _guarded(path, lambda: _read_csv(path))


def read_text(path: Path) -> str:
    """A UTF-8 text, plain or ``.gz``."""
    content = read_content(path)
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise DataError(
            f"{path}: line {line}, byte {error.start}: not UTF-8",
            hint='save it as UTF-8, or read it byte by byte: level = "byte"',
        ) from None


def read_content(path: Path) -> bytes | bytearray:
    """All bytes of a file, unpacked if it ends in ``.gz``."""
    return _guarded(path, lambda: _read_content(path))


def read_table(path: Path) -> list[list[str]]:
    """The rows of a ``.csv`` file, or of a ``.tsv`` file, which has no quotes.

    Perhaps ``.gz``. Every row has as many fields as the first.
    """
    text = read_text(path)
    if ".tsv" in path.suffixes:
        lines = text.removesuffix("\n").split("\n")
        rows = [line.removesuffix("\r").split("\t") for line in lines]
    else:
        try:
            rows = [row for row in csv.reader(io.StringIO(text, newline="")) if row]
        except csv.Error as error:
            raise DataError(f"{path}: cannot be read: {error}") from None
    for number, row in enumerate(rows):
        if len(row) != len(rows[0]):
            raise DataError(
                f"{path}: record {number - 1} has {len(row)} fields, the header has "
                f"{len(rows[0])}"
            )
    return rows


def _guarded(path: Path, read: Callable[[], Result]) -> Result:
    try:
        return read()
    except FileNotFoundError:
        raise DataError(
            f"{path}: no such file", hint="check the path under [data] in the profile"
        ) from None
    except _BROKEN as error:
        raise DataError(
            f"{path}: cannot be read: {error or type(error).__name__}",
            hint="the file is damaged or of another format; fetch it again",
        ) from None


def _open(path: Path) -> BinaryIO:
    if path.suffix == ".gz":
        return gzip.open(path, "rb")  # type: ignore[return-value]
    return path.open("rb")


def _read_idx(path: Path) -> np.ndarray:
    with _open(path) as file:
        shape = _idx_header(file, path)
        if path.suffix != ".gz":
            mapped = map_array(path, shape, np.dtype(np.uint8), file.tell())
            if mapped is not None and path.stat().st_size == file.tell() + mapped.size:
                return mapped
        expected = _count(shape, path)
        content = _read_at_most(file, expected + 1)
    record_bytes = max(1, expected // max(1, shape[0]))
    if len(content) < expected:
        raise DataError(
            f"{path}: ends inside record {len(content) // record_bytes} of {shape[0]}: "
            f"{len(content)} bytes follow the header, which announces {expected}",
            hint="the download was cut short; fetch the file again",
        )
    if len(content) > expected:
        raise DataError(
            f"{path}: goes on after its last record, {shape[0] - 1}: the header "
            f"announces {expected} bytes",
        )
    return np.frombuffer(content, np.uint8).reshape(shape)


def _read_content(path: Path) -> bytes | bytearray:
    with _open(path) as file:
        content = _read_at_most(file, MAX_DATA_BYTES + 1)
    if len(content) > MAX_DATA_BYTES:
        raise DataError(
            f"{path}: more than the {MAX_DATA_BYTES} bytes that this version reads"
        )
    return content


def _idx_header(file: BinaryIO, path: Path) -> tuple[int, ...]:
    magic = file.read(4)
    if len(magic) < 4 or magic[:2] != b"\0\0" or magic[2] != _IDX_BYTE:
        raise DataError(
            f"{path}: offset 0: {magic.hex() or 'nothing'} is not the beginning of an "
            "IDX file of bytes (0000 08 and the number of dimensions)",
        )
    if not 1 <= magic[3] <= 4:
        raise DataError(f"{path}: offset 3: {magic[3]} dimensions")
    sizes = file.read(4 * magic[3])
    if len(sizes) < 4 * magic[3]:
        raise DataError(f"{path}: offset {4 + len(sizes)}: the header is cut short")
    return struct.unpack(f">{magic[3]}I", sizes)


def _count(shape: tuple[int, ...], path: Path) -> int:
    count = 1
    for size in shape:
        count *= size
    if count > MAX_DATA_BYTES:
        raise DataError(
            f"{path}: offset 4: the header announces {shape} = {count} bytes, more "
            f"than the {MAX_DATA_BYTES} that this version reads"
        )
    return count


def _read_at_most(file: BinaryIO, limit: int) -> bytearray:
    """Grows with what is really there: a header alone reserves no memory."""
    content = bytearray()
    while len(content) < limit:
        part = file.read(min(_READ_BYTES, limit - len(content)))
        if not part:
            break
        content += part
    return content


def _read_npz(path: Path, names: tuple[str, ...]) -> dict[str, np.ndarray]:
    if path.is_dir():
        return _read_npy_files(path, names)
    with zipfile.ZipFile(path) as archive:
        for member in archive.infolist():
            stored = member.compress_type == zipfile.ZIP_STORED
            if member.file_size > MAX_DATA_BYTES and not stored:
                raise DataError(
                    f"{path}: {member.filename} unpacks to {member.file_size} bytes, "
                    f"more than the {MAX_DATA_BYTES} that this version reads"
                )
    found: dict[str, np.ndarray] = {}
    with np.load(path, allow_pickle=False) as arrays:
        for name in names:
            if name in arrays.files:
                mapped = map_npz_member(path, name)
                found[name] = _member(arrays, name, path) if mapped is None else mapped
    return found


def _read_npy_files(directory: Path, names: tuple[str, ...]) -> dict[str, np.ndarray]:
    found: dict[str, np.ndarray] = {}
    for name in names:
        path = directory / f"{name}.npy"
        if not path.is_file():
            continue
        mapped = map_npy(path)
        try:
            array = np.load(path, allow_pickle=False) if mapped is None else mapped
        except (ValueError, EOFError) as error:
            raise DataError(f"{path}: cannot be read: {error}") from None
        found[name] = array
    return found


def _member(arrays: np.lib.npyio.NpzFile, name: str, path: Path) -> np.ndarray:
    try:
        array = arrays[name]
    except ValueError as error:
        raise DataError(
            f"{path}: array {name!r} cannot be read: {error}",
            hint="save plain number arrays with numpy.savez; objects are never loaded",
        ) from None
    if not isinstance(array, np.ndarray):
        raise DataError(f"{path}: member {name!r} is not an array")
    return array


def _read_csv(path: Path) -> np.ndarray:
    rows: list[list[int]] = []
    with gzip.open(path, "rt", encoding="ascii") as file:
        for record, line in enumerate(file):
            try:
                rows.append([int(field) for field in line.split(",")])
            except ValueError:
                raise DataError(
                    f"{path}: record {record} is not a row of whole numbers"
                ) from None
            if len(rows[-1]) != len(rows[0]):
                raise DataError(
                    f"{path}: record {record} has {len(rows[-1])} fields, the first "
                    f"has {len(rows[0])}"
                )
    return np.array(rows, dtype=np.int64)
