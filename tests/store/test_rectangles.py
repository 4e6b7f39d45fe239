"""Rectangles picked from arrays, against fancy indexing."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from p2pfusion.store.rectangles import pick
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
