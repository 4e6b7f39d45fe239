"""Values as they travel: little-endian float32 or float16, nothing else.

A number that is not finite never leaves this peer and never enters it: our own is a
bug, another's is a broken rule. Float16 halves the traffic; what it cannot express is
clipped to its largest number, because one infinity would poison every mean it enters.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from p2pfusion.errors import LocalProtocolError, RemoteProtocolError

Floats = NDArray[np.float32]

WIRE_DTYPES = {"float32": 4, "float16": 2}
"""Name of each data type on the wire, and its size in bytes."""

LARGEST_FLOAT16 = 65504.0


def encode(values: Floats, wire_dtype: str) -> memoryview:
    """The bytes of values; for contiguous float32 on most machines their own memory."""
    if not _all_finite(values):
        raise LocalProtocolError("a value to be sent is not a finite number")
    if wire_dtype == "float16":
        values = np.clip(values, -LARGEST_FLOAT16, LARGEST_FLOAT16)
    wire = np.ascontiguousarray(values, _format(wire_dtype))
    return wire.reshape(-1).view(np.uint8).data


def decode(buffer: bytes | bytearray | memoryview, wire_dtype: str) -> Floats:
    """The values in received bytes; without a copy where type and alignment allow.

    ``RemoteProtocolError`` for a length that is no whole number of values, and for
    values that are not finite.
    """
    form = _format(wire_dtype)
    size_bytes = memoryview(buffer).nbytes
    if size_bytes % form.itemsize:
        raise RemoteProtocolError(
            f"{size_bytes} bytes are no whole {wire_dtype} values"
        )
    values = np.frombuffer(buffer, form).astype(np.float32, copy=False)
    if not values.flags.aligned:
        values = values.copy()
    if not _all_finite(values):
        raise RemoteProtocolError("a received value is not a finite number")
    return values


def _format(wire_dtype: str) -> np.dtype[np.floating]:
    if wire_dtype not in WIRE_DTYPES:
        raise LocalProtocolError(f"no wire data type is called {wire_dtype!r}")
    return np.dtype("<f2") if wire_dtype == "float16" else np.dtype("<f4")


def _all_finite(values: Floats) -> bool:
    return bool(np.isfinite(values).all())
