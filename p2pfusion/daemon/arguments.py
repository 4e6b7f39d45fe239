"""The arguments of local questions, checked."""

from __future__ import annotations

from collections.abc import Mapping

from p2pfusion.errors import ConfigError

MAX_ARGUMENT = 1e15
"""Larger numbers, and what is none, mean nothing to any command."""


def text(arguments: Mapping[str, object], key: str) -> str:
    """A text that is not empty."""
    value = arguments.get(key)
    if not isinstance(value, str) or not value:
        raise ConfigError(f"the argument {key!r} is missing or no text")
    return value


def number(arguments: Mapping[str, object], key: str, default: float) -> float:
    """A number, or ``default`` where none is given."""
    value = arguments.get(key)
    if value is None:
        return default
    real = isinstance(value, int | float) and not isinstance(value, bool)
    if not real or not -MAX_ARGUMENT < value < MAX_ARGUMENT:  # type: ignore[operator]
        raise ConfigError(f"the argument {key!r} is no number")
    return float(value)  # type: ignore[arg-type]
