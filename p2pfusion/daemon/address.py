"""Addresses as people write them. Standard library: every command may import this."""

from __future__ import annotations

import errno
import ipaddress
import socket
from collections.abc import Iterator
from contextlib import contextmanager

from p2pfusion.errors import ConfigError, ConflictError
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


def write_address(host: str, port: int) -> str:
    """As ``parse_address`` reads it."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


@contextmanager
def listening(option: str, host: str, port: int, *, example: str) -> Iterator[None]:
    """Around what begins to listen for an option: ``ConflictError`` if the port is
    taken, ``ConfigError`` for an address that is not this machine's."""
    try:
        yield
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise ConflictError(
                f"{option}: {host}:{port} is in use", hint="choose another port"
            ) from None
        raise ConfigError(
            f"{option}: cannot listen on {host}:{port}: {error.strerror or error}",
            hint=f"name an address of this machine: {example}",
        ) from None


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
