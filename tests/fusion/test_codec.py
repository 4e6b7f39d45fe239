"""Values on the wire."""

from __future__ import annotations

import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pfusion.errors import LocalProtocolError, RemoteProtocolError
from p2pfusion.fusion.codec import LARGEST_FLOAT16, WIRE_DTYPES, decode, encode
from p2pfusion.protocol.manifest import WIRE_DTYPE_BYTES

values_32 = st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False))
FORMATS = {"float32": "f", "float16": "e"}


@given(values_32)
def test_float32_travels_unchanged(numbers: list[float]) -> None:
    wire = encode(np.array(numbers, np.float32), "float32")
    assert bytes(wire) == struct.pack(f"<{len(numbers)}f", *numbers)
    assert decode(wire, "float32").tolist() == numbers


@given(values_32)
def test_float16_is_clipped_and_rounded(numbers: list[float]) -> None:
    wire = encode(np.array(numbers, np.float32), "float16")
    clipped = [min(max(x, -LARGEST_FLOAT16), LARGEST_FLOAT16) for x in numbers]
    assert bytes(wire) == struct.pack(f"<{len(numbers)}e", *clipped)
    received = decode(wire, "float16")
    assert received.dtype == np.float32
    assert received.tolist() == [
        struct.unpack("<e", struct.pack("<e", x))[0] for x in clipped
    ]


def test_the_largest_float16_is_not_infinite() -> None:
    numbers = np.array([65_504, 65_519, 65_520, 1e38, -1e38], np.float32)
    received = decode(encode(numbers, "float16"), "float16")
    assert received.tolist() == [65_504, 65_504, 65_504, 65_504, -65_504]


@pytest.mark.parametrize("wire_dtype", WIRE_DTYPES)
def test_sizes_are_as_declared(wire_dtype: str) -> None:
    assert (
        encode(np.ones(7, np.float32), wire_dtype).nbytes == 7 * WIRE_DTYPES[wire_dtype]
    )


def test_float32_is_not_copied() -> None:
    values = np.arange(8, dtype=np.float32)
    wire = encode(values, "float32")
    assert np.shares_memory(np.frombuffer(wire, np.uint8), values)
    assert np.shares_memory(decode(wire, "float32"), values)


def test_unaligned_bytes_are_copied_into_place() -> None:
    behind = b"x" + bytes(encode(np.arange(8, dtype=np.float32), "float32"))
    received = decode(memoryview(behind)[1:], "float32")
    assert received.tolist() == list(range(8)) and received.flags.aligned


def test_any_shape_and_order_becomes_flat() -> None:
    values = np.arange(6, dtype=np.float32).reshape(2, 3).T
    assert decode(encode(values, "float32"), "float32").tolist() == [0, 3, 1, 4, 2, 5]


@given(st.binary(max_size=40), st.sampled_from(sorted(WIRE_DTYPES)))
def test_any_bytes_are_finite_values_or_refused(raw: bytes, wire_dtype: str) -> None:
    size = WIRE_DTYPES[wire_dtype]
    good = len(raw) % size == 0
    if good:
        numbers = [x for (x,) in struct.iter_unpack(f"<{FORMATS[wire_dtype]}", raw)]
        good = bool(np.isfinite(numbers).all())
    if good:
        assert decode(raw, wire_dtype).tolist() == numbers
    else:
        with pytest.raises(RemoteProtocolError):
            decode(raw, wire_dtype)


@pytest.mark.parametrize("wire_dtype", WIRE_DTYPES)
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_not_a_finite_number(wire_dtype: str, bad: float) -> None:
    values = np.array([1, bad, 2], np.float32)
    with pytest.raises(LocalProtocolError, match="to be sent is not a finite"):
        encode(values, wire_dtype)
    raw = struct.pack(f"<3{FORMATS[wire_dtype]}", 1, bad, 2)
    with pytest.raises(RemoteProtocolError, match="received value is not a finite"):
        decode(raw, wire_dtype)


@pytest.mark.parametrize("wire_dtype", WIRE_DTYPES)
def test_part_of_a_value(wire_dtype: str) -> None:
    with pytest.raises(RemoteProtocolError, match=f"5 bytes are no whole {wire_dtype}"):
        decode(bytes(5), wire_dtype)


def test_unknown_types_are_our_own_bug() -> None:
    with pytest.raises(LocalProtocolError, match="float64"):
        encode(np.ones(1, np.float32), "float64")
    with pytest.raises(LocalProtocolError, match="float64"):
        decode(b"", "float64")


def test_the_manifest_allows_what_the_codec_knows() -> None:
    assert WIRE_DTYPE_BYTES == WIRE_DTYPES
