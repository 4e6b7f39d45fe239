"""A checkpoint's own checksum, inside its header: whether it is what was written.

The header's metadata has a place for it, the first entry. It is the SHA-256 of the
whole file with zeros in that place, so a changed, cut or mixed file is noticed, header
and all. A file of another program has no such place and cannot be checked.
"""

from __future__ import annotations

import hashlib
import json
import os
import struct
from pathlib import Path

from p2pfusion.errors import NotFoundError, VerificationError
from p2pfusion.store.files import open_to_read, write_at

METADATA = "__metadata__"
"""The header's one entry that is no tensor's."""

KEY = "p2pfusion_sha256"
UNKNOWN = "0" * 64

MAX_HEADER_BYTES = 100_000_000
"""The format's own bound."""

BLOCK_BYTES = 1 << 20

_LENGTH = struct.Struct("<Q")
_PLACE = f'"{KEY}":"'.encode()


def seal(file: int, header: bytes) -> None:
    """Put the checksum of a finished file into the place that its header has for it."""
    at = header.index(_PLACE) + len(_PLACE)
    write_at(file, _checksum(file, at).encode(), at)


def verify(path: Path) -> bool:
    """Whether a checkpoint is what was written, and whole."""
    try:
        metadata = read_header(path)
    except VerificationError:
        return False
    with open_to_read(path) as file:
        length = _LENGTH.unpack(os.pread(file, _LENGTH.size, 0))[0]
        found = os.pread(file, length, _LENGTH.size).find(_PLACE)
        if found < 0 or KEY not in metadata:
            return False
        return _checksum(file, _LENGTH.size + found + len(_PLACE)) == metadata[KEY]


def read_header(path: Path) -> dict[str, str]:
    """The texts that were written with the values.

    ``VerificationError`` for what is no safetensors file.
    """
    header, _ = read_entries(path)
    found = header.get(METADATA, {})
    if not isinstance(found, dict):
        raise _damaged(path)
    return {key: value for key, value in found.items() if isinstance(value, str)}


def read_entries(path: Path) -> tuple[dict[str, object], int]:
    """The header, unchecked but for its form, and where the values begin."""
    try:
        with open(path, "rb") as file:
            start = file.read(_LENGTH.size)
            size = _LENGTH.unpack(start)[0] if len(start) == _LENGTH.size else 0
            if not 2 <= size <= MAX_HEADER_BYTES:
                raise _damaged(path)
            header = json.loads(file.read(size))
    except FileNotFoundError:
        raise NotFoundError(
            f"{path}: there is no such file", hint="make one with `p2pfusion export`"
        ) from None
    except (ValueError, RecursionError):
        raise _damaged(path) from None
    if not isinstance(header, dict):
        raise _damaged(path)
    return header, _LENGTH.size + size


def file_hash(path: Path) -> str:
    """SHA-256 of a whole file, in hex: its name where files are known by content."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _checksum(file: int, at: int) -> str:
    """Of a whole file, as if there were zeros in the checksum's place."""
    found = hashlib.sha256(os.pread(file, at, 0))
    found.update(UNKNOWN.encode())
    at += len(UNKNOWN)
    while block := os.pread(file, BLOCK_BYTES, at):
        found.update(block)
        at += len(block)
    return found.hexdigest()


def _damaged(path: Path) -> VerificationError:
    return VerificationError(
        f"{path}: not a safetensors file, or a damaged one",
        hint="export it again with `p2pfusion export`",
    )
