"""Values as they travel: bytes of the forms of ``split/forms.py``, little-endian.

A number that is not finite never leaves this peer and never enters it: our own is a
bug, another's is a broken rule. What a form cannot express is rounded to the nearest,
half to even, or clipped to its largest number, because one infinity would poison every
mean it enters. Equal values give equal bytes, on every machine.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from p2pfusion.errors import LocalProtocolError, RemoteProtocolError
from p2pfusion.fusion import few_bits
from p2pfusion.split.forms import (
    BFLOAT16,
    FLOAT16,
    FLOAT32,
    INT8,
    TOP_K,
    Form,
)

Floats = NDArray[np.float32]
Bytes = NDArray[np.uint8]
Buffer = bytes | bytearray | memoryview

LARGEST_FLOAT16 = 65504.0
LARGEST_BFLOAT16 = float(np.uint32(0x7F7F0000).view(np.float32))

PIECE_ELEMENTS = 1 << 15
"""Values that are converted at a time: the scratch stays in the cache."""

HALVES = np.arange(1 << 16, dtype=np.uint16).view(np.float16).astype(np.float32)
"""The value of every float16, by its bits: to look it up is three times as fast as
numpy's conversion."""


@dataclass(frozen=True)
class _Coder:
    """How one form is written and read."""

    form: Form
    write: Callable[[Floats], NDArray[np.generic]]
    """The bytes of finite values, in an array of any type."""
    read: Callable[[Bytes, Floats], None]
    """The values of bytes, as many as fit into what is given."""
    is_finite: Callable[[Bytes], bool]
    """Whether bytes stand for finite numbers only."""


def encode(values: Floats, form_name: str) -> memoryview:
    """The bytes of values; for contiguous float32 on most machines their own memory."""
    coder = _coder(form_name)
    if not np.isfinite(values).all():
        raise LocalProtocolError("a value to be sent is not a finite number")
    flat = np.ascontiguousarray(values, np.float32).reshape(-1)
    return coder.write(flat).view(np.uint8).data


def decode(
    buffer: Buffer,
    form_name: str,
    out: Floats | None = None,
    *,
    is_checked: bool = False,
) -> Floats:
    """The values in received bytes: in ``out``, or without a copy where type and
    alignment allow, or in new memory.

    ``out`` may leave out values at the end of the last block. ``RemoteProtocolError``
    for a length that is none of the form, and for values that are not finite, unless
    ``check`` has looked at these bytes already.
    """
    coder = _coder(form_name)
    raw = np.frombuffer(buffer, np.uint8)
    if raw.size != coder.form.bytes_of(coder.form.most_in(raw.size)):
        text = f"{raw.size} bytes are no whole {form_name} values"
        raise RemoteProtocolError(text, offence="stream")
    if not is_checked:
        check(buffer, form_name)
    if out is None and coder.form is FLOAT32 and raw.view("<f4").flags.aligned:
        return raw.view("<f4").astype(np.float32, copy=False)
    values = out
    if values is None:
        values = np.empty(coder.form.most_in(raw.size), np.float32)
    coder.read(raw, values)
    return values


def check(buffer: Buffer, form_name: str) -> None:
    """``RemoteProtocolError`` unless whole blocks of a stream stand for finite numbers;
    none of these is computed."""
    if not _coder(form_name).is_finite(np.frombuffer(buffer, np.uint8)):
        text = "a received value is not a finite number"
        raise RemoteProtocolError(text, offence="values")


def check_cut(form: Form, *, offset: int, size: int, total: int) -> None:
    """``RemoteProtocolError`` unless a piece of a stream of ``total`` bytes begins and
    ends between two blocks."""
    is_last = offset + size == total
    if offset % form.block_bytes or (size % form.block_bytes and not is_last):
        text = f"{size} bytes are no whole {form.name} values"
        raise RemoteProtocolError(text, offence="stream")


def _coder(name: str) -> _Coder:
    if name not in CODERS:
        raise LocalProtocolError(f"no wire data type is called {name!r}")
    return CODERS[name]


# --- The forms -----------------------------------------------------------------------


def _write_float32(values: Floats) -> NDArray[np.generic]:
    return values.astype("<f4", copy=False)


def _read_float32(raw: Bytes, out: Floats) -> None:
    out[...] = raw.view("<f4")


def _write_float16(values: Floats) -> NDArray[np.generic]:
    clipped = np.clip(values, -LARGEST_FLOAT16, LARGEST_FLOAT16)
    return clipped.astype("<f2")


def _read_float16(raw: Bytes, out: Floats) -> None:
    # Every index is one of the table's: "wrap" spares a check and a buffer.
    HALVES.take(raw.view("<u2"), out=out, mode="wrap")


def _write_bfloat16(values: Floats) -> NDArray[np.generic]:
    out = np.empty(values.size, "<u2")
    for start in range(0, values.size, PIECE_ELEMENTS):
        piece = values[start : start + PIECE_ELEMENTS]
        bits = np.clip(piece, -LARGEST_BFLOAT16, LARGEST_BFLOAT16).view(np.uint32)
        # Half of the last place more, less a bit if it is even: half goes to even.
        bits += ((bits >> 16) & 1) + np.uint32(0x7FFF)
        bits >>= 16
        out[start : start + PIECE_ELEMENTS] = bits
    return out


def _read_bfloat16(raw: Bytes, out: Floats) -> None:
    bits = out.view(np.uint32)
    bits[...] = raw.view("<u2")
    bits <<= 16


def _is_finite_float32(raw: Bytes) -> bool:
    return bool(np.isfinite(raw.view("<f4")).all())


def _below(exponent: int) -> Callable[[Bytes], bool]:
    """That no 16-bit number has all these bits of its exponent set."""

    def is_finite(raw: Bytes) -> bool:
        return not ((raw.view("<u2") & np.uint16(exponent)) == exponent).any()

    return is_finite


def _has_finite_scales(raw: Bytes) -> bool:
    return not (few_bits.exponents_of(raw) > few_bits.LARGEST_EXPONENT).any()


CODERS = {
    coder.form.name: coder
    for coder in (
        _Coder(FLOAT32, _write_float32, _read_float32, _is_finite_float32),
        _Coder(BFLOAT16, _write_bfloat16, _read_bfloat16, _below(0x7F80)),
        _Coder(FLOAT16, _write_float16, _read_float16, _below(0x7C00)),
        _Coder(INT8, few_bits.encode_int8, few_bits.decode_int8, _has_finite_scales),
        _Coder(TOP_K, few_bits.encode_top_k, few_bits.decode_top_k, _has_finite_scales),
    )
}
