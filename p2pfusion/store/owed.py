"""What earlier contributions have lost on their way, to be added to later ones.

Forms of few bits round, or leave out, what a peer contributes. What is lost that way is
kept here, value by value, and added to what the peer contributes of the same entry
next: error feedback (Seide et al., Interspeech 2014; Karimireddy et al.,
arXiv 1901.09847). Nothing is lost for good then, it only comes later: where windows
move, when the peer trains the entry again.

One sparse file of float32 values per parameter, made when something is lost of it, as
large as what this peer has ever trained. The daemon writes; the trainer reads. It is
neither journalled nor durable: a crash leaves of each value what was owed before or
after, and a file that is damaged, or does not fit on the disk, is dropped. Both cost a
rounding, never more.
"""

from __future__ import annotations

import math
import os
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from p2pfusion.errors import ResourceError
from p2pfusion.split.layout import Layout
from p2pfusion.split.segment import Segment
from p2pfusion.store.files import FLOAT_BYTES, Floats, clear_errors
from p2pfusion.store.rectangles import cut, fetch, put


class Owed:
    """One peer's book of what it has lost."""

    def __init__(self, path: Path, layout: Layout) -> None:
        """``path``: a directory of its own, made when it is needed."""
        self._path = path
        self._layout = layout

    def read(self, segment: Segment) -> Floats:
        """What is owed of a segment; 0 where nothing is known."""
        values = np.zeros(segment.shape, np.float32)
        shape = self._layout.parameters[segment.parameter].shape
        file = self._open(segment.parameter, os.O_RDONLY)
        if file is not None:
            try:
                fetch(file, shape, segment.sets, values)
            finally:
                os.close(file)
        # Nobody checks what a disk gives back, and one infinity would never go again.
        return np.nan_to_num(values, copy=False, nan=0.0, posinf=0.0, neginf=0.0)

    def write(self, segments: Sequence[Segment], values: Floats) -> None:
        """From now on this is owed of segments, in place of what was before."""
        try:
            with clear_errors(self._path):
                self._path.mkdir(parents=True, exist_ok=True)
                for parameter, parts in cut(segments, values).items():
                    file = self._open(parameter, os.O_RDWR | os.O_CREAT)
                    assert file is not None, "it was created"
                    try:
                        shape = self._layout.parameters[parameter].shape
                        put(file, 0, shape, parts)
                    finally:
                        os.close(file)
        except ResourceError:
            shutil.rmtree(self._path, ignore_errors=True)

    def settle(self, segments: Sequence[Segment]) -> None:
        """Nothing is owed of segments any more: they were taken without a loss."""
        kept = [s for s in segments if self._file(s.parameter).exists()]
        self.write(kept, np.zeros(sum(segment.size for segment in kept), np.float32))

    def _file(self, parameter: int) -> Path:
        return self._path / f"owed-{parameter:05}.f32"

    def _open(self, parameter: int, flags: int) -> int | None:
        """The open file of a parameter, as long as it; None where there is none."""
        size_bytes = math.prod(self._layout.parameters[parameter].shape) * FLOAT_BYTES
        try:
            file = os.open(self._file(parameter), flags, 0o600)
        except FileNotFoundError:
            return None
        if os.fstat(file).st_size == size_bytes:
            return file
        if flags & os.O_CREAT:
            os.ftruncate(file, 0)
            os.ftruncate(file, size_bytes)
            return file
        os.close(file)
        return None
