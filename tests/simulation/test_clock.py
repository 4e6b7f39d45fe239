"""The virtual clock: who is in when a round closes, and for how long peers worked."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pfusion.simulation.clock import SPEED, Clock, times_told


def everybody(peer: int) -> bool:
    return True


def test_late_peers_go_on_and_are_in_later() -> None:
    clock = Clock([1.0, 1.0, 3.5])
    for peer in range(3):
        clock.begin(peer, 2 * SPEED)
    assert clock.close(2, everybody) == ([0, 1], [])
    assert (clock.now_s, clock.at_work) == (2.0, {2})
    assert clock.busy_s == 2 + 2 + 2
    for peer in (0, 1):
        clock.begin(peer, 2 * SPEED)
    assert clock.close(2, everybody) == ([0, 1], [])
    clock.begin(0, 10 * SPEED)
    clock.begin(1, 10 * SPEED)
    assert clock.close(1, everybody) == ([2], [])
    assert clock.now_s == 7.0
    told = times_told([clock, Clock([1.0] * 3)], 3)
    assert told == {"virtual_seconds": 7.0, "utilisation": 21 / (3 * 7)}


def test_who_does_not_count_does_not_close_a_round() -> None:
    clock = Clock([1.0] * 3)
    for peer in range(3):
        clock.begin(peer, (peer + 1) * SPEED)
    assert clock.close(2, lambda peer: peer != 0) == ([1, 2], [0])
    assert not clock.at_work
    clock.begin(0, SPEED)
    assert clock.close(5, everybody) == ([0], [])


def test_nobody_at_work_takes_no_time() -> None:
    assert times_told([Clock([1.0])], 1) == {"virtual_seconds": 0.0, "utilisation": 1.0}


works = st.lists(
    st.tuples(st.integers(1, 9), st.integers(1, 9), st.booleans()), min_size=1
)


@given(works, st.integers(1, 9))
def test_rounds_close_as_early_as_they_can(
    found: list[tuple[int, int, bool]], quorum: int
) -> None:
    """Against every instant tried, one after the other."""
    clock = Clock([float(slowness) for _, slowness, _ in found])
    for peer, (flops, _, _) in enumerate(found):
        clock.begin(peer, flops * SPEED)
    arrived, refused = clock.close(quorum, lambda peer: found[peer][2])
    finish = [flops * slowness for flops, slowness, _ in found]
    counting = [peer for peer, (_, _, counts) in enumerate(found) if counts]
    wanted = min(quorum, len(counting))
    instants = sorted(set(finish))
    closing = next(
        (t for t in instants if sum(finish[p] <= t for p in counting) >= quorum),
        instants[-1],
    )
    assert clock.now_s == closing
    assert len(arrived) == wanted and set(arrived) <= set(counting)
    assert all(finish[peer] <= closing for peer in [*arrived, *refused])
    assert set(refused).isdisjoint(counting)
    assert clock.at_work == set(range(len(found))) - {*arrived, *refused}
    assert clock.busy_s == pytest.approx(sum(min(t, closing) for t in finish))
