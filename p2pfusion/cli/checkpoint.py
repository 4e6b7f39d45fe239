"""The header of an exported checkpoint: which model it is, from which swarm and round.

A safetensors file begins with the length of its header and the header itself, in JSON;
reading that needs neither numpy nor the values.
"""

from __future__ import annotations

import json
import struct
from pathlib import Path

from p2pfusion.errors import NotFoundError, VerificationError

MAX_HEADER_BYTES = 100_000_000
"""The format's own bound."""

_LENGTH = struct.Struct("<Q")


def read_metadata(path: Path) -> dict[str, str]:
    """The texts that were written into the file with the values."""
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
    found = header.get("__metadata__", {}) if isinstance(header, dict) else None
    if not isinstance(found, dict):
        raise _damaged(path)
    return {key: value for key, value in found.items() if isinstance(value, str)}


def _damaged(path: Path) -> VerificationError:
    return VerificationError(
        f"{path}: not a safetensors file, or a damaged one",
        hint="export it again with `p2pfusion export`",
    )
