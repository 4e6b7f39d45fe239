"""News of one member: a burst, then as often as peers compare."""

from __future__ import annotations

from fractions import Fraction

from hypothesis import given
from hypothesis import strategies as st

from p2pfusion.protocol import events as e
from p2pfusion.protocol.messages import Facts
from p2pfusion.protocol.pace import BURST, PER_SECOND, Pace
from tests.protocol.names import membership, record
from tests.protocol.swarm import Swarm, started

EIGHTHS = st.integers(0, 40).map(lambda number: number / 8)


@given(st.lists(st.tuples(st.sampled_from([b"a", b"b"]), EIGHTHS), max_size=80))
def test_a_burst_and_then_a_rate(story: list[tuple[bytes, float]]) -> None:
    pace, left = Pace(), dict[bytes, Fraction]()
    since: dict[bytes, Fraction] = {}
    now = Fraction(0)
    for key, pause_s in story:
        now += Fraction(pause_s)
        earned = (now - since.get(key, now)) * Fraction(PER_SECOND)
        tokens = min(Fraction(BURST), left.get(key, Fraction(BURST)) + earned)
        assert pace.may(key, float(now)) == (tokens >= 1)
        if tokens >= 1:
            pace.spend(key, float(now))
            left[key], since[key] = tokens - 1, now


def say(swarm: Swarm, number: int, later_s: float = 0.0) -> None:
    """p1 says something new of itself, to p0 alone."""
    said = record("p1", name=f"p1 {number}", sequence=1_000 + number)
    facts = Facts((membership(said, swarm.manifest.swarm_id),))
    peer = swarm.hosts["p0"].peer
    peer.handle(e.Received("p1", facts), swarm.now + later_s)


def test_of_a_member_that_always_has_news_little_is_taken_up() -> None:
    swarm = started(3, rounds=32)
    swarm.run_to(0.5)
    known = swarm.hosts["p0"].peer.gossip.facts.records
    for number in range(200):
        say(swarm, number)
    taken = int(known["p1"].name.split()[1])
    assert BURST // 2 < taken < BURST  # some of the burst it had said before
    # The newest of it is, once it is time.
    say(swarm, 200, later_s=1.0 / PER_SECOND)
    assert known["p1"].name == "p1 200"


def test_forged_news_takes_nothing_from_who_it_is_about() -> None:
    swarm = started(3, rounds=32)
    swarm.run_to(0.5)
    forged = membership(record("p1", sequence=999), swarm.manifest.swarm_id)
    signed = type(forged.record)(forged.record.payload, b"x" * 64)
    for _ in range(2 * BURST):
        facts = Facts((type(forged)(signed, forged.credential),))
        swarm.hosts["p0"].peer.handle(e.Received("p2", facts), swarm.now)
    say(swarm, 1)
    assert swarm.hosts["p0"].peer.gossip.facts.records["p1"].name == "p1 1"
