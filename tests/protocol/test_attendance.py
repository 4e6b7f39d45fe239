"""Who planned a round otherwise than most, by offers and by refusals."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from p2pfusion.protocol import events as e
from p2pfusion.protocol.attendance import Attendance
from p2pfusion.protocol.lateness import Lateness, Pace
from p2pfusion.protocol.messages import Offer, Refusal, SignedOffer
from p2pfusion.protocol.stragglers import Stragglers
from p2pfusion.split.plan import Hop
from tests.protocol.swarm import started

NAMES = tuple("abcdefg")
PLANS = (b"A" * 16, b"B" * 16)


def attendance(me: str, others: set[str]) -> Attendance:
    lateness = Lateness(minimum_s=1, maximum_s=9, mads=3)
    pace = Pace(lateness, 4, False, 1.0, Stragglers(3, 100, lateness.minimum_s))
    return Attendance(pace, others - {me}, True, 0.0, me=me, number=0)


@given(
    st.dictionaries(st.sampled_from(NAMES), st.booleans(), min_size=1),
    st.sets(st.sampled_from(NAMES)),
)
def test_of_two_plans_only_those_of_the_smaller_part_know_it(
    sides: dict[str, bool], silent: set[str]
) -> None:
    """``silent``: who has not offered yet; who made the other plan has refused."""
    parts = [{p for p in sides if sides[p] is side} for side in (False, True)]
    parts.sort(key=lambda part: (-len(part), min(part, default="")))
    for me, side in sides.items():
        known = attendance(me, set(sides))
        same = {p for p in sides if sides[p] is side}
        for peer in sides.keys() - {me}:
            if peer not in silent or peer in same:
                offer = Offer(0, PLANS[sides[peer]], 1, 0.0, 0.0, 0.0)
                known.offered(peer, offer, 1.0)
            if peer not in same:
                known.plans_otherwise(peer)
        assert known.is_minority(PLANS[side], me) is (me not in parts[0])


def test_who_does_not_train_in_the_round_has_no_voice() -> None:
    known = attendance("b", {"a", "b"})
    for stranger in ("c", "d", "e"):
        known.plans_otherwise(stranger)
    assert not known.is_minority(PLANS[0], "b")


def test_who_is_refused_by_most_while_they_train_catches_up() -> None:
    swarm = started(5, fraction="1/2", rounds=8)
    host = swarm.hosts["p1"]
    swarm.run(lambda: host.peer.round is not None and host.peer.round.number == 3)
    pulls = host.peer.exchange.pulls.of_hop(Hop.CONTRIBUTION)
    asked = {pull.stream.source for pull in pulls}
    assert len(asked) > 2, "it asks most"
    swarm.cut = lambda a, b, m: b == "p1" and isinstance(m, SignedOffer)
    for pull in pulls:
        swarm.event("p1", e.Received(pull.stream.source, Refusal(pull.number, "plan")))
    swarm.run(lambda: bool(host.reported("catching-up")))
    assert host.reported("catching-up")[0].details["why"] == (
        "planned with other facts than most"
    )
