"""Values on the wire."""

from __future__ import annotations

import math
import struct
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pfusion.errors import LocalProtocolError, RemoteProtocolError
from p2pfusion.fusion.codec import (
    LARGEST_BFLOAT16,
    LARGEST_FLOAT16,
    check,
    check_cut,
    decode,
    encode,
)
from p2pfusion.fusion.few_bits import KEPT
from p2pfusion.split.forms import FORMS, INT8, TOP_K, Form

finite = st.floats(width=32, allow_nan=False, allow_infinity=False)
values_32 = st.lists(finite)
many_values = st.lists(finite | st.floats(-1, 1, width=32), max_size=600)
names = st.sampled_from(sorted(FORMS))


def floats(numbers: list[float]) -> np.ndarray:
    return np.array(numbers, np.float32)


# --- The same, slowly ----------------------------------------------------------------


def slow_bfloat16(number: float) -> float:
    """The nearer of the two neighbours with eight bits, half to the even one."""
    number = min(max(number, -LARGEST_BFLOAT16), LARGEST_BFLOAT16)
    if number == 0:
        return number
    exponent = max(math.frexp(number)[1], -125)
    step = math.ldexp(1.0, exponent - 8)
    return round(number / step) * step  # Python rounds half to even


def slow_int8(numbers: list[float]) -> tuple[int, list[int]]:
    """A block's exponent byte, and its whole numbers."""
    largest = max(abs(number) for number in numbers)
    exponent = math.frexp(largest)[1] - 1 + 127 if largest >= 2**-126 else 0
    exponent = min(max(exponent, 6), 253)
    step = math.ldexp(1.0, exponent - 133)
    return exponent, [min(max(round(x / step), -127), 127) for x in numbers]


def slow_int8_bytes(numbers: list[float]) -> bytes:
    raw = b""
    for start in range(0, len(numbers), 63):
        exponent, whole = slow_int8(numbers[start : start + 63])
        raw += struct.pack(f"<B{len(whole)}b", exponent, *whole)
    return raw


def slow_top_k_bytes(numbers: list[float]) -> bytes:
    raw = b""
    for start in range(0, len(numbers), 256):
        block = numbers[start : start + 256]
        block += [0.0] * (256 - len(block))
        order = sorted(range(256), key=lambda place: (-abs(block[place]), place))
        places = sorted(order[:KEPT])
        exponent, whole = slow_int8([block[place] for place in places])
        raw += struct.pack(f"<BB{KEPT}B{KEPT}b", exponent, 0, *places, *whole)
    return raw


def slow_values(raw: bytes, form: Form, count: int) -> list[float]:
    """What bytes stand for."""
    if form.name in ("float32", "float16"):
        letter = "f" if form.name == "float32" else "e"
        return list(struct.unpack(f"<{count}{letter}", raw))
    if form.name == "bfloat16":
        halves = struct.unpack(f"<{count}H", raw)
        return [struct.unpack("<f", struct.pack("<HH", 0, x))[0] for x in halves]
    found: list[float] = []
    for start in range(0, len(raw), 64):
        exponent, *rest = raw[start : start + 64]
        step = math.ldexp(1.0, exponent - 133) if exponent <= 253 else math.inf
        signed = [x - 256 if x > 127 else x for x in rest]
        if form.name == "int8":
            found += [step * x if x else math.copysign(0, step) for x in signed]
            if step == math.inf:
                found.append(math.inf)
            continue
        block = [0.0] * 256
        for place, number in zip(rest[1 : 1 + KEPT], signed[1 + KEPT :], strict=True):
            block[place] = step * number if number else 0.0
        found += block if step < math.inf else [math.inf]
    return found[:count] if math.inf not in found else [math.inf]


# --- What is written -----------------------------------------------------------------


@given(values_32)
def test_float32_travels_unchanged(numbers: list[float]) -> None:
    wire = encode(floats(numbers), "float32")
    assert bytes(wire) == struct.pack(f"<{len(numbers)}f", *numbers)
    assert decode(wire, "float32").tolist() == numbers


