"""What is owed on a disk that is full.

Run by ``test_owed.py`` on a small file system: the directory is the argument.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from p2pfusion.split.layout import Axis, Dimension, Initial, Layout, ParameterSpec
from p2pfusion.split.segment import Split
from p2pfusion.store import Owed
from tests.small_disk import fill

ROWS = 1 << 14
LAYOUT = Layout(
    (Axis("h", ROWS),),
    (ParameterSpec("w", (Dimension(ROWS, "h"),), Initial("ones")),),
)


def main(directory: Path) -> None:
    """Written with room, and without; then with room again."""
    (segment,) = Split.full(LAYOUT).segments(LAYOUT)
    values = np.ones(ROWS, np.float32)
    filler = fill(directory)
    owed = Owed(directory / "owed", LAYOUT)
    owed.write((segment,), values)
    assert not owed.read(segment).any()
    filler.unlink()
    owed.write((segment,), values)
    assert owed.read(segment).all()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
