"""The adaptive deadline against its definition."""

from __future__ import annotations

import statistics

from hypothesis import given
from hypothesis import strategies as st

from p2pfusion.protocol.lateness import HISTORY, Lateness

delays = st.lists(st.floats(-5, 100), min_size=1, max_size=2 * HISTORY)


def test_without_history_it_waits_longest() -> None:
    assert Lateness(minimum_s=1, maximum_s=9, mads=3).wait_s() == 9


@given(delays)
def test_median_plus_deviations_within_bounds(seen: list[float]) -> None:
    lateness = Lateness(minimum_s=2.0, maximum_s=50.0, mads=4.0)
    for delay in seen:
        lateness.note(delay)
    recent = [max(0.0, delay) for delay in seen[-HISTORY:]]
    median = statistics.median(recent)
    mad = statistics.median([abs(delay - median) for delay in recent])
    expected = min(50.0, max(2.0, median + 4.0 * mad))
    assert lateness.wait_s() == expected
