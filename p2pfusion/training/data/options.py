"""The ``[data]`` table of a profile, checked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from p2pfusion.errors import ConfigError
from p2pfusion.training.data.partition import Partition


@dataclass(frozen=True)
class DataOptions:
    """The ``[data]`` table of a profile, checked."""

    kind: str
    path: str | None = None
    partition: Partition | None = None
    validation: float = 0.0
    """Fraction of the peer's own records that is kept for validation, below 1."""
    limit_train: int | None = None
    limit_test: int | None = None
    kept: Path | None = None
    """Where what had to be decoded may stay for the next time."""

    @classmethod
    def from_data(
        cls, data: Mapping[str, object], kept: Path | None = None
    ) -> DataOptions:
        """From plain data; ``ConfigError`` names the key."""
        known = {"kind", "path", "partition", "validation", "limit"}
        if set(data) - known:
            raise ConfigError(f"data.{min(set(data) - known)}: unknown key")
        kind, path, partition = (
            data.get("kind"),
            data.get("path"),
            data.get("partition"),
        )
        if not isinstance(kind, str):
            raise ConfigError("data.kind: missing", hint='for example kind = "digits"')
        if not isinstance(path, str | None):
            raise ConfigError(f"data.path: {path!r} is not a text")
        if not isinstance(partition, Mapping | None):
            raise ConfigError(f"data.partition: {partition!r} is not a table")
        limits = data.get("limit") or {}
        if not isinstance(limits, Mapping) or set(limits) - {"train", "test"}:
            raise ConfigError("data.limit: not a table of train and test")
        return cls(
            kind,
            path,
            Partition.from_data(partition) if partition is not None else None,
            _fraction(data.get("validation")),
            _limit(limits, "train"),
            _limit(limits, "test"),
            kept,
        )


def _fraction(value: object) -> float:
    if value is None:
        return 0.0
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not number or not 0 <= value < 1:  # type: ignore[operator]
        raise ConfigError(f"data.validation: {value!r} is not a fraction in [0, 1)")
    return float(value)  # type: ignore[arg-type]


def _limit(limits: Mapping[str, object], part: str) -> int | None:
    value = limits.get(part)
    if value is None:
        return None
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise ConfigError(
            f"data.limit.{part}: {value!r} is not a positive whole number"
        )
    return value
