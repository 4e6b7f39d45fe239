"""How long fused values are waited for: as such took, and longer after each mistake."""

from __future__ import annotations

import pytest

from p2pfusion.protocol.attendance import AMPLE, GRACE_S, Attendance
from p2pfusion.protocol.lateness import Lateness, Pace
from p2pfusion.protocol.messages import Offer
from p2pfusion.protocol.stragglers import Stragglers
from p2pfusion.protocol.stream import StreamKey
from p2pfusion.protocol.transfer import Pull
from p2pfusion.split.plan import Hop

MINIMUM_S, MAXIMUM_S = 2.0, 500.0


def pace() -> Pace:
    lateness = Lateness(minimum_s=MINIMUM_S, maximum_s=MAXIMUM_S, mads=3.0)
    lateness.note(0.0)  # offers come at once
    return Pace(lateness, 4, True, 1.0, Stragglers(3, 100, lateness.minimum_s))


def attending(pace: Pace, at: float) -> Attendance:
    """A round in which all have offered at an instant."""
    attendance = Attendance(pace, {"b", "c"}, True, at, me="a", number=0)
    attendance.own(at, trained=False)
    for peer in ("b", "c"):
        attendance.offered(peer, Offer(0, bytes(16), 5, 1.0, 1.0, 1.0), at)
    return attendance


def pull(hop: Hop = Hop.FUSED, instead_of: str = "") -> Pull:
    key = StreamKey(hop.value, 0, "b", "a", instead_of)
    return Pull(1, key, bytes(16), 100, 0.0)


def test_before_anything_is_known_it_waits_longest() -> None:
    due = attending(pace(), 10.0).due(pull())
    assert due == 10.0 + MAXIMUM_S + GRACE_S


@pytest.mark.parametrize("took_s", [0.1, 30.0])
@pytest.mark.parametrize("hop", [Hop.FUSED, Hop.HOME])
def test_what_took_long_in_this_round_is_given_that_in_the_next(
    took_s: float, hop: Hop
) -> None:
    known = pace()
    first = attending(known, 10.0)
    first.fused(pull().stream, 10.0 + took_s)
    wait_s = max(MINIMUM_S, AMPLE * took_s)
    due = attending(known, 100.0).due(pull(hop))
    assert due == pytest.approx(100.0 + wait_s + GRACE_S)


def test_each_giving_up_makes_the_next_wait_longer_up_to_the_maximum() -> None:
    known = pace()
    known.fusing.note(0.0)
    waits, now = [], 0.0
    for _ in range(20):
        attendance = attending(known, now)
        due = attendance.due(pull())
        assert due is not None
        waits.append(due - now)
        attendance.given_up(pull(), due)
        now = due
    assert waits == sorted(waits)
    assert waits[0] == MINIMUM_S + GRACE_S and waits[-1] == MAXIMUM_S + GRACE_S


def test_of_backups_and_of_what_has_begun_nothing_is_noted() -> None:
    known = pace()
    attendance = attending(known, 0.0)
    attendance.fused(pull(instead_of="c").stream, 50.0)
    begun = pull()
    begun.opened = True
    attendance.given_up(begun, 50.0)
    attendance.given_up(pull(Hop.CONTRIBUTION), 50.0)
    assert known.fusing.measured() is None


def test_a_reducer_that_has_not_offered_is_waited_for_like_anybody_else() -> None:
    known = pace()
    attendance = Attendance(known, {"b", "c"}, True, 0.0, me="a", number=0)
    attendance.own(10.0, trained=False)
    attendance.offered("c", Offer(0, bytes(16), 5, 1.0, 1.0, 1.0), 10.0)
    assert attendance.due(pull()) == 10.0 + MINIMUM_S + GRACE_S
    attendance.given_up(pull(), 14.0)
    assert known.fusing.measured() is None


def test_who_has_not_offered_yet_measures_nothing() -> None:
    known = pace()
    attendance = Attendance(known, {"b"}, True, 0.0, me="a", number=0)
    attendance.fused(pull().stream, 50.0)
    assert known.fusing.measured() is None
