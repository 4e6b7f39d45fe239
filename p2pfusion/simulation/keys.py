"""Keys that are names: identities for swarms that only exist in memory.

The same rules as with real keys, for a thousandth of the cost, and ids that can be
read: ``p0`` signs for ``p0``. Nothing here is secret: whoever knows a public key can
sign for it, so a simulation must not have forgers among its peers.
"""

from __future__ import annotations

import hashlib
from functools import lru_cache

KEY_BYTES = 32

REMEMBERED = 4096
"""Signatures: what one has signed many others check soon afterwards. And names."""


class NamedKey:
    """The signing key of a name of up to 32 bytes."""

    def __init__(self, peer: str) -> None:
        self.peer = peer
        self.public = peer.encode().ljust(KEY_BYTES, b"\0")

    def sign(self, domain: str, payload: bytes) -> bytes:
        """64 bytes that follow from the key, the domain and the payload."""
        return _signature(self.public, domain, payload)


class Names:
    """Checks what ``NamedKey`` signs."""

    @staticmethod
    @lru_cache(maxsize=REMEMBERED)
    def peer_id(public: bytes) -> str:
        """The name itself; of bytes that are no name, their hex digits."""
        name = public.rstrip(b"\0").decode(errors="replace")
        return name if name.isprintable() and name else public.hex()

    def verify(
        self, public: bytes, domain: str, payload: bytes, signature: bytes
    ) -> bool:
        """Whether this key signed this payload in this domain."""
        return signature == _signature(public, domain, payload)


NAMES = Names()


@lru_cache(maxsize=REMEMBERED)
def _signature(public: bytes, domain: str, payload: bytes) -> bytes:
    return hashlib.sha512(public + domain.encode() + payload).digest()


def founder(name: str) -> str:
    """A founder's public key, as manifests name it."""
    return NamedKey(name).public.hex()
