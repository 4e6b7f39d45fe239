"""Masks that cancel in a sum: streams of numbers from seeds that pairs of peers share.

After Bonawitz et al., Practical Secure Aggregation (CCS 2017), Sec. 4. A *seed* of 32
bytes is good for one group of ranges, at one reducer, in one round, and every other use
has a seed of its own (HKDF). Its numbers are the key stream of AES-256 in counter mode,
as 32-bit integers; sums are modulo 2**32. Who knows a seed's *fingerprint* can compare
it and learns nothing else of it.
"""

from __future__ import annotations

import hashlib

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES256
from cryptography.hazmat.primitives.ciphers.modes import CTR
from numpy.typing import NDArray

from p2pfusion.security.identity import derive

Ring = NDArray[np.uint32]

PIECE = bytes(1 << 18)
"""The zeros that are encrypted at a time: the key stream stays in the cache."""


def mask_seed(secret: bytes, purpose: str, context: bytes, number: int) -> bytes:
    """The seed that follows from a secret for one purpose, in a context, by number."""
    info = f"p2pfusion {purpose} mask/v1 {number}\0".encode() + context
    return derive(secret, info)


def fingerprint(seed: bytes) -> bytes:
    """32 bytes by which a seed can be compared."""
    return hashlib.sha256(b"p2pfusion mask fingerprint\0" + seed).digest()


def add_mask(values: Ring, seed: bytes, *, sign: int = 1) -> None:
    """Adds the numbers of a seed, or with ``sign`` -1 takes them away, in place."""
    stream = Cipher(AES256(seed), CTR(bytes(16))).encryptor()
    step = len(PIECE) // values.itemsize
    operation = np.add if sign > 0 else np.subtract
    for start in range(0, values.size, step):
        place = values[start : start + step]
        numbers = np.frombuffer(stream.update(PIECE[: place.nbytes]), "<u4")
        operation(place, numbers, out=place)
