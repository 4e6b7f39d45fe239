"""A swarm in which one goes on without another: rounds, streams, and the way back."""

from __future__ import annotations

import pytest

from p2pfusion.protocol import events as e
from p2pfusion.protocol.messages import Request
from p2pfusion.protocol.offences import HALF_LIFE_ROUNDS
from tests.protocol.swarm import Swarm
from tests.protocol.test_exchange import running

NAN = "a received value is not a finite number"


def round_of(swarm: Swarm, name: str = "p0") -> int:
    round_ = swarm.hosts[name].peer.round
    assert round_ is not None
    return round_.number


def next_round(swarm: Swarm) -> None:
    number = round_of(swarm)
    swarm.run(lambda: round_of(swarm) > number)


def quarantined(**changes: object) -> Swarm:
    """p0 has caught p3 twice, in two rounds; nobody else has."""
    swarm = running(4, at=1.5, **changes)
    for _ in range(2):
        assert not swarm.hosts["p0"].peer.gossip.quarantine.peers
        swarm.event("p0", e.Misbehaved("p3", NAN, "values"))
        next_round(swarm)
    return swarm


def asked_by(swarm: Swarm, name: str) -> set[str]:
    """Whom a peer asks for anything from now on, noted as the swarm runs."""
    asked: set[str] = set()

    def watch(who: str, what: e.Event | e.Effect, mark: str) -> None:
        if who == name and isinstance(what, e.Send):
            request = what.message
            if isinstance(request, Request) and request.limit > request.offset:
                asked.add(what.peer)

    swarm.watch = watch
    return asked


def test_rounds_go_on_without_whom_this_peer_has_caught() -> None:
    swarm = quarantined(rounds=12)
    since, asked = round_of(swarm), asked_by(swarm, "p0")
    (report,) = swarm.hosts["p0"].reported("quarantined")
    assert (report.details["peer"], report.details["why"]) == ("p3", NAN)
    swarm.run_until_done()
    assert "p3" not in asked and asked == {"p1", "p2"}
    for details in swarm.hosts["p0"].sealed[since:]:
        assert "p3" not in details["contributors"]
        missing = {each["peer"]: each["reason"] for each in details["missing"]}
        assert missing["p3"] == f"quarantined: {NAN}"
        assert not details["stale_ranges"]
    for name in ("p1", "p2", "p3"):
        host = swarm.hosts[name]
        assert not host.peer.gossip.quarantine.peers, "it is p0's own judgement"
        assert [d["round"] for d in host.sealed] == list(range(12))


def test_a_pardon_brings_it_back_with_the_next_round() -> None:
    swarm = quarantined(rounds=12)
    swarm.event("p0", e.Pardon("p3"))
    assert len(swarm.hosts["p0"].reported("pardoned")) == 1
    next_round(swarm)
    number = round_of(swarm)
    asked = asked_by(swarm, "p0")
    swarm.run_until_done()
    assert "p3" in asked
    for details in swarm.hosts["p0"].sealed[number:]:
        assert "p3" in details["contributors"] and not details["missing"]


def test_it_is_back_by_itself_when_enough_has_faded() -> None:
    swarm = quarantined(rounds=3 * HALF_LIFE_ROUNDS)
    since = round_of(swarm)
    swarm.run(lambda: bool(swarm.hosts["p0"].reported("pardoned")))
    assert since + HALF_LIFE_ROUNDS <= round_of(swarm) + 1 <= since + 30
    swarm.run_until_done()
    assert "p3" in swarm.hosts["p0"].sealed[-1]["contributors"]


def test_what_others_find_out_counts_as_well() -> None:
    """Values far from the others', in four rounds."""
    swarm = running(4, at=1.5, rounds=12)
    for _ in range(4):
        assert not swarm.hosts["p0"].peer.gossip.quarantine.peers
        swarm.event("p0", e.Caught("p3", "outlying", "far from p1 and p2"))
        next_round(swarm)
    assert swarm.hosts["p0"].peer.gossip.quarantine.peers == {"p3"}


@pytest.mark.parametrize("peer", ["p0", "nobody", "guest 00"])
def test_only_other_members_are_judged(peer: str) -> None:
    swarm = running(4, at=1.5)
    swarm.event("p0", e.Caught(peer, "digest", "other bytes"))
    assert not swarm.hosts["p0"].peer.gossip.quarantine.offences.charges


def test_what_says_nothing_about_a_peer_is_not_held_against_it() -> None:
    swarm = running(4, at=1.5)
    swarm.event("p0", e.Misbehaved("p3", "data without a session", ""))
    assert len(swarm.hosts["p0"].reported("protocol-error")) == 1
    assert not swarm.hosts["p0"].peer.gossip.quarantine.offences.charges


def test_two_that_are_left_go_on_when_one_is_caught() -> None:
    """Nobody else could do the other's part: this peer does it itself."""
    swarm = running(2, at=1.5, rounds=8)
    for _ in range(2):
        swarm.event("p0", e.Misbehaved("p1", NAN, "values"))
        next_round(swarm)
    swarm.run_until_done()
    rounds = [details["round"] for details in swarm.hosts["p0"].sealed]
    assert rounds == list(range(8))
    assert swarm.hosts["p0"].sealed[-1]["contributors"] == ["p0"]
