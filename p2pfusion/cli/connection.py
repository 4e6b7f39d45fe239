"""Asking the daemon of a home directory something over its local socket.

The one place where the command line meets ``daemon.client``; imported by every command
that talks to a daemon, so it imports the standard library alone.
"""

from __future__ import annotations

import os
import select
import time
from collections.abc import Callable, Mapping

from p2pfusion.cli.output import Data
from p2pfusion.daemon.client import LocalClient
from p2pfusion.daemon.home import Home
from p2pfusion.errors import ConflictError, IncompatibleError, NotRunningError

ANSWER_TIMEOUT_S = 10.0
"""For commands that a living daemon answers at once."""

FOUND_TIMEOUT_S = 120.0
"""Until a founder has a swarm: its trainer starts and describes the model."""

EXIT_POLL_S = 0.05

Listener = Callable[[Mapping[str, object]], None]


def ask(
    home: Home,
    command: str,
    arguments: Mapping[str, object] | None = None,
    *,
    timeout_s: float | None = ANSWER_TIMEOUT_S,
    on_event: Listener | None = None,
) -> Data:
    """The daemon's answer; raises the error that it names, or ``NotRunningError``."""
    answer = LocalClient(home.root).call(
        command,
        timeout_s=timeout_s,
        on_event=on_event,
        **(arguments or {}),  # type: ignore[arg-type]
    )
    if not isinstance(answer, dict):
        raise IncompatibleError(
            f"the daemon answered {command!r} with something else than a table",
            hint="stop it and start it again with this version",
        )
    return answer


def daemon_pid(home: Home) -> int | None:
    """The process id of the daemon that answers in this home; None if none does."""
    try:
        daemon = ask(home, "status").get("daemon")
    except NotRunningError:
        return None
    pid = daemon.get("pid") if isinstance(daemon, dict) else None
    return pid if isinstance(pid, int) else None


def stop_daemon(home: Home, *, timeout_s: float, drain_s: float = 0.0) -> int:
    """Asks the daemon to stop and waits until its process is gone; gives its pid.

    ``drain_s``: how long it may take to finish its round; ``timeout_s`` comes on top.
    """
    pid = daemon_pid(home)
    ask(home, "stop", {"drain_s": drain_s})
    timeout_s += drain_s
    if pid is None:
        raise NotRunningError("the daemon stopped while it was asked")
    if not wait_for_exit(pid, timeout_s=timeout_s):
        raise ConflictError(
            f"the daemon (pid {pid}) was asked to stop and still runs",
            hint=f"look into {home.log}, or end it with `kill {pid}`",
        )
    return pid


def wait_for_exit(pid: int, *, timeout_s: float) -> bool:
    """Whether the process ended within the time."""
    if hasattr(os, "pidfd_open"):
        try:
            handle = os.pidfd_open(pid)
        except ProcessLookupError:
            return True
        try:
            return bool(select.select([handle], [], [], timeout_s)[0])
        finally:
            os.close(handle)
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        if not _lives(pid):
            return True
        time.sleep(EXIT_POLL_S)
    return False


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
