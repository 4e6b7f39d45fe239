"""How two peers know each other's passages: by a token that only they can compute.

It follows from their transport keys, which outlast their starts: a peer that can only
dial out must be heard by one that has just started, and knows nothing of it but its
record. As the tokens of sessions it is seen by whoever watches the line; who repeats it
can be in the way, and nothing else, for what goes through a passage is sealed.
"""

from __future__ import annotations

from cryptography.hazmat.primitives.asymmetric.x25519 import (
    X25519PrivateKey,
    X25519PublicKey,
)

from p2pfusion.errors import RemoteProtocolError
from p2pfusion.security.identity import derive
from p2pfusion.security.session import TOKEN_BYTES


def passage_token(secret: bytes, public: bytes) -> bytes:
    """The token of the pair, from the own secret transport key and the other's public
    one. ``RemoteProtocolError`` if that is no key."""
    try:
        own = X25519PrivateKey.from_private_bytes(secret)
        shared = own.exchange(X25519PublicKey.from_public_bytes(public))
    except ValueError:
        raise RemoteProtocolError("a transport key that is none") from None
    return derive(shared, b"p2pfusion passage token/v1")[:TOKEN_BYTES]
