"""Labels made wrong, on purpose: what a hostile peer of an experiment trains on."""

from __future__ import annotations

from p2pfusion.errors import ConfigError
from p2pfusion.training.data.records import Records


def flip_labels(records: Records, classes: int) -> None:
    """Of so many classes the last becomes the first, and so on, in place."""
    if records.labels is None:
        raise ConfigError("running text has no labels that could be flipped")
    records.labels.copy_(classes - 1 - records.labels)
