"""Masks as bytes: every mask has one encoding, and every encoding is a mask."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pfusion.errors import LayoutError
from p2pfusion.split.indices import IndexSet
from p2pfusion.split.layout import Axis
from p2pfusion.split.masks import decode_mask, encode_mask, mask_bytes
from tests.strategies import axes, index_sets


@st.composite
def several_axes(draw: st.DrawFn) -> list[Axis]:
    return [draw(axes(f"axis {n}")) for n in range(draw(st.integers(0, 5)))]


@st.composite
def masks(draw: st.DrawFn, known: list[Axis]) -> dict[str, IndexSet]:
    return {axis.name: draw(index_sets(axis.cell_count, min_size=1)) for axis in known}


def slowly(known: list[Axis], mask: dict[str, IndexSet]) -> bytes:
    """One character per cell."""
    digits = "".join(
        "1" if cell in list(mask[axis.name]) else "0"
        for axis in known
        for cell in range(axis.cell_count)
    )
    digits += "0" * (-len(digits) % 8)
    return bytes(int(digits[n : n + 8], 2) for n in range(0, len(digits), 8))


@given(st.data())
def test_a_mask_comes_back(data: st.DataObject) -> None:
    known = data.draw(several_axes())
    mask = data.draw(masks(known))
    encoded = encode_mask(known, mask)
    assert encoded == slowly(known, mask) and len(encoded) == mask_bytes(known)
    assert decode_mask(known, encoded) == mask


@given(st.data(), st.binary(max_size=30))
def test_any_bytes_are_the_encoding_of_a_mask_or_refused(
    data: st.DataObject, found: bytes
) -> None:
    known = data.draw(several_axes())
    size = mask_bytes(known)
    found = data.draw(st.sampled_from([found, found[:size].ljust(size, b"\xff")]))
    try:
        mask = decode_mask(known, found)
    except LayoutError:
        return
    assert encode_mask(known, mask) == found


TWO = [Axis("a", 3), Axis("b", 2)]


@pytest.mark.parametrize(
    ("found", "words"),
    [
        (b"", "has 1 bytes, not 0"),
        (b"\xb8\x00", "has 1 bytes, not 2"),
        (b"\x08", "no cell of axis 'a'"),
        (b"\xa0", "no cell of axis 'b'"),
        (b"\xb9", "bits behind its end"),
    ],
)
def test_what_is_wrong_with_bytes_is_told(found: bytes, words: str) -> None:
    with pytest.raises(LayoutError, match=words):
        decode_mask(TWO, found)


@pytest.mark.parametrize("cells", [[], [3], [0, 3]])
def test_a_mask_has_cells_of_its_axes_only(cells: list[int]) -> None:
    mask = {"a": IndexSet.from_indices(cells), "b": IndexSet.span(0, 1)}
    with pytest.raises(LayoutError, match="axis 'a'"):
        encode_mask(TWO, mask)
