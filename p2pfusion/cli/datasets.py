"""What ``--data`` means: the name of a data kind, a path whose kind shows, or a profile
that says it."""

from __future__ import annotations

import os
from pathlib import Path

from p2pfusion.daemon.config import DataSettings, load_profile
from p2pfusion.errors import DataError

ENDINGS = {".npz": "npz", ".txt": "text", ".tsv": "tsv", ".csv": "csv"}
"""File names that show their kind, also before ``.gz``, which numpy's have not."""

PROFILE = ".toml"

INSIDE = (
    ("*-idx?-ubyte*", "idx"),
    ("*_batch*.bin*", "cifar"),
    ("images.npy", "npz"),
    ("train.tsv*", "tsv"),
    ("train.csv*", "csv"),
    *((f"*/**/*.{ending}", "image-folder") for ending in ("png", "jp*g", "JP*G")),
    ("*.txt*", "text"),
)
"""What a directory holds, by the first pattern that one of its files has."""


def named_data(text: str) -> DataSettings:
    """The data that a name or a path on the command line stands for.

    Anything that does not look like a path is a kind; the trainer says if it knows none
    of that name.
    """
    path = Path(text).expanduser()
    if ":" in text and not path.exists():
        return DataSettings(kind=text)  # a function of one's own
    if path.is_dir():
        found = [kind for pattern, kind in INSIDE if any(path.glob(pattern))]
        return DataSettings(
            kind=found[0] if found else "idx", path=str(path.absolute())
        )
    if path.suffix == PROFILE and path.exists():
        stated = load_profile(path.absolute()).data
        return DataSettings(kind=stated.kind, path=stated.path)  # all of it
    kind = ENDINGS.get(Path(path.name.removesuffix(".gz")).suffix)
    if kind is not None and path.exists():
        return DataSettings(kind=kind, path=str(path.absolute()))
    if path.exists() or os.sep in text or path.suffix:
        raise DataError(
            f"{text}: "
            + ("not a data file of a known kind" if path.exists() else "no such file"),
            hint="give a kind (digits, wikitext-2), a directory with the files of one "
            f"kind, or a file that ends in {', '.join((*ENDINGS, PROFILE))}",
        )
    return DataSettings(kind=text)
