"""Who a peer is: one Ed25519 device key, and the id that follows from it.

A peer id is the first 20 bytes of the hash of the public key in base32, with a check
character after every eight, in six groups of six joined by dashes. That lowercase,
dashed form is the only one in messages, files and tables; people may type any part of
it. Check characters follow Luhn's rule modulo 32, which finds every single wrong
character of a group and nearly every swap of two neighbours.

What is signed begins with a domain, so that a signature made for one purpose says
nothing for another. The protocol sees keys only through ``Signer`` and ``Scheme``.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable
from functools import lru_cache
from typing import Protocol

from cryptography.exceptions import (
    InternalError,
    InvalidSignature,
    UnsupportedAlgorithm,
)
from cryptography.hazmat.primitives.asymmetric.ed25519 import (
    Ed25519PrivateKey,
    Ed25519PublicKey,
)
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from p2pfusion.errors import LocalProtocolError, NotFoundError, VerificationError
from p2pfusion.limits import MAX_ROSTER

KEY_BYTES = 32

ALPHABET = "abcdefghijklmnopqrstuvwxyz234567"
_VALUES = {character: value for value, character in enumerate(ALPHABET)}
_HASH_BYTES = 20
_CHECKED = 8
_ID_CHARACTERS = 36
_SHOWN = 6
_NAMED_AT_MOST = 5


class Signer(Protocol):
    """What the protocol needs of a key."""

    @property
    def public(self) -> bytes:
        """The public key, 32 bytes."""

    @property
    def peer(self) -> str:
        """The id of the peer whose key this is."""

    def sign(self, domain: str, payload: bytes) -> bytes:
        """The signature, 64 bytes."""


class Scheme(Protocol):
    """How statements are checked."""

    def peer_id(self, public: bytes) -> str:
        """The id of the peer with this public key."""

    def verify(
        self, public: bytes, domain: str, payload: bytes, signature: bytes
    ) -> bool:
        """Whether the owner of ``public`` signed this; never raises."""

    def __hash__(self) -> int:
        """What was checked by one scheme is remembered for that scheme."""


class DeviceKey:
    """The key that a peer keeps for life: a ``Signer`` and the root of other keys."""

    def __init__(self, private: Ed25519PrivateKey) -> None:
        self._private = private
        self._public = private.public_key().public_bytes_raw()
        self._peer = peer_id(self._public)

    @classmethod
    def generate(cls) -> DeviceKey:
        """A new key from the system's source of chance."""
        return cls(Ed25519PrivateKey.generate())

    @classmethod
    def from_seed(cls, seed: bytes) -> DeviceKey:
        """The key with this seed of 32 bytes."""
        if len(seed) != KEY_BYTES:
            raise LocalProtocolError(f"a seed has {KEY_BYTES} bytes, not {len(seed)}")
        return cls(Ed25519PrivateKey.from_private_bytes(seed))

    @classmethod
    def from_pem(cls, pem: bytes) -> DeviceKey:
        """The key in a file's content: PKCS8, unencrypted.

        Raises ``VerificationError`` for anything else.
        """
        try:
            private = load_pem_private_key(pem, password=None)
        except (ValueError, TypeError, UnsupportedAlgorithm, InternalError):
            raise VerificationError(
                "this is damaged, or no unencrypted private key in PEM form"
            ) from None
        if not isinstance(private, Ed25519PrivateKey):
            raise VerificationError("the private key is not an Ed25519 key")
        return cls(private)

    def to_pem(self) -> bytes:
        """The key as ``from_pem`` reads it."""
        return self._private.private_bytes(
            Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()
        )

    @property
    def public(self) -> bytes:
        """The public key, 32 bytes."""
        return self._public

    @property
    def peer(self) -> str:
        """The id of the peer whose key this is."""
        return self._peer

    def sign(self, domain: str, payload: bytes) -> bytes:
        """The signature, 64 bytes; the same for the same arguments."""
        return self._private.sign(_signed(domain, payload))

    def derived(self, purpose: str) -> bytes:
        """A secret of 32 bytes that follows from the key, another per purpose."""
        seed = self._private.private_bytes_raw()
        return derive(seed, f"p2pfusion {purpose}".encode())


