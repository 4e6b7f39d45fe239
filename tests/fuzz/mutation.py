"""Small damage to bytes and to plain values, by a seeded generator."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

Plain = object

HEADS = bytes(
    # msgpack: nil, booleans, binary, extensions, floats, integers, texts, lists, maps
    [0xC0, 0xC2, 0xC4, 0xC6, 0xC7, 0xC9, 0xCB, 0xCF, 0xD3, 0xD6, 0xDB, 0xDC, 0xDD, 0xDF]
)
BYTES = bytes([0, 1, 0x7F, 0x80, 0x8F, 0x90, 0x9F, 0xA0, 0xFF]) + HEADS
NESTED = b"\xdd\x00\x00\xff\xff"

INTEGERS = (-1, 0, 1, 2, 31, 32, 2**31, 2**32, 2**62, 2**63 - 1, 2**63, 2**64 - 1)
REALS = (0.0, -0.0, 1.0, -1.0, 1e308, 5e-324, float("nan"), float("inf"))
TEXTS = ("", "x", "x" * 64, "x" * 65, "x" * 600, "漢" * 64, "\n", "\x00", "1/2", "0/0")
BLOBS = (b"", b"\0", bytes(16), bytes(31), bytes(32), bytes(33), bytes(64), bytes(3000))


def damaged(rng: random.Random, data: bytes, others: Sequence[bytes]) -> bytes:
    """The bytes after one to four accidents; ``others`` lend pieces of theirs."""
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        data = rng.choice(ACCIDENTS)(rng, data, others)
    return data


def _flip(rng: random.Random, data: bytes, others: Sequence[bytes]) -> bytes:
    if not data:
        return b"\xff"
    at = rng.randrange(len(data))
    return data[:at] + bytes([data[at] ^ 1 << rng.randrange(8)]) + data[at + 1 :]


def _overwrite(rng: random.Random, data: bytes, others: Sequence[bytes]) -> bytes:
    at = rng.randrange(len(data) + 1)
    return data[:at] + bytes([rng.choice(BYTES)]) + data[at + 1 :]


def _insert(rng: random.Random, data: bytes, others: Sequence[bytes]) -> bytes:
    at = rng.randrange(len(data) + 1)
    return data[:at] + rng.randbytes(rng.choice((1, 2, 5, 40))) + data[at:]


def _delete(rng: random.Random, data: bytes, others: Sequence[bytes]) -> bytes:
    start, stop = _slice(rng, data)
    return data[:start] + data[stop:]


def _repeat(rng: random.Random, data: bytes, others: Sequence[bytes]) -> bytes:
    start, stop = _slice(rng, data)
    return data[:stop] + data[start:stop] * rng.choice((1, 1, 9)) + data[stop:]


def _cut(rng: random.Random, data: bytes, others: Sequence[bytes]) -> bytes:
    return data[: rng.randrange(len(data) + 1)]


def _splice(rng: random.Random, data: bytes, others: Sequence[bytes]) -> bytes:
    other = rng.choice(others) if others else data
    first, last = rng.randrange(len(data) + 1), rng.randrange(len(other) + 1)
    return data[:first] + other[last:]


def _length(rng: random.Random, data: bytes, others: Sequence[bytes]) -> bytes:
    """A number where a length may be."""
    at = rng.randrange(len(data) + 1)
    claimed = rng.choice((0, 1, 255, 256, 65_535, 65_536, 2**31, 2**32 - 1))
    return data[:at] + claimed.to_bytes(4, "big") + data[at + 4 :]


def _nest(rng: random.Random, data: bytes, others: Sequence[bytes]) -> bytes:
    at = rng.randrange(len(data) + 1)
    head = rng.choice((NESTED, b"\x91", b"\x81\xa0", b"\xdc\xff\xff"))
    return data[:at] + head * rng.choice((1, 3, 30, 700)) + data[at:]


def _slice(rng: random.Random, data: bytes) -> tuple[int, int]:
    start = rng.randrange(len(data) + 1)
    return start, min(len(data), start + rng.choice((1, 2, 4, 8, 33, 200)))


ACCIDENTS: tuple[Callable[[random.Random, bytes, Sequence[bytes]], bytes], ...] = (
    *(_flip, _flip, _flip, _overwrite, _overwrite, _insert, _delete),
    *(_repeat, _cut, _splice, _length, _nest),
)


def changed(rng: random.Random, value: Plain) -> Plain:
    """The value with one thing in it replaced, left out, doubled or exchanged."""
    if isinstance(value, list) and value and rng.random() < 0.85:
        return _changed_list(rng, value)
    if isinstance(value, dict) and value and rng.random() < 0.85:
        key = rng.choice(sorted(value))
        return {**value, key: changed(rng, value[key])}
    return replaced(rng, value)


def _changed_list(rng: random.Random, value: list[Plain]) -> list[Plain]:
    at = rng.randrange(len(value))
    what = rng.random()
    if what < 0.8:
        return [*value[:at], changed(rng, value[at]), *value[at + 1 :]]
    if what < 0.87:
        return [*value[:at], *value[at + 1 :]]
    if what < 0.94:
        return [*value[:at], *[value[at]] * rng.choice((2, 2, 40)), *value[at + 1 :]]
    other = rng.randrange(len(value))
    swapped = list(value)
    swapped[at], swapped[other] = swapped[other], swapped[at]
    return swapped


def replaced(rng: random.Random, value: Plain) -> Plain:
    """Another value, mostly of the same type and near its bounds."""
    what = rng.random()
    if what < 0.25:
        kinds = (INTEGERS, REALS, TEXTS, BLOBS, (None, True, False, [], {}, [[]]))
        return rng.choice(rng.choice(kinds))
    if type(value) is int:
        near = value + rng.choice((-1, 1, 1))
        return near if what < 0.5 else rng.choice(INTEGERS)
    if type(value) is float:
        return rng.choice(REALS)
    if type(value) is str:
        return value[:-1] if what < 0.4 else rng.choice(TEXTS)
    if type(value) is bytes:
        if what < 0.6 and value:
            return _flip(rng, value, ())
        return value[:-1] if what < 0.8 else rng.choice(BLOBS)
    return rng.choice((None, 0, "", b"", []))
