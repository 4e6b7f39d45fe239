"""What a field of a message or statement may be, checked once where bytes come in.

A check takes whatever msgpack made of the bytes and returns the value, or raises
``RemoteProtocolError``. ``unpack`` turns any bytes into plain values or that error.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from operator import call
from typing import Any

import msgpack

from p2pfusion.errors import RemoteProtocolError
from p2pfusion.limits import MAX_AMOUNT, MAX_ROSTER

Check = Callable[[Any], Any]

MAX_INTEGER = 2**63 - 1


def bad(what: str) -> RemoteProtocolError:
    """The error for bytes that are no message."""
    return RemoteProtocolError(f"malformed message: {what}", offence="bytes")


def unpack(packed: bytes | memoryview) -> list[Any]:
    """The list in these bytes; ``RemoteProtocolError``, and no other, without one."""
    try:
        # No message has a map, or a longer list. A list takes its memory when its head
        # is read: without a bound a frame of nested heads takes a thousand times its
        # own length.
        parts = msgpack.unpackb(packed, max_array_len=MAX_ROSTER, max_map_len=0)
    except Exception:  # msgpack documents no closed list of what hostile bytes raise
        raise bad("not msgpack") from None
    if type(parts) is not list:
        raise bad("not a list")
    return parts


PACKER = msgpack.Packer()
"""One for all: it packs without a break, and making it costs more than its work."""


def pack(values: Sequence[object]) -> bytes:
    """The bytes of a list of plain values."""
    packed: bytes = PACKER.pack(values)
    return packed


def checked(checks: Sequence[Check], values: Sequence[Any]) -> list[Any]:
    """Every value as its check returns it."""
    if len(values) != len(checks):
        raise bad("wrong number of fields")
    return list(map(call, checks, values))


def whole(low: int = 0, high: int = MAX_INTEGER) -> Check:
    """An integer from ``low`` to ``high``."""

    def check(value: Any) -> int:
        if type(value) is not int or not low <= value <= high:
            raise bad("an integer out of its bounds")
        return value

    return check


def yes_or_no(value: Any) -> bool:
    """True or false."""
    if type(value) is not bool:
        raise bad("neither true nor false")
    return value


def real(value: Any) -> float:
    """A finite number."""
    if type(value) is not float or not math.isfinite(value):
        raise bad("a number that is not finite")
    return value


def amount(value: Any) -> float:
    """A sum of magnitudes."""
    found = real(value)
    if not 0.0 <= found <= MAX_AMOUNT:
        raise bad("an amount out of its bounds")
    return found


def text(most: int, *, least: int = 0) -> Check:
    """Printable text of ``least`` to ``most`` characters."""

    def check(value: Any) -> str:
        if type(value) is not str or not least <= len(value) <= most:
            raise bad("a text of wrong length")
        if not value.isprintable():
            raise bad("a text with control characters")
        return value

    return check


def raw(most: int, *, least: int = 0) -> Check:
    """``least`` to ``most`` bytes."""

    def check(value: Any) -> bytes:
        if type(value) is not bytes or not least <= len(value) <= most:
            raise bad("bytes of wrong length")
        return value

    return check


def pieces(length: int, most: int) -> Check:
    """Bytes that are up to ``most`` values of so many bytes each."""

    def check(value: Any) -> bytes:
        if type(value) is not bytes or len(value) % length:
            raise bad("bytes of wrong length")
        if len(value) > most * length:
            raise bad("too many values in one")
        return value

    return check


def raw_or_nothing(length: int) -> Check:
    """So many bytes, or none."""

    def check(value: Any) -> bytes:
        if type(value) is not bytes or len(value) not in (0, length):
            raise bad("bytes of wrong length")
        return value

    return check


def one_of(allowed: frozenset[str]) -> Check:
    """One of the words."""

    def check(value: Any) -> str:
        if type(value) is not str or value not in allowed:
            raise bad("an unknown word")
        return value

    return check


def many(check_one: Check, most: int) -> Check:
    """A list of up to ``most`` values, as a tuple."""

    def check(value: Any) -> tuple[Any, ...]:
        if type(value) is not list or len(value) > most:
            raise bad("a list of wrong length")
        return tuple(check_one(item) for item in value)

    return check


def group(kind: Callable[..., Any], *checks: Check) -> Check:
    """A list of fields, as ``kind`` is made of them."""

    def check(value: Any) -> Any:
        if type(value) is not list:
            raise bad("no list where one belongs")
        return kind(*checked(checks, value))

    return check


def optional(check_one: Check) -> Check:
    """A value, or nothing."""

    def check(value: Any) -> Any:
        return None if value is None else check_one(value)

    return check
