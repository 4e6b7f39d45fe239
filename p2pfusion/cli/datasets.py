"""What ``--data`` means: the name of a data kind, or a path whose kind shows."""

from __future__ import annotations

import os
from pathlib import Path

from p2pfusion.daemon.config import DataSettings
from p2pfusion.errors import DataError


def named_data(text: str) -> DataSettings:
    """The data that a name or a path on the command line stands for.

    A directory holds the four IDX files, a ``.npz`` file holds arrays. Anything that
    does not look like a path is a kind; the trainer says if it knows none of that name.
    """
    path = Path(text).expanduser()
    if path.is_dir():
        return DataSettings(kind="idx", path=str(path.absolute()))
    if path.suffix == ".npz":
        return DataSettings(kind="npz", path=str(path.absolute()))
    if path.exists() or os.sep in text or path.suffix:
        raise DataError(
            f"{text}: "
            + ("not a data file of a known kind" if path.exists() else "no such file"),
            hint="give a kind (digits, fashion-mnist), a directory with the four IDX "
            "files, or a .npz file",
        )
    return DataSettings(kind=text)
