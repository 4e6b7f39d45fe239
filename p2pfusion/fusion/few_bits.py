"""Numbers of a few bits that share an exponent: eight bits each, or the largest only.

A block's exponent byte E says that its whole numbers q, from -127 to 127, stand for
``q * 2 ** (E - 133)``. So the largest value of a block keeps seven bits, and a smaller
one as many fewer as it is smaller. Blocks with a shared power of two are the idea of
the MX formats (OCP Microscaling Formats, 1.0); scaling by powers of two is exact, so
every machine computes the same. Any bytes stand for finite numbers, except that E is at
most 253; what is larger than that can say is clipped. Powers of two so small that
float32 loses the inverse are never written (E below 6), but read.

Differs from MX: blocks have 63 values, not 32, so that one with its exponent takes 64
bytes, and streams that are cut after any number of these are cut between blocks.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from p2pfusion.split.forms import INT8, TOP_K

Floats = NDArray[np.float32]
Bytes = NDArray[np.uint8]

ZERO_EXPONENT = 133
SMALLEST_WRITTEN, LARGEST_EXPONENT = 6, 253
LARGEST = 127

KEPT = 31
"""Of each block of a top-k stream: 62 bytes for their places and numbers."""

PIECE_BLOCKS = 2048
"""Blocks that are handled at a time, so that the scratch stays in the cache."""

SCALES = np.ldexp(np.float32(1), np.arange(256) - ZERO_EXPONENT).astype(np.float32)
"""What a whole number stands for, by the exponent byte; those above 253 are refused."""


def encode_int8(values: Floats) -> Bytes:
    """Exponent and numbers of each block; the last one may be shorter."""
    out = np.empty(INT8.bytes_of(values.size), np.uint8)
    whole = values.size // INT8.block_elements
    blocks = values[: whole * INT8.block_elements].reshape(whole, INT8.block_elements)
    rows = out[: whole * INT8.block_bytes].reshape(whole, INT8.block_bytes)
    for start in range(0, whole, PIECE_BLOCKS):
        place = slice(start, start + PIECE_BLOCKS)
        _encode(blocks[place], rows[place])
    rest = values[whole * INT8.block_elements :]
    if rest.size:
        _encode(rest[None], out[None, whole * INT8.block_bytes :])
    return out


def _encode(blocks: Floats, rows: Bytes) -> None:
    """(blocks, values) into (blocks, 1 + values) bytes."""
    exponents, numbers = _numbers(blocks)
    rows[:, :1] = exponents
    rows[:, 1:].view(np.int8)[...] = numbers


def _numbers(blocks: Floats) -> tuple[NDArray[np.uint32], Floats]:
    """Of each block its exponent, (blocks, 1), and its rounded numbers."""
    scratch = np.abs(blocks)
    largest = scratch.max(axis=1, keepdims=True)
    # A float's own exponent is biased by 127, and seven bits are 2**6 and below.
    exponents = np.clip(
        largest.view(np.uint32) >> 23, SMALLEST_WRITTEN, LARGEST_EXPONENT
    )
    inverse = ((254 + 6 - exponents) << 23).astype(np.uint32).view(np.float32)
    np.multiply(blocks, inverse, out=scratch)
    np.rint(scratch, out=scratch)
    return exponents, np.clip(scratch, -LARGEST, LARGEST, out=scratch)


def decode_int8(raw: Bytes, out: Floats) -> None:
    """The values of blocks into ``out``, which is as long as they are."""
    whole = out.size // INT8.block_elements
    rows = raw[: whole * INT8.block_bytes].reshape(whole, INT8.block_bytes)
    values = out[: whole * INT8.block_elements].reshape(whole, INT8.block_elements)
    np.multiply(rows[:, 1:].view(np.int8), SCALES[rows[:, :1]], out=values)
    rest = raw[whole * INT8.block_bytes :]
    if rest.size:
        np.multiply(
            rest[1:].view(np.int8),
            SCALES[rest[0]],
            out=out[whole * INT8.block_elements :],
        )


def exponents_of(raw: Bytes) -> Bytes:
    """The exponent byte of every block, of either form."""
    return raw[:: INT8.block_bytes]


def encode_top_k(values: Floats) -> Bytes:
    """Of each block the exponent, 0, the places of its largest values, ascending, and
    their numbers. Of equal ones the first is kept; a short block ends with zeros."""
    count = -(-values.size // TOP_K.block_elements)
    rows = np.empty((count, TOP_K.block_bytes), np.uint8)
    padded = np.zeros(count * TOP_K.block_elements, np.float32)
    padded[: values.size] = values
    blocks = padded.reshape(count, TOP_K.block_elements)
    for start in range(0, count, PIECE_BLOCKS):
        some = blocks[start : start + PIECE_BLOCKS]
        places = _largest(np.abs(some))
        exponents, numbers = _numbers(np.take_along_axis(some, places, axis=1))
        row = rows[start : start + PIECE_BLOCKS]
        row[:, :1], row[:, 1] = exponents, 0
        row[:, 2 : 2 + KEPT] = places
        row[:, 2 + KEPT :].view(np.int8)[...] = numbers
    return rows.reshape(-1)


def _largest(sizes: Floats) -> NDArray[np.intp]:
    """(blocks, KEPT): the places of each block's largest, ascending; of equal ones the
    first."""
    first = sizes.shape[1] - KEPT
    least = np.partition(sizes, first, axis=1)[:, first, None]
    above, equal = sizes > least, sizes == least
    room = KEPT - above.sum(axis=1, keepdims=True)
    chosen = above | (equal & (np.cumsum(equal, axis=1) <= room))
    return np.nonzero(chosen)[1].reshape(-1, KEPT)


def decode_top_k(raw: Bytes, out: Floats) -> None:
    """The values of blocks into ``out``, zeros where there are none.

    ``out`` may end before the last block does: what stands beyond is passed over.
    """
    rows = raw.reshape(-1, TOP_K.block_bytes)
    blocks = np.zeros((len(rows), TOP_K.block_elements), np.float32)
    numbers = rows[:, 2 + KEPT :].view(np.int8) * SCALES[rows[:, :1]]
    np.put_along_axis(blocks, rows[:, 2 : 2 + KEPT].astype(np.intp), numbers, axis=1)
    out[...] = blocks.reshape(-1)[: out.size]
