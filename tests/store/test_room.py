"""Room for what will be written: every byte that ``put`` touches, and no hole left."""

from __future__ import annotations

import math
import os
import tempfile
from pathlib import Path

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from p2pfusion.split.indices import IndexSet
from p2pfusion.split.segment import Segment
from p2pfusion.store.rectangles import put
from p2pfusion.store.room import reserve, spans
from tests.strategies import index_sets

SHAPES = [(), (7,), (40, 3), (5, 2000), (3, 4, 700, 3), (5000,)]


@settings(max_examples=60)
@given(st.data())
def test_every_place_that_is_written_has_its_blocks(data: st.DataObject) -> None:
    shape = data.draw(st.sampled_from(SHAPES))
    parts = []
    for _ in range(data.draw(st.integers(0, 3))):
        segment = Segment(0, tuple(data.draw(index_sets(size)) for size in shape))
        parts.append((segment, np.ones(segment.shape, np.float32)))
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "values"
        path.write_bytes(b"")
        os.truncate(path, math.prod(shape) * 4)
        file = os.open(path, os.O_RDWR)
        try:
            reserve(file, shape, parts)
            before = path.stat()
            assert not np.fromfile(path, np.float32).any(), "no value changed"
            put(file, 0, shape, parts)
            after = path.stat()
        finally:
            os.close(file)
    assert after.st_size == before.st_size == math.prod(shape) * 4
    assert after.st_blocks == before.st_blocks


def test_spans_are_whole_pages_that_do_not_touch() -> None:
    shape = (4, 4096)
    columns = IndexSet.from_ranges([(0, 1), (2, 3), (1500, 1501)])
    segment = Segment(0, (IndexSet.span(1, 3), columns))
    found = spans(shape, [(segment, np.ones(segment.shape, np.float32))])
    row = 4096 * 4
    assert found == [
        (row, row + 8192),
        (2 * row, 2 * row + 8192),
    ]
