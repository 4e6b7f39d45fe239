"""Memory that is used again: only when nobody looks at it any more."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from p2pfusion.fusion.memory import LEAST_BYTES, MOST_WAITING, Memory

LEAST = LEAST_BYTES // 8


def test_an_arrays_memory_comes_back_with_its_last_view() -> None:
    memory = Memory()
    first = memory.empty(2 * LEAST, np.float64)
    place, piece = first.ctypes.data, memoryview(first.view(np.float32)[5:9])
    del first
    second = memory.empty(2 * LEAST, np.float64)
    assert second.ctypes.data != place, "somebody looks at it"
    del piece
    assert memory.waiting_bytes == 2 * LEAST_BYTES
    third = memory.empty(2 * LEAST - 9, np.float64)
    assert third.ctypes.data == place and memory.waiting_bytes == 0


def test_what_is_small_or_much_too_large_is_not_shared() -> None:
    memory = Memory()
    del_bytes = memory.empty(100 * LEAST, np.float64).nbytes  # at once
    assert memory.waiting_bytes == del_bytes
    memory.empty(10, np.float64)
    small = memory.empty(LEAST, np.float64)
    assert memory.waiting_bytes == del_bytes
    del small
    assert memory.waiting_bytes == del_bytes + LEAST_BYTES


@given(
    sizes=st.lists(st.integers(1, 4 * LEAST), min_size=1, max_size=30), data=st.data()
)
@settings(deadline=None, max_examples=30)
def test_arrays_in_use_never_share_memory(
    sizes: list[int], data: st.DataObject
) -> None:
    memory = Memory()
    used: list[np.ndarray] = []
    for number, size in enumerate(sizes):
        if used and data.draw(st.booleans()):
            used.pop(data.draw(st.integers(0, len(used) - 1)))
        made = memory.empty(size, np.float64)
        made.fill(number)
        used.append(made)
        assert all(len(np.unique(each)) == 1 for each in used)
    del made
    used.clear()
    largest = 8 * 4 * LEAST
    assert memory.waiting_bytes <= MOST_WAITING * largest