@given(values_32)
def test_float16_is_clipped_and_rounded(numbers: list[float]) -> None:
    wire = encode(floats(numbers), "float16")
    clipped = [min(max(x, -LARGEST_FLOAT16), LARGEST_FLOAT16) for x in numbers]
    assert bytes(wire) == struct.pack(f"<{len(numbers)}e", *clipped)
    received = decode(wire, "float16")
    assert received.dtype == np.float32
    assert received.tolist() == [
        struct.unpack("<e", struct.pack("<e", x))[0] for x in clipped
    ]


@given(values_32)
def test_bfloat16_is_clipped_and_rounded(numbers: list[float]) -> None:
    received = decode(encode(floats(numbers), "bfloat16"), "bfloat16")
    assert received.tolist() == [slow_bfloat16(x) for x in numbers]


@given(many_values)
def test_int8_shares_an_exponent_in_every_block(numbers: list[float]) -> None:
    assert bytes(encode(floats(numbers), "int8")) == slow_int8_bytes(numbers)


@given(many_values)
def test_top_k_keeps_the_largest_of_every_block(numbers: list[float]) -> None:
    assert bytes(encode(floats(numbers), "top-k")) == slow_top_k_bytes(numbers)


@given(many_values, names)
def test_what_came_is_what_the_bytes_say(numbers: list[float], name: str) -> None:
    wire = encode(floats(numbers), name)
    out = np.full(len(numbers), np.nan, np.float32)
    assert decode(wire, name, out) is out
    assert out.tolist() == slow_values(bytes(wire), FORMS[name], len(numbers))


@given(many_values, st.sampled_from(["float32", "bfloat16", "float16"]))
def test_what_came_goes_on_unchanged(numbers: list[float], name: str) -> None:
    """Whoever passes a value on passes on the very same."""
    wire = bytes(encode(floats(numbers), name))
    assert bytes(encode(decode(wire, name), name)) == wire


@given(st.lists(st.floats(-1, 1, width=32), min_size=1, max_size=200))
def test_int8_is_off_by_a_hundredth_of_the_largest_at_most(
    numbers: list[float],
) -> None:
    received = decode(encode(floats(numbers), "int8"), "int8")
    for start in range(0, len(numbers), 63):
        block = floats(numbers)[start : start + 63]
        error = np.abs(received[start : start + 63] - block).max()
        assert error <= np.abs(block).max() / 64 + 2.0**-127


@pytest.mark.parametrize("name", ["float16", "bfloat16", "int8", "top-k"])
def test_the_largest_is_not_infinite(name: str) -> None:
    numbers = floats([3.4e38, -3.4e38, 65_520, 65_519])
    received = decode(encode(numbers, name), name)[:4]
    assert np.isfinite(received).all() and received[0] == -received[1] > 65_000


@pytest.mark.parametrize("name", FORMS)
@pytest.mark.parametrize("count", [0, 1, 7, 63, 64, 256, 257, 5_000])
def test_sizes_are_as_declared(name: str, count: int) -> None:
    assert encode(np.ones(count, np.float32), name).nbytes == FORMS[name].bytes_of(
        count
    )


@pytest.mark.parametrize("name", ["int8", "top-k"])
def test_a_long_stream_is_written_as_its_pieces_are(name: str) -> None:
    """So long that it is handled some blocks at a time."""
    numbers = np.random.default_rng(0).standard_normal(1 << 20, np.float32)
    form, wire = FORMS[name], bytes(encode(numbers, name))
    step = 777 * form.block_elements
    pieces = [
        bytes(encode(numbers[start : start + step], name))
        for start in range(0, numbers.size, step)
    ]
    assert b"".join(pieces) == wire
    received = np.concatenate([decode(piece, name) for piece in pieces])
    np.testing.assert_array_equal(received, decode(wire, name))


# --- Memory --------------------------------------------------------------------------


