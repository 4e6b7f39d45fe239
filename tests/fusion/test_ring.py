"""Changes as integers: their sums, what rounding moves, what is clipped."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pfusion.fusion.ring import LARGEST_CHANGE, mean_of, scale_for, to_ring

changes = st.floats(-LARGEST_CHANGE, LARGEST_CHANGE, width=32)


@given(st.lists(changes, min_size=1, max_size=70))
def test_the_mean_is_as_near_as_stated(values: list[float]) -> None:
    scale = scale_for(len(values))
    total = sum(
        (to_ring(np.array([value], np.float32), scale) for value in values),
        np.zeros(1, np.uint32),
    )
    exact = sum(values) / len(values)
    found = float(mean_of(total, scale, len(values))[0])
    # One step for the largest, which loses one; then float32's own rounding.
    assert abs(found - exact) <= 1 / scale + abs(exact) * 2.0**-24


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5, 64, 65, 1024])
@pytest.mark.parametrize("sign", [1, -1])
def test_as_many_of_the_largest_as_there_are_holders_do_not_overflow(
    count: int, sign: int
) -> None:
    scale = scale_for(count)
    one = to_ring(np.array([sign * LARGEST_CHANGE * 99], np.float32), scale)
    total = np.zeros(1, np.uint32)
    for _ in range(count):
        total += one
    found = float(mean_of(total, scale, count)[0])
    assert found == pytest.approx(sign * LARGEST_CHANGE, rel=1e-4)


def test_scales_are_powers_of_two_and_as_large_as_may_be() -> None:
    assert [scale_for(n) / 2**27 for n in (1, 2, 3, 4, 5)] == [
        1,
        1 / 2,
        1 / 4,
        1 / 4,
        1 / 8,
    ]
