"""Large arrays in the memory of earlier ones that nobody looks at any more.

The system clears every page that it gives away, which takes longer than to add a
contribution, and what a round needs is about as large as what the last one needed. So
memory of this kind does not go back to the system: it waits for the next array.
"""

from __future__ import annotations

import weakref
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

Block = NDArray[np.uint8]
Number = TypeVar("Number", bound=np.generic)

LEAST_BYTES = 1 << 20
"""Smaller arrays are left to the usual allocator, which keeps such memory itself."""

MOST_WAITING = 4
"""Blocks that wait for an array: those of two sums, and of two streams that come in."""

MOST_TOO_LARGE = 2
"""An array gets no block that is more than so many times as large."""


class Memory:
    """Blocks that are lent out, and come back when the last view of them is gone."""

    def __init__(self) -> None:
        self._waiting: list[Block] = []

    def empty(self, count: int, dtype: type[Number]) -> NDArray[Number]:
        """An array of one dimension with any values."""
        size_bytes = count * np.dtype(dtype).itemsize
        if size_bytes < LEAST_BYTES:
            return np.empty(count, dtype)
        block = self._block(size_bytes)
        # A view of a view keeps the one below: it is gone when all of them are.
        lent = np.frombuffer(block.data, dtype, count)
        weakref.finalize(lent, self._take_back, block).atexit = False
        return lent

    @property
    def waiting_bytes(self) -> int:
        """How much waits for the next array."""
        return sum(block.nbytes for block in self._waiting)

    def _block(self, size_bytes: int) -> Block:
        """The smallest that suffices."""
        fitting = [
            (block.nbytes, place)
            for place, block in enumerate(self._waiting)
            if size_bytes <= block.nbytes <= MOST_TOO_LARGE * size_bytes
        ]
        if not fitting:
            return np.empty(size_bytes, np.uint8)
        return self._waiting.pop(min(fitting)[1])

    def _take_back(self, block: Block) -> None:
        self._waiting.append(block)
        if len(self._waiting) > MOST_WAITING:
            del self._waiting[0]  # what has waited longest


_MEMORY = Memory()


def zeros(count: int) -> NDArray[np.float64]:
    """Sums of which none has begun."""
    found = _MEMORY.empty(count, np.float64)
    found.fill(0)
    return found


def empty(count: int) -> NDArray[np.float32]:
    """Room for values."""
    return _MEMORY.empty(count, np.float32)
