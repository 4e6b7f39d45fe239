"""Data sets: the table of loaders, and one peer's share of one of them.

``DATASETS`` maps a data kind to its loader. An installed package adds kinds through the
entry-point group ``p2pfusion.data``; its loader is imported only when it is named.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import entry_points

from p2pfusion.errors import ConfigError
from p2pfusion.training.data.examples import Examples
from p2pfusion.training.data.images import Loader, digits, fashion_mnist, idx, npz
from p2pfusion.training.data.partition import (
    Partition,
    limited,
    share,
    validation_records,
)

__all__ = ["DATASETS", "DataOptions", "Examples", "Partition", "load", "own_records"]

ENTRY_POINTS = "p2pfusion.data"

DATASETS: dict[str, Loader] = {
    "digits": digits,
    "fashion-mnist": fashion_mnist,
    "idx": idx,
    "npz": npz,
}


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

    @classmethod
    def from_data(cls, data: Mapping[str, object]) -> DataOptions:
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
            raise ConfigError("data.kind: missing", hint=_kinds_hint())
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


def _kinds_hint() -> str:
    return f"known kinds: {', '.join(DATASETS)}"


def loader(kind: str) -> Loader:
    """The loader of that kind; ``ConfigError`` if there is none."""
    if kind in DATASETS:
        return DATASETS[kind]
    for entry in entry_points(group=ENTRY_POINTS, name=kind):
        found: Loader = entry.load()
        return found
    raise ConfigError(f"data.kind: {kind!r} is unknown", hint=_kinds_hint())


def load(options: DataOptions, part: str) -> Examples | None:
    """The ``train`` or ``test`` part, limited; None if there is no test part."""
    found = loader(options.kind)(options.path, part)
    limit = options.limit_train if part == "train" else options.limit_test
    if found is None or limit is None or limit >= len(found):
        return found
    return found.select(limited(len(found), limit))


def own_records(
    records: Examples, options: DataOptions, seed: int
) -> tuple[Examples, Examples | None]:
    """One peer's training examples and its validation examples (None without any)."""
    index = 0
    if options.partition is not None:
        index = options.partition.index
        records = records.select(share(records.labels.numpy(), options.partition, seed))
    held = validation_records(len(records), options.validation, seed, index)
    if not held.any():
        return records, None
    return records.select((~held).nonzero()[0]), records.select(held.nonzero()[0])
