"""Addresses as people write them. Standard library: every command may import this."""

from __future__ import annotations

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
