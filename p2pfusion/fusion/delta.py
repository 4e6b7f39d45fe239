"""Shares of peers' changes, added to the values from which these were trained.

``new = old + sum of share * change``, per element, for what reached it; nothing is
divided. As in Co-S2P (arXiv 2410.08457): ``W(t+1) = W(t) + sum of gamma * delta``.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from p2pfusion.fusion.sums import LARGEST, Floats, Partial, StreamingSum


class DeltaSum(StreamingSum):
    """Sums of changes while open; after ``close`` the new values, in float32.

    A range without old values has no new ones, whatever changes came (``absent``). One
    with old values and without changes keeps them.
    """

    def __init__(self, range_sizes: ArrayLike) -> None:
        super().__init__(range_sizes)
        self._begun = np.zeros(len(self._sizes), np.bool_)

    def begin(self, positions: NDArray[np.int64], old: Floats) -> None:
        """Before ``close``, once: the old values of some ranges, one after the other;
        to these the changes are added."""
        start = 0
        for first, last in self.spans(positions):
            self.accumulate(first, old[start : start + last - first])
            start += last - first
        self._begun[positions] = True

    @property
    def absent(self) -> NDArray[np.bool_]:
        """Per range: whether its old values are not known, and so the new ones not."""
        return ~(self._begun | self._kept)

    def _allows(self, weight: float) -> bool:
        return weight >= 0

    def _finish(
        self, sums: NDArray[np.float64], start: int, partial: Partial
    ) -> NDArray[np.float64]:
        # Peers' changes may be of any size, but what is passed on must be finite.
        return np.clip(sums, -LARGEST, LARGEST, sums)
