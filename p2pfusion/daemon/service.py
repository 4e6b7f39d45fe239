"""What a service manager is told: ready, alive, what is done, and that it ends.

The protocol of systemd's ``sd_notify``: lines of text in a datagram to the socket that
``NOTIFY_SOCKET`` names. With ``WATCHDOG_USEC`` the manager wants a sign of life in so
many microseconds, and kills and starts anew what gives none: a loop that hangs gives
none, because it is the loop that gives it. Without a manager all of this does nothing.
Source: sd_notify(3), sd_watchdog_enabled(3).
"""

from __future__ import annotations

import contextlib
import math
import os
import socket
from collections.abc import Callable, MutableMapping

SOCKET, WATCHDOG, WATCHDOG_PID = "NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"

TOLD_INTERVAL_S = 10.0
"""Between two words about what is done, where no watchdog wants them sooner."""

MAX_STATUS_CHARACTERS = 200


class Service:
    """The service manager that has started this process, if one has."""

    def __init__(self, address: str = "", watchdog_s: float | None = None) -> None:
        """``address``: the manager's socket; "": there is none."""
        self._address = "\0" + address[1:] if address.startswith("@") else address
        # Half of what is allowed, as sd_watchdog_enabled(3) advises.
        limit_s = math.inf if watchdog_s is None else watchdog_s / 2
        self._interval_s = min(TOLD_INTERVAL_S, limit_s)
        self._next_at = math.inf

    @classmethod
    def of(cls, environment: MutableMapping[str, str]) -> Service:
        """As the environment says; it is taken out of it, since it is for no child."""
        address, usec, pid = (
            environment.pop(key, "") for key in (SOCKET, WATCHDOG, WATCHDOG_PID)
        )
        if not address.startswith(("/", "@")):
            return cls()
        is_watched = usec.isdigit() and int(usec) > 0 and pid in ("", str(os.getpid()))
        return cls(address, int(usec) / 1e6 if is_watched else None)

    def ready(self, now: float) -> None:
        """The daemon can be asked; from now on signs of life are due."""
        self._send("READY=1")
        if self._address:
            self._next_at = now

    def check(self, now: float, status: Callable[[], str]) -> None:
        """Gives a sign of life and says what is done, if that is due."""
        if now >= self._next_at:
            self._next_at = now + self._interval_s
            line = " ".join(status().split())[:MAX_STATUS_CHARACTERS]
            self._send("WATCHDOG=1", f"STATUS={line}")

    def deadline(self) -> float:
        """When ``check`` has something to do."""
        return self._next_at

    def stopping(self) -> None:
        """The daemon ends; signs of life are given until it has."""
        self._send("STOPPING=1")

    def _send(self, *lines: str) -> None:
        if not self._address:
            return
        message = "\n".join(lines).encode()
        # A manager that has gone, or is busy, must not stop a peer.
        with (
            contextlib.suppress(OSError),
            socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as channel,
        ):
            channel.sendto(message, socket.MSG_DONTWAIT, self._address)
