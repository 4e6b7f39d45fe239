"""An experiment's specification as plain fields, taken out with a check."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from p2pfusion.errors import ConfigError

Fields = Mapping[str, object]


def check_keys(
    fields: Fields, *, needed: Collection[str], known: Collection[str]
) -> None:
    """``ConfigError`` names a key that is missing, or one that nobody knows."""
    for key in needed:
        if key not in fields:
            raise ConfigError(f"the experiment lacks the key {key!r}")
    unknown = sorted(set(fields) - {*needed, *known})
    if unknown:
        raise ConfigError(f"unknown key {unknown[0]!r} of the experiment")


def real(fields: Fields, key: str) -> float:
    """A number."""
    value = fields[key]
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise ConfigError(f"key {key!r} of the experiment must be a number")
    return float(value)


def table(fields: Fields, key: str) -> dict[str, object]:
    """A table; an empty one if there is none."""
    value = fields.get(key) or {}
    if not isinstance(value, Mapping):
        raise ConfigError(f"key {key!r} of the experiment must be a table")
    return dict(value)


def whole(fields: Fields, key: str) -> int:
    """A positive whole number."""
    value = fields[key]
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise ConfigError(f"key {key!r} of the experiment must be a whole number > 0")
    return value
