"""One request to the trainer process, and the line that says why it failed."""

from __future__ import annotations

import json
import sys
import traceback
from collections.abc import Mapping

import torch

from p2pfusion.errors import ConfigError, OutOfMemoryError, P2PFusionError

Fields = dict[str, object]

MAX_NUMBER = 1e30
"""Fits a float32 with room to spare; torch refuses factors that do not."""

_MEMORY_TEXTS = (
    "not enough memory",
    "can't allocate memory",
    "out of memory",
    "STATUS_ALLOC_FAILED",
    "Invalid buffer size",
)
"""Of the processor, of CUDA and MPS, of CUDA's libraries, and of MPS for one tensor
that is larger than any may be."""

_OF_CARDS = ("CUDA", "CUBLAS", "CUDNN", "MPS", "Invalid buffer size")


def parse(line: bytes | str, what: str = "trainer request") -> Fields:
    """The fields of a line; ``ConfigError`` if it is not a JSON object."""
    try:
        fields = json.loads(line)
    except ValueError as error:
        raise ConfigError(f"{what}: not JSON: {error}") from None
    if not isinstance(fields, dict):
        raise ConfigError(f"{what}: not a JSON object")
    return fields


class Request:
    """One request's fields, taken out with a check of their kind."""

    def __init__(self, fields: Mapping[str, object]) -> None:
        self.fields = fields

    def text(self, key: str) -> str:
        """A text."""
        value = self.fields.get(key)
        if not isinstance(value, str):
            raise ConfigError(f"trainer request: {key} is {value!r}, not a text")
        return value

    def texts(self, key: str) -> list[str]:
        """A list of texts; a missing one is empty."""
        value = self.fields.get(key, [])
        if not isinstance(value, list) or not all(isinstance(v, str) for v in value):
            raise ConfigError(f"trainer request: {key} is {value!r}, not texts")
        return value

    def whole(self, key: str, least: int = 0) -> int:
        """A whole number."""
        value = self.fields.get(key)
        if not isinstance(value, int) or isinstance(value, bool) or value < least:
            raise ConfigError(
                f"trainer request: {key} is {value!r}, not a whole number >= {least}"
            )
        return value

    def number(self, key: str) -> float:
        """A number from 0 to ``MAX_NUMBER``."""
        value = self.fields.get(key)
        real = isinstance(value, (int, float)) and not isinstance(value, bool)
        if not real or not 0 <= value <= MAX_NUMBER:  # type: ignore[operator]
            raise ConfigError(
                f"trainer request: {key} is {value!r}, not from 0 to {MAX_NUMBER}"
            )
        return float(value)  # type: ignore[arg-type]

    def flag(self, key: str) -> bool:
        """True or false; a missing one is false."""
        value = self.fields.get(key, False)
        if not isinstance(value, bool):
            raise ConfigError(f"trainer request: {key} is {value!r}, not a truth value")
        return value

    def table(self, key: str) -> Mapping[str, object]:
        """A table; a missing one is empty."""
        value = self.fields.get(key, {})
        if not isinstance(value, Mapping):
            raise ConfigError(f"trainer request: {key} is {value!r}, not a table")
        return value


def failure(do: str, error: Exception) -> Fields:
    """The line for an error; a bug's traceback goes to stderr."""
    told = known(error)
    if told is None:
        traceback.print_exception(error, file=sys.stderr)
        told = P2PFusionError(f"{type(error).__name__}: {error}")
        told.name = "internal"
    details = {"name": told.name, "message": told.message, "hint": told.hint}
    return {"failed": do, "error": details}


def known(error: Exception) -> P2PFusionError | None:
    """The error that a user can act on, or None for a bug of ours."""
    if isinstance(error, P2PFusionError):
        return error
    text = str(error)
    memory = isinstance(error, (MemoryError, torch.OutOfMemoryError)) or (
        isinstance(error, RuntimeError) and any(t in text for t in _MEMORY_TEXTS)
    )
    if memory:
        where = " of the graphics card" if any(c in text for c in _OF_CARDS) else ""
        return OutOfMemoryError(
            f"the trainer ran out of memory{where}",
            hint="lower the split fraction or the batch size",
        )
    return None
