"""Addresses as people write them. Standard library: every command may import this."""

from __future__ import annotations

import ipaddress
import socket

from p2pfusion.errors import ConfigError
from p2pfusion.limits import MAX_ADDRESS_CHARACTERS

LARGEST_PORT = 65_535


def parse_address(text: str, where: str) -> tuple[str, int]:
    """Host and port of ``host:port``; brackets around an IPv6 host are removed.

    Raises ``ConfigError``, which begins with ``where``.
    """
    host, _, port = text.rpartition(":")
    bracketed = host.startswith("[") and host.endswith("]")
    bare = host[1:-1] if bracketed else host
    good = bool(bare) and bare.isprintable() and not any(c.isspace() for c in bare)
    good = good and (":" in bare) == bracketed and len(text) <= MAX_ADDRESS_CHARACTERS
    digits = port.isascii() and port.isdigit() and len(port) <= 5
    if not good or not digits or int(port) > LARGEST_PORT:
        raise ConfigError(
            f"{where} is {text!r}: it must be host:port",
            hint="for example 127.0.0.1:7788 or [::1]:7788",
        )
    return bare, int(port)


def is_loopback(host: str) -> bool:
    """Whether it is this machine, whichever that is."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def is_here(host: str) -> bool:
    """Whether it is an address of this machine; a name is not looked up, and is not."""
    try:
        version = ipaddress.ip_address(host).version
    except ValueError:
        return host == "localhost"
    family = socket.AF_INET if version == 4 else socket.AF_INET6
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        try:
            probe.bind((host, 0))
        except OSError:
            return False
    return True
