"""Where the benchmark sets lie: below the directory that ``P2PFUSION_DATA`` names."""

from __future__ import annotations

import os
from pathlib import Path

from p2pfusion.errors import ConfigError, DataError

DATA_VARIABLE = "P2PFUSION_DATA"


def benchmark_directory(name: str, instead: str, *, folder: str | None = None) -> Path:
    """The directory of a benchmark set; ``instead`` says what else can be done."""
    folder = folder or name
    root = os.environ.get(DATA_VARIABLE, "")
    directory = Path(root) / folder
    if not root or not directory.is_dir():
        raise DataError(
            f"{name}: {directory} is not a directory"
            if root
            else f"{name}: {DATA_VARIABLE} is not set",
            hint=f"set {DATA_VARIABLE} to the directory that holds {folder}/, or "
            f"{instead}",
        )
    return directory


def needed(path: str | None, kind: str, what: str) -> Path:
    """The path of a kind that has no place of its own."""
    if not path:
        raise ConfigError(f"data.path: kind {kind!r} needs a path", hint=f"give {what}")
    return Path(path)
