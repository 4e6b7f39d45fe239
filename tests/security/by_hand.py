"""Second versions of what the package leaves to libraries: slow, and by the book."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterator

ALPHABET = "abcdefghijklmnopqrstuvwxyz234567"


def hkdf(secret: bytes, info: bytes, salt: bytes = b"", length: int = 32) -> bytes:
    """RFC 5869 with SHA-256, for at most one block."""
    assert length <= 32
    extracted = hmac.digest(salt, secret, "sha256")
    return hmac.digest(extracted, info + b"\x01", "sha256")[:length]


def base32(data: bytes) -> str:
    """Digits of one large number to the base 32; the length is a multiple of five."""
    assert len(data) % 5 == 0
    number = int.from_bytes(data, "big")
    digits = []
    for _ in range(len(data) * 8 // 5):
        number, digit = divmod(number, 32)
        digits.append(ALPHABET[digit])
    return "".join(reversed(digits))


def luhn_fits(group: str) -> bool:
    """Luhn's rule: from the right, every second value doubled, all digits summed."""
    total = 0
    for place, character in enumerate(reversed(group)):
        value = ALPHABET.index(character)
        high, low = divmod(2 * value if place % 2 else value, 32)
        total += high + low
    return total % 32 == 0


def peer_id(public: bytes) -> str:
    """A peer id, its check characters found by trying them all."""
    characters = base32(hashlib.sha256(b"p2pfusion peer\0" + public).digest()[:20])
    checked = ""
    for start in range(0, 32, 8):
        group = characters[start : start + 8]
        (check,) = (c for c in ALPHABET if luhn_fits(group + c))
        checked += group + check
    return "-".join(checked[start : start + 6] for start in range(0, 36, 6))


def flipped_bits(data: bytes) -> Iterator[bytes]:
    """The data with one bit wrong, for every bit."""
    for place in range(8 * len(data)):
        wrong = bytearray(data)
        wrong[place // 8] ^= 1 << place % 8
        yield bytes(wrong)
