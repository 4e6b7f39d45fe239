"""Options of objectives, taken out of plain data with a check."""

from __future__ import annotations

from collections.abc import Mapping

from p2pfusion.errors import ConfigError


def number(
    options: Mapping[str, object], key: str, least: float, most: float, default: float
) -> float:
    """A number within bounds; ``ConfigError`` names the key."""
    value = options.get(key, default)
    real = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not real or not least <= value <= most:  # type: ignore[operator]
        raise ConfigError(
            f"objective.{key}: {value!r} is not a number from {least:g} to {most:g}"
        )
    return float(value)  # type: ignore[arg-type]


def count(
    options: Mapping[str, object], key: str, most: int, default: int, *, least: int = 1
) -> int:
    """A whole number within bounds; ``ConfigError`` names the key."""
    value = options.get(key, default)
    whole = isinstance(value, int) and not isinstance(value, bool)
    if not whole or not least <= value <= most:  # type: ignore[operator]
        raise ConfigError(
            f"objective.{key}: {value!r} is not a whole number from {least} to {most}"
        )
    return int(value)  # type: ignore[call-overload, no-any-return]


def truth(options: Mapping[str, object], key: str, default: bool) -> bool:
    """True or false; ``ConfigError`` names the key."""
    value = options.get(key, default)
    if not isinstance(value, bool):
        raise ConfigError(f"objective.{key}: {value!r} is not true or false")
    return value
