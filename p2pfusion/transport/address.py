"""Where a plane listens: a host by number or name, and a port."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass

from p2pfusion.errors import ConfigError
from p2pfusion.limits import MAX_ADDRESS_CHARACTERS

_HOST_NAME = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9_.-]*[A-Za-z0-9_.])?")


@dataclass(frozen=True)
class Address:
    """Where a plane of a peer listens; ``ConfigError`` if it cannot be an address."""

    host: str
    port: int

    def __post_init__(self) -> None:
        host_ok = self.is_literal or _HOST_NAME.fullmatch(self.host)
        if not host_ok or len(self.host) > MAX_ADDRESS_CHARACTERS:
            raise _bad_address(self.host)
        if not 0 <= self.port <= 65_535:
            raise _bad_address(f"{self.host}:{self.port}")

    @classmethod
    def parse(cls, text: str) -> Address:
        """``host:port``, ``192.0.2.1:7788`` or ``[::1]:7788``."""
        host, separator, port = text.strip().rpartition(":")
        bracketed = host.startswith("[") and host.endswith("]")
        if not separator or not re.fullmatch(r"[0-9]{1,5}", port):
            raise _bad_address(text)
        if bracketed != (":" in host):
            raise _bad_address(text)
        return cls(host[1:-1] if bracketed else host, int(port))

    @property
    def is_literal(self) -> bool:
        """Whether the host is a number, which needs no look-up."""
        try:
            ipaddress.ip_address(self.host)
        except ValueError:
            return False
        return True

    @property
    def is_ipv6(self) -> bool:
        """Whether the host is an IPv6 number."""
        return ":" in self.host

    def __str__(self) -> str:
        host = f"[{self.host}]" if self.is_ipv6 else self.host
        return f"{host}:{self.port}"


def _bad_address(text: str) -> ConfigError:
    return ConfigError(
        f"{text[:MAX_ADDRESS_CHARACTERS]!r} is not an address",
        hint="write HOST:PORT, as in lab-a.lan:7788, 192.0.2.7:7788 or [::1]:7788",
    )
