"""Whether an address can be reached from this machine, step by step, with advice.

A plain TCP connection, closed at once: it says where the way ends (no such name, no
route, nobody listens, a firewall that swallows), not who is there.
"""

from __future__ import annotations

import errno
import socket
from dataclasses import dataclass

from p2pfusion.daemon.address import write_address

CONNECT_TIMEOUT_S = 3.0
"""Several times what a handshake around the world takes."""

REFUSED = "see whether its daemon runs, and listens at this address and port"
SWALLOWED = "a firewall or a wrong address: see that both its ports are let through"
NO_ROUTE = "see that both machines are in one network, or a VPN between them is up"


@dataclass(frozen=True)
class Reached:
    """How far the way to an address leads."""

    step: str
    """``resolve``, ``connect`` or ``relay``, where it ends; ``connected`` if it does
    not."""
    text: str
    hint: str = ""

    @property
    def is_good(self) -> bool:
        """Whether somebody listens there."""
        return self.step == "connected"


def reach(host: str, port: int, timeout_s: float = CONNECT_TIMEOUT_S) -> Reached:
    """Resolves the host and connects to the port."""
    where = write_address(host, port)
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        why = getattr(error, "strerror", None) or str(error)
        hint = "check the name, or advertise an address: --advertise HOST:PORT there"
        return Reached("resolve", f"the name {host!r} does not resolve: {why}", hint)
    failed = Reached("connect", f"{where}: no address")
    for family, kind, protocol, _, place in found:
        with socket.socket(family, kind, protocol) as channel:
            channel.settimeout(timeout_s)
            try:
                channel.connect(place)
                return Reached("connected", f"{where}: somebody listens")
            except OSError as error:
                failed = _failed(where, error, timeout_s)
    return failed


def _failed(where: str, error: OSError, timeout_s: float) -> Reached:
    if isinstance(error, TimeoutError):
        text = f"{where}: no answer within {timeout_s:g} s"
        return Reached("connect", text, SWALLOWED)
    if error.errno == errno.ECONNREFUSED:
        return Reached("connect", f"{where}: nobody listens there", REFUSED)
    text = f"{where}: {error.strerror or error}"
    return Reached("connect", text, NO_ROUTE)
