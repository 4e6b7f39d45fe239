"""Signals that end a daemon: they wake its loop, and say how soon it should end."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from types import FrameType


def catch_signals(stop: Callable[[], None], ask: Callable[[], None]) -> int:
    """SIGINT ends the loop at once, SIGTERM asks it to finish what it is at.

    Both are called in the middle of anything, so they only note what was wanted; the
    descriptor wakes the poller for them.
    """
    reader, writer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    wanted = {signal.SIGINT: stop, signal.SIGTERM: ask}

    def on_signal(number: int, frame: FrameType | None) -> None:
        wanted[signal.Signals(number)]()

    for number in wanted:
        signal.signal(number, on_signal)
    signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    return reader
