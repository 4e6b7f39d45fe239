"""Lengths of values on the wire."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pfusion.limits import CHECKPOINT_PIECE_BYTES, CHUNK_BYTES
from p2pfusion.split.forms import FLOAT16, FORMS, INT8, TOP_K, WIRE, Form
from p2pfusion.split.plan import Hop

forms = st.sampled_from(sorted(FORMS.values(), key=lambda form: form.name))


def slow_bytes(form: Form, elements: int) -> int:
    """Counted value by value."""
    total = in_block = 0
    for _ in range(elements):
        if in_block == 0:
            total += form.head_bytes
        total += form.element_bytes
        in_block = (in_block + 1) % form.block_elements
    return total


@given(forms, st.integers(0, 2_000))
def test_a_length_is_that_of_all_blocks(form: Form, elements: int) -> None:
    assert form.bytes_of(elements) == slow_bytes(form, elements)


@given(forms, st.integers(0, 2_000))
def test_a_piece_has_room_for_its_values_and_no_others(
    form: Form, elements: int
) -> None:
    size = form.bytes_of(elements)
    most = form.most_in(size)
    assert most >= elements and form.bytes_of(most) == size
    assert form.bytes_of(most + 1) > size


@pytest.mark.parametrize("form", FORMS.values(), ids=lambda form: form.name)
def test_blocks_fit_where_streams_are_cut(form: Form) -> None:
    assert CHUNK_BYTES % form.block_bytes == 0
    assert CHECKPOINT_PIECE_BYTES % form.block_bytes == 0
    assert form.bytes_of(form.block_elements) == form.block_bytes


def test_only_contributions_are_changes() -> None:
    for name, form in (("int8", INT8), ("top-k", TOP_K)):
        wire = WIRE[name]
        assert wire.sends_changes and wire.form(Hop.CONTRIBUTION.value) is form
        others = [hop for hop in Hop if hop != Hop.CONTRIBUTION]
        assert all(wire.form(hop.value) is FLOAT16 for hop in others)
    for name in ("float32", "bfloat16", "float16"):
        wire = WIRE[name]
        assert not wire.sends_changes
        assert all(wire.form(hop.value).name == name for hop in Hop)
