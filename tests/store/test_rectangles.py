"""Rectangles of arrays and files, against fancy indexing."""

from __future__ import annotations

import os
import tempfile
from itertools import pairwise, product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from p2pfusion.split.indices import IndexSet
from p2pfusion.split.segment import Segment
from p2pfusion.store.rectangles import Part, has_narrow_rows, pick, put
from tests.strategies import index_sets


@given(st.data())
def test_pick_agrees_with_fancy_indexing(data: st.DataObject) -> None:
    """Few large boxes and many small ones take different ways."""
    sizes = data.draw(st.lists(st.integers(1, 12), max_size=3))
    whole = np.arange(np.prod(sizes, dtype=int), dtype=np.float32).reshape(sizes)
    sets = tuple(data.draw(index_sets(size)) for size in sizes)
    into = np.full(tuple(map(len, sets)), -1, np.float32)
    pick(whole, sets, into)
    expected = whole[np.ix_(*(list(indices) for indices in sets))]
    assert np.array_equal(into, expected.reshape(into.shape))


SHAPES = [(40,), (5, 1100), (3, 4, 500), (6, 10), (4, 3, 5)]
"""With rows that are written whole, and without."""


@st.composite
def part_lists(draw: st.DrawFn, shape: tuple[int, ...]) -> list[Part]:
    """Ranges of a window, as a plan cuts it, in any order; rarely some come twice."""
    pieces = []
    for size in shape:
        borders = draw(st.sets(st.integers(0, size), min_size=2, max_size=4))
        cuts = sorted(borders)
        pieces.append([IndexSet.span(*pair) for pair in pairwise(cuts)])
    rectangles = list(product(*pieces))
    chosen = draw(st.lists(st.sampled_from(rectangles), unique=draw(st.booleans())))
    random = np.random.default_rng(draw(st.integers(0, 99)))
    segments = [Segment(0, sets) for sets in draw(st.permutations(chosen))]
    return [(s, random.random(s.shape, np.float32)) for s in segments]


@given(data=st.data(), shape=st.sampled_from(SHAPES), base=st.sampled_from([0, 12]))
@settings(deadline=None)
def test_put_agrees_with_fancy_indexing(
    data: st.DataObject, shape: tuple[int, ...], base: int
) -> None:
    parts = data.draw(part_lists(shape))
    expected = np.random.default_rng(0).random(shape, np.float32)
    with tempfile.TemporaryFile() as file:
        file.write(bytes(base) + expected.tobytes())
        file.flush()
        put(file.fileno(), base, shape, parts)
        file.seek(base)
        found = np.frombuffer(file.read(), np.float32).reshape(shape)
    for segment, values in parts:
        expected[np.ix_(*(list(indices) for indices in segment.sets))] = values
    np.testing.assert_array_equal(found, expected)


def test_runs_of_many_segments_that_meet_are_written_at_once() -> None:
    """A window of 3 rows, cut into 4 pieces each: 3 writes, and not 12."""
    shape = (8, 4000)
    assert not has_narrow_rows(shape)
    rows = IndexSet.span(2, 5)
    cuts = [500, 900, 901, 1500, 2500]
    parts: list[Part] = [
        (Segment(0, (rows, IndexSet.span(a, b))), np.full((3, b - a), a, np.float32))
        for a, b in pairwise(cuts)
    ]
    places: list[int] = []
    written = os.pwritev

    def spy(file: int, pieces: list[memoryview], place: int) -> int:
        places.append(place)
        return written(file, pieces, place)

    with tempfile.TemporaryFile() as file, pytest.MonkeyPatch.context() as patch:
        file.truncate(8 * 4000 * 4)
        patch.setattr(os, "pwritev", spy)
        put(file.fileno(), 0, shape, parts[::-1])
    assert places == [4 * (4000 * row + 500) for row in (2, 3, 4)]
