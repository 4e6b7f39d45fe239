"""Work on disk that nobody waits for: one thing at a time, in a thread of its own.

Syncing takes milliseconds in which a processor has nothing to do, and what is in the
journal already can be synced to its place while the next round is trained. Whoever
begins something more waits for the last; what went wrong is told then.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent import futures
from concurrent.futures import Future, ThreadPoolExecutor

Work = Callable[[], None]


class Behind:
    """At most one piece of work under way."""

    def __init__(self) -> None:
        # One thread for all that ever comes: to start one is something to wait for.
        # What ends the process waits for what is under way.
        self._thread = ThreadPoolExecutor(max_workers=1)
        self._work: Future[None] | None = None

    @property
    def is_busy(self) -> bool:
        """Whether there is something to wait for."""
        return self._work is not None

    def begin(self, work: Work) -> None:
        """Does it beside everything else, after what is under way; see ``wait``."""
        self.wait()
        self._work = self._thread.submit(work)

    def join(self) -> None:
        """Returns when nothing is under way; what went wrong is still to be raised."""
        if self._work is not None:
            futures.wait([self._work])

    def wait(self) -> None:
        """As ``join``; raises what went wrong, once."""
        work, self._work = self._work, None
        if work is not None:
            work.result()

    def look(self) -> None:
        """As ``wait``, if it takes no time; else nothing."""
        if self._work is not None and self._work.done():
            self.wait()