# Members sign something in every round.
_public_key = lru_cache(maxsize=MAX_ROSTER)(Ed25519PublicKey.from_public_bytes)


class Ed25519Scheme:
    """The ``Scheme`` of ``DeviceKey``."""

    def peer_id(self, public: bytes) -> str:
        """The id of the peer with this public key."""
        return peer_id(public)

    def verify(
        self, public: bytes, domain: str, payload: bytes, signature: bytes
    ) -> bool:
        """Whether the owner of ``public`` signed this; never raises."""
        try:
            _public_key(public).verify(signature, _signed(domain, payload))
        except (InvalidSignature, ValueError):
            return False
        return True


ED25519: Scheme = Ed25519Scheme()


def _signed(domain: str, payload: bytes) -> bytes:
    # Domains are constants of ours. With a zero byte one could be another and the
    # beginning of its payload.
    assert "\0" not in domain
    return b"p2pfusion/" + domain.encode() + b"\0" + payload


def derive(
    secret: bytes, info: bytes, *, salt: bytes = b"", length: int = KEY_BYTES
) -> bytes:
    """HKDF-SHA256: ``length`` bytes that only who knows ``secret`` can compute."""
    return HKDF(SHA256(), length, salt or None, info).derive(secret)


def transport_public(secret: bytes) -> bytes:
    """The Curve25519 public key, 32 bytes, of a secret of 32 bytes."""
    return X25519PrivateKey.from_private_bytes(secret).public_key().public_bytes_raw()


@lru_cache(maxsize=MAX_ROSTER)
def peer_id(public: bytes) -> str:
    """The id of the peer with this public key, in its canonical form."""
    digest = hashlib.sha256(b"p2pfusion peer\0" + public).digest()
    characters = base64.b32encode(digest[:_HASH_BYTES]).decode().lower()
    groups = (characters[i : i + _CHECKED] for i in range(0, len(characters), _CHECKED))
    return _dashed("".join(group + _check_character(group) for group in groups))


def is_peer_id(text: str) -> bool:
    """Whether this is an id in canonical form, with the right check characters."""
    bare = text.replace("-", "")
    return _is_whole(bare) and text == _dashed(bare)


def find_peer(prefix: str, peers: Iterable[str]) -> str:
    """The one of ``peers`` whose id begins so; case, dashes and spaces do not matter.

    Raises ``NotFoundError`` if none does, or several do.
    """
    typed = _bare(prefix)
    found = sorted({peer for peer in peers if typed and _bare(peer).startswith(typed)})
    if len(found) == 1:
        return found[0]
    if found:
        named = ", ".join(found[:_NAMED_AT_MOST])
        more = len(found) - _NAMED_AT_MOST
        raise NotFoundError(
            f"several peers begin with {prefix!r}: {named}"
            + (f" and {more} more" if more > 0 else ""),
            hint="type more of the id",
        )
    if len(typed) == _ID_CHARACTERS and not _is_whole(typed):
        raise NotFoundError(
            f"{prefix!r} is mistyped: its check characters do not fit",
            hint="copy the id again",
        )
    raise NotFoundError(f"no peer's id begins with {prefix!r}")


def _bare(text: str) -> str:
    return "".join(text.split()).replace("-", "").lower()


def _is_whole(bare: str) -> bool:
    """Whether these are an id's characters, and each group's last one checks it."""
    if len(bare) != _ID_CHARACTERS or not _VALUES.keys() >= set(bare):
        return False
    size = _CHECKED + 1
    groups = (bare[i : i + size] for i in range(0, _ID_CHARACTERS, size))
    return all(_check_character(group[:-1]) == group[-1] for group in groups)


def _dashed(bare: str) -> str:
    return "-".join(bare[i : i + _SHOWN] for i in range(0, _ID_CHARACTERS, _SHOWN))


def _check_character(group: str) -> str:
    """Luhn's rule for eight characters: every second value is doubled, digits added."""
    total = 0
    for index, character in enumerate(group):
        value = _VALUES[character] * (1 + index % 2)
        total += value // len(ALPHABET) + value % len(ALPHABET)
    return ALPHABET[-total % len(ALPHABET)]
