"""In which form values travel, and how many bytes that takes: nothing but lengths.

A *form* writes values one after the other, in blocks of a fixed number of values and a
fixed number of bytes, of which the last may be shorter. So a stream's length follows
from the number of its values, and a stream can be cut, and gone on from, between any
two blocks. What the bytes are, ``fusion/codec.py`` knows.

The manifest's ``wire_dtype`` is a pair of forms: one for what holders contribute to a
mean, and one for all other values (``WIRE``).
"""

from __future__ import annotations

from dataclasses import dataclass

from p2pfusion.split.hops import CONTRIBUTION, SEEDS


@dataclass(frozen=True)
class Form:
    """Blocks of ``block_elements`` values in ``block_bytes`` bytes each.

    The last block of a stream has ``head_bytes`` and ``element_bytes`` for each of its
    values.
    """

    name: str
    block_elements: int
    block_bytes: int
    element_bytes: int
    head_bytes: int = 0

    def bytes_of(self, elements: int) -> int:
        """Length of a stream of so many values."""
        blocks, rest = divmod(elements, self.block_elements)
        tail = self.head_bytes + rest * self.element_bytes if rest else 0
        return blocks * self.block_bytes + tail

    def most_in(self, size_bytes: int) -> int:
        """How many values a piece of so many bytes, from the beginning of a block on,
        can have; the last block of a stream perhaps fewer."""
        blocks, rest = divmod(size_bytes, self.block_bytes)
        tail = 0
        if self.element_bytes:
            tail = max(0, rest - self.head_bytes) // self.element_bytes
        return blocks * self.block_elements + tail


@dataclass(frozen=True)
class Wire:
    """What a swarm's values travel as."""

    contribution: Form
    """Of what a holder sends a reducer."""
    value: Form
    """Of everything else. Everybody keeps only what this form can express, so whoever
    passes a value on passes on the very same."""
    sends_changes: bool = False
    """Whether contributions are changes of what the round began with, and not values:
    they are smaller by far, so a few bits say more of them."""
    hides: bool = False
    """Whether contributions are masked, and only sums of them can be read."""

    @property
    def is_lossy(self) -> bool:
        """Whether so much is lost of contributions that it is kept, and given later."""
        return self.sends_changes and not self.hides

    def form(self, hop: str) -> Form:
        """The form of a hop's streams."""
        is_masked = self.hides and hop == SEEDS
        is_held = hop == CONTRIBUTION or is_masked
        return self.contribution if is_held else self.value


FLOAT32 = Form("float32", 1, 4, 4)
BFLOAT16 = Form("bfloat16", 1, 2, 2)
FLOAT16 = Form("float16", 1, 2, 2)
INT8 = Form("int8", 63, 64, 1, head_bytes=1)
"""A shared exponent of a byte, and a byte for each value. Blocks of 64 bytes fit into
every length at which streams are cut."""

TOP_K = Form("top-k", 256, 64, 0, head_bytes=64)
"""Of each 256 values the 31 largest: a shared exponent, a spare byte, and for each of
them its place and a byte."""

FORMS = {form.name: form for form in (FLOAT32, BFLOAT16, FLOAT16, INT8, TOP_K)}

RING = Form("ring", 1, 4, 4)
"""Integers modulo 2**32: any bits are one, and none is a number by itself."""

WIRE = {
    "float32": Wire(FLOAT32, FLOAT32),
    "bfloat16": Wire(BFLOAT16, BFLOAT16),
    "float16": Wire(FLOAT16, FLOAT16),
    "int8": Wire(INT8, FLOAT16, sends_changes=True),
    "top-k": Wire(TOP_K, FLOAT16, sends_changes=True),
}
"""What ``wire_dtype`` in a manifest can be."""

HIDDEN = Wire(RING, FLOAT32, sends_changes=True, hides=True)
"""What values travel as with secure aggregation."""
