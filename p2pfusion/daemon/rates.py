"""Rates as people write them: how many bytes per second a line may carry."""

from __future__ import annotations

import re
from fractions import Fraction

from p2pfusion.daemon.memory import parse_size
from p2pfusion.errors import ConfigError
from p2pfusion.limits import MAX_CAP_BYTES_PER_S, MIN_CAP_BYTES_PER_S

BITS_PER_BYTE = 8

BIT_UNITS = {"": 1, "k": 10**3, "K": 10**3, "M": 10**6, "G": 10**9}
"""Lines are sold in powers of 1000."""

_BITS = re.compile(r"(\d{1,15})(?:\.(\d{1,3}))? ?([kKMG]?)bit", re.ASCII)


def parse_rate(value: object, where: str) -> float:
    """Bytes per second of ``250000``, ``"2 MB/s"`` or ``"10 Mbit/s"``.

    Bytes have units as sizes have, powers of 1024; bits have powers of 1000.
    ``ConfigError`` begins with ``where``.
    """
    rate = _bytes_per_s(value)
    if rate is None:
        raise ConfigError(
            f"{where} is {value!r}: it must be bytes per second",
            hint='for example 250000, "2 MB/s" or "10 Mbit/s"',
        )
    if not MIN_CAP_BYTES_PER_S <= rate <= MAX_CAP_BYTES_PER_S:
        raise ConfigError(
            f"{where} is {value!r}: it must be from {MIN_CAP_BYTES_PER_S} to "
            f"{MAX_CAP_BYTES_PER_S} bytes per second",
            hint="leave it out for no limit",
        )
    return rate


def _bytes_per_s(value: object) -> float | None:
    if isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, str) or not value.endswith("/s"):
        return None
    amount = value.removesuffix("/s")
    bits = _BITS.fullmatch(amount)
    if bits is not None:
        number = Fraction(f"{bits[1]}.{bits[2] or 0}") * BIT_UNITS[bits[3]]
        return float(number / BITS_PER_BYTE)
    size = parse_size(amount.replace("k", "K"))
    return None if size is None else float(size)
