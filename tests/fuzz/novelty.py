"""Whether an input has reached lines that none before it has: then it is worth keeping.

A function is followed line by line until it has been called some times without anything
new in it; then following it is given up, so that what is fed a million times is hardly
slower for it.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import CodeType, FrameType
from typing import TypeVar

import p2pfusion

PACKAGE = str(Path(p2pfusion.__file__).parent)

MOST_STALE_CALLS = 2_000
"""Calls of one function in a row that reach nothing new, before it is left alone."""

Result = TypeVar("Result")


class Novelty:
    """The lines that have ever been reached."""

    def __init__(self) -> None:
        self._seen: set[tuple[CodeType, int]] = set()
        self._stale: Counter[CodeType] = Counter()
        self._is_new = False

    def __len__(self) -> int:
        return len(self._seen)

    def follow(self, call: Callable[[], Result]) -> tuple[Result, bool]:
        """What the call gives, and whether it has reached something new."""
        self._is_new = False
        before = sys.gettrace()
        sys.settrace(self._called)
        try:
            result = call()
        finally:
            sys.settrace(before)
        return result, self._is_new

    def _called(self, frame: FrameType, event: str, _: object):  # type: ignore[no-untyped-def]
        code = frame.f_code
        if not code.co_filename.startswith(PACKAGE):
            return None
        if self._stale[code] > MOST_STALE_CALLS:
            return None
        self._stale[code] += 1
        return self._line

    def _line(self, frame: FrameType, event: str, _: object):  # type: ignore[no-untyped-def]
        if event == "line":
            reached = frame.f_code, frame.f_lineno
            if reached not in self._seen:
                self._seen.add(reached)
                self._stale[frame.f_code] = 0
                self._is_new = True
        return self._line
