"""Streams of every form on their way in, cut anywhere that is allowed."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pfusion.daemon.arriving import PIECE_BYTES, Arriving
from p2pfusion.daemon.sinks import BufferSink, SumSink
from p2pfusion.errors import RemoteProtocolError
from p2pfusion.fusion import StreamingMean, decode, encode
from p2pfusion.protocol.events import StreamKey
from p2pfusion.protocol.messages import Chunk
from p2pfusion.split.forms import FORMS, Form
from tests.daemon.desks import Floats

STREAM = StreamKey("contribution", 0, "ash", "birch")
forms = st.sampled_from(sorted(FORMS.values(), key=lambda form: form.name))


class Nowhere:
    """A writer that nobody asks anything of."""

    def write_flat(self, segments: object, values: Floats) -> None:
        raise AssertionError("nothing is finished here")


def arriving(form: Form, count: int, *, summed: bool) -> Arriving:
    """A stream of so many values, into a sum or a buffer."""
    if summed:
        sink: SumSink | BufferSink = SumSink(StreamingMean([count]).open([0], 1.0))
    else:
        buffer = np.full(count, np.nan, np.float32)
        sink = BufferSink([], [], Nowhere(), 1, buffer)
    return Arriving(STREAM, sink, form, form.bytes_of(count))


def feed(one: Arriving, wire: memoryview, borders: list[int]) -> None:
    """Takes the bytes in pieces that end at these blocks."""
    places = {b * one.form.block_bytes for b in borders}
    ends = sorted(place for place in places if 0 < place < len(wire))
    for start, stop in zip([0, *ends], [*ends, len(wire)], strict=True):
        one.check(Chunk(1, start, wire[start:stop]))
        one.absorb(wire[start:stop])


def summed_values(one: Arriving) -> Floats:
    """What is in the sum."""
    assert isinstance(one.sink, SumSink)
    total = one.sink.cursor._total
    total.close()
    return total.result


@given(
    forms,
    st.lists(st.floats(-9, 9, width=32), min_size=1, max_size=900),
    st.lists(st.integers(0, 900), max_size=4),
    st.booleans(),
)
def test_where_a_stream_is_cut_does_not_matter(
    form: Form, numbers: list[float], borders: list[int], summed: bool
) -> None:
    values = np.array(numbers, np.float32)
    wire = encode(values, form.name)
    expected = decode(wire, form.name, np.empty_like(values))
    one = arriving(form, values.size, summed=summed)
    feed(one, wire, borders)
    assert one.sink.left == 0
    if isinstance(one.sink, BufferSink):
        np.testing.assert_array_equal(one.sink.buffer, expected)
    else:
        np.testing.assert_array_equal(summed_values(one), expected)


@pytest.mark.parametrize("form", FORMS.values(), ids=lambda form: form.name)
def test_long_chunks_are_decoded_piece_by_piece(form: Form) -> None:
    count = 4 * PIECE_BYTES // form.block_bytes * form.block_elements + 5
    values = np.random.default_rng(0).standard_normal(count, np.float32)
    wire = encode(values, form.name)
    one = arriving(form, count, summed=True)
    feed(one, wire, [])
    expected = decode(wire, form.name, np.empty_like(values))
    np.testing.assert_array_equal(summed_values(one), expected)


@given(forms, st.integers(0, 200), st.binary(max_size=300))
def test_any_bytes_are_refused_or_finite_numbers(
    form: Form, offset: int, raw: bytes
) -> None:
    """However much has come, and whatever a liar sends as the next piece."""
    count, chunk = 400, Chunk(1, offset, memoryview(raw))
    one = arriving(form, count, summed=True)
    try:
        one.check(chunk)
    except RemoteProtocolError:
        return
    before = form.most_in(offset)
    fits = offset + len(raw) <= one.total_bytes and before <= count
    if not fits:
        return  # the protocol counts bytes, and takes none beyond the end
    values = np.zeros(before, np.float32)
    one.sink.add(values)
    one.absorb(chunk.payload)
    assert np.isfinite(summed_values(one)).all()


def test_only_plain_values_are_put_where_they_belong_at_once() -> None:
    for form in FORMS.values():
        one = arriving(form, 100, summed=False)
        room = one.room(Chunk(1, 0, memoryview(bytes(64))))
        assert (room is not None) == (form.name == "float32")
        beyond = Chunk(1, 64, memoryview(bytes(64)))
        assert one.room(beyond) is None
