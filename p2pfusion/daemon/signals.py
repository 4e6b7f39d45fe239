"""Signals that end a daemon, from the first moment of its start on.

Python's own way, an exception in the middle of anything, would leave half a start
behind, and is lost if it meets a callback of the interpreter. So a signal is only noted
at first. Where READY would be said, the start looks: a daemon that was told to end
before never says READY. After that a signal wakes the loop, and says how soon it should
end.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from types import FrameType

ENDING = (signal.SIGINT, signal.SIGTERM)


class EndingSignals:
    """SIGINT and SIGTERM of this process, from now on."""

    def __init__(self) -> None:
        self.descriptor, writer = os.pipe()
        """Readable when a signal has come: it wakes a poller."""
        for end in (self.descriptor, writer):
            os.set_blocking(end, False)
        self.have_come = False
        self._wanted: dict[int, Callable[[], None]] = {}
        for number in ENDING:
            signal.signal(number, self._on_signal)
        signal.set_wakeup_fd(writer, warn_on_full_buffer=False)

    def lead_to(self, *, stop: Callable[[], None], ask: Callable[[], None]) -> None:
        """SIGINT ends the loop at once, SIGTERM asks it to finish what it is at.

        Both are called in the middle of anything, so they only note what was wanted.
        """
        self._wanted = {signal.SIGINT: stop, signal.SIGTERM: ask}

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        is_again, self.have_come = self.have_come, True
        if number in self._wanted:
            self._wanted[number]()
        elif is_again:
            raise KeyboardInterrupt  # whoever insists does not wait for the start