def test_float32_is_not_copied() -> None:
    values = np.arange(8, dtype=np.float32)
    wire = encode(values, "float32")
    assert np.shares_memory(np.frombuffer(wire, np.uint8), values)
    assert np.shares_memory(decode(wire, "float32"), values)


@given(many_values, names, st.integers(0, 3))
def test_bytes_may_lie_anywhere(numbers: list[float], name: str, shift: int) -> None:
    wire = encode(floats(numbers), name)
    behind = memoryview(bytes(shift) + bytes(wire))[shift:]
    received = decode(behind, name)
    assert received.flags.aligned
    assert received.tolist() == decode(wire, name).tolist()


@pytest.mark.parametrize("name", ["float32", "bfloat16", "float16", "int8"])
def test_any_shape_and_order_becomes_flat(name: str) -> None:
    values = np.arange(6, dtype=np.float32).reshape(2, 3).T
    assert decode(encode(values, name), name).tolist() == [0, 3, 1, 4, 2, 5]


# --- What others send ----------------------------------------------------------------


@given(st.binary(max_size=200), names)
def test_any_bytes_are_finite_values_or_refused(raw: bytes, name: str) -> None:
    form = FORMS[name]
    count = form.most_in(len(raw))
    good = form.bytes_of(count) == len(raw)
    numbers = slow_values(raw, form, count) if good else []
    good = good and bool(np.isfinite(numbers).all())
    if good:
        assert decode(raw, name).tolist() == numbers
    else:
        with pytest.raises(RemoteProtocolError):
            decode(raw, name)


def break_float32(raw: bytearray) -> None:
    raw[-4:] = struct.pack("<f", math.inf)


def break_float16(raw: bytearray) -> None:
    raw[-2:] = struct.pack("<e", math.nan)


def break_bfloat16(raw: bytearray) -> None:
    raw[-2:] = struct.pack("<f", -math.inf)[2:]


def break_exponent(raw: bytearray) -> None:
    raw[64] = 254


BREAKS: dict[str, Callable[[bytearray], None]] = {
    "float32": break_float32,
    "float16": break_float16,
    "bfloat16": break_bfloat16,
    "int8": break_exponent,
    "top-k": break_exponent,
}


@pytest.mark.parametrize("name", FORMS)
def test_not_a_finite_number(name: str) -> None:
    for bad in (np.nan, np.inf, -np.inf):
        with pytest.raises(LocalProtocolError, match="to be sent is not a finite"):
            encode(floats([1, bad, 2]), name)
    raw = bytearray(encode(np.ones(400, np.float32), name))
    check(raw, name)
    BREAKS[name](raw)
    for read in (check, decode):
        with pytest.raises(RemoteProtocolError, match="received value is not a finite"):
            read(raw, name)


@pytest.mark.parametrize(
    ("name", "size"),
    [("float32", 5), ("float16", 5), ("bfloat16", 5), ("int8", 65), ("top-k", 65)],
)
def test_part_of_a_value(name: str, size: int) -> None:
    with pytest.raises(RemoteProtocolError, match=f"{size} bytes are no whole {name}"):
        decode(bytes(size), name)


@given(st.sampled_from([INT8, TOP_K]), st.integers(0, 300), st.integers(1, 300))
def test_pieces_begin_and_end_between_blocks(
    form: Form, offset: int, size: int
) -> None:
    total = 300
    good = offset % 64 == 0 and (size % 64 == 0 or offset + size == total)
    if good:
        check_cut(form, offset=offset, size=size, total=total)
    else:
        with pytest.raises(RemoteProtocolError, match="no whole"):
            check_cut(form, offset=offset, size=size, total=total)


def test_unknown_types_are_our_own_bug() -> None:
    with pytest.raises(LocalProtocolError, match="float64"):
        encode(np.ones(1, np.float32), "float64")
    with pytest.raises(LocalProtocolError, match="float64"):
        decode(b"", "float64")
