"""Which numbered statements of one origin have been seen.

A bitmap over the newest numbers: bit *i* stands for ``newest - i``. Numbers that lie
behind it count as seen, so memory does not grow and nothing counts twice.
"""

from __future__ import annotations

from p2pfusion.limits import REPLAY_WINDOW


class ReplayWindow:
    """The last ``size`` numbers up to the newest one seen."""

    def __init__(self, size: int = REPLAY_WINDOW) -> None:
        self._size = size
        self._kept = (1 << size) - 1
        self._newest = -1
        self._seen = 0

    def accept(self, sequence: int) -> bool:
        """True the first time for each number; False if seen, negative or too old."""
        ahead = sequence - self._newest
        if ahead > 0:
            # A hostile jump must not make the shift, and so the number, huge.
            shift = min(ahead, self._size)
            self._seen = (self._seen << shift | 1) & self._kept
            self._newest = sequence
            return True
        bit = 1 << -ahead if -ahead < self._size else 0
        if sequence < 0 or not bit or self._seen & bit:
            return False
        self._seen |= bit
        return True
