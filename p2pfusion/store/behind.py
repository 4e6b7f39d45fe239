"""Work on disk that nobody waits for: one thing at a time, in a thread of its own.

Syncing takes milliseconds in which a processor has nothing to do, and what is in the
journal already can be synced to its place while the next round is trained. Whoever
begins something more waits for the last; what went wrong is told then.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

Work = Callable[[], None]


class Behind:
    """At most one piece of work under way."""

    def __init__(self) -> None:
        self._thread: threading.Thread | None = None
        self._error: BaseException | None = None

    @property
    def is_busy(self) -> bool:
        """Whether there is something to wait for."""
        return self._thread is not None or self._error is not None

    def begin(self, work: Work) -> None:
        """Does it beside everything else, after what is under way; see ``wait``."""
        self.wait()
        # Not a daemon thread: what ends the process waits for it.
        self._thread = threading.Thread(target=self._run, args=(work,))
        self._thread.start()

    def join(self) -> None:
        """Returns when nothing is under way."""
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    def wait(self) -> None:
        """As ``join``; raises what went wrong, once."""
        self.join()
        error, self._error = self._error, None
        if error is not None:
            raise error

    def look(self) -> None:
        """As ``wait``, if it takes no time; else nothing."""
        if self._thread is not None and not self._thread.is_alive():
            self.wait()

    def _run(self, work: Work) -> None:
        try:
            work()
        except BaseException as error:
            self._error = error
