"""What a user decides about the own stay."""

from __future__ import annotations

import pytest

from p2pfusion.errors import ConfigError
from p2pfusion.protocol import events as e
from p2pfusion.protocol.messages import NEVER
from p2pfusion.protocol.standing import Standing
from tests.protocol.swarm import Swarm, small_manifest
from tests.protocol.test_suspicion import agree, epoch, roster, running


def test_who_has_left_may_come_back_as_a_newcomer() -> None:
    swarm = running(3)
    swarm.event("p2", e.Leave())
    gossip = swarm.hosts["p2"].peer.gossip
    left = gossip.record.leave_epoch
    swarm.event("p2", e.Leave())
    assert gossip.record.leave_epoch == left, "it has said so"
    swarm.run(lambda: epoch(swarm) > left)
    swarm.event("p2", e.JoinBy(swarm.way("p0")))
    assert gossip.record.leave_epoch == NEVER
    back = gossip.record.join_epoch
    assert back >= epoch(swarm) + 1
    swarm.run(lambda: bool(swarm.hosts["p0"].reported("rejoined")))
    swarm.run(lambda: epoch(swarm) >= back and agree(swarm))
    facts = swarm.hosts["p0"]
    assert roster(facts, back - 1) == ["p0", "p1"]
    assert roster(facts, back) == ["p0", "p1", "p2"]


@pytest.mark.parametrize("wait_s", [0.0, 1.0, 3.0])
def test_who_was_put_out_may_leave_as_well(wait_s: float) -> None:
    swarm = running(4)
    swarm.asleep["p2"] = []
    founder, p2 = swarm.hosts["p0"], swarm.hosts["p2"]
    swarm.run(lambda: bool(founder.reported("evicted")))
    out = founder.peer.gossip.facts.evicted["p2"]
    swarm.run(lambda: epoch(swarm) >= out)
    swarm.wake("p2")
    swarm.run_to(swarm.now + wait_s)
    swarm.event("p2", e.Leave())
    left = p2.peer.gossip.record.leave_epoch
    swarm.run(lambda: p2.peer.standing is Standing.LEFT, limit_s=30.0)
    assert epoch(swarm) - left <= 1
    assert "p2" not in roster(founder, left)


def waiting() -> Swarm:
    """Two of three members that the founder waits for."""
    swarm = Swarm(small_manifest(min_peers=3))
    for name in ("p0", "p1"):
        swarm.add(name)
    swarm.found("p0")
    swarm.join("p1", by="p0")
    swarm.run_to(2.0)
    return swarm


def test_before_the_start_all_of_it_counts_at_once() -> None:
    swarm = waiting()
    swarm.event("p1", e.ChangeFraction("1/4"))
    record = swarm.hosts["p1"].peer.gossip.record
    assert (record.split_fraction, record.former_fraction) == ("1/4", "")
    swarm.event("p1", e.Leave())
    assert swarm.hosts["p1"].peer.gossip.record.leave_epoch == 0
    swarm.event("p1", e.JoinBy(swarm.way("p0")))
    assert swarm.hosts["p1"].peer.gossip.record.leave_epoch == NEVER


def test_nonsense_is_no_fraction_and_no_change_is_no_news() -> None:
    swarm = waiting()
    before = swarm.hosts["p1"].peer.gossip.record
    swarm.event("p1", e.ChangeFraction(before.split_fraction))
    with pytest.raises(ConfigError):
        swarm.event("p1", e.ChangeFraction("x"))
    assert swarm.hosts["p1"].peer.gossip.record == before


def test_without_a_swarm_there_is_nothing_to_leave() -> None:
    swarm = waiting()
    swarm.add("p7")
    for event in (e.Leave(), e.Recover(("p0",), "why")):
        swarm.event("p7", event)
    assert not swarm.hosts["p7"].reports


def test_a_fraction_that_changes_at_the_door_is_what_the_newcomer_enters_with() -> None:
    swarm = waiting()
    swarm.add("p7")
    swarm.event("p7", e.ChangeFraction("1/4"))
    swarm.event("p7", e.JoinBy(swarm.way("p0")))
    facts = swarm.hosts["p0"].peer.gossip.facts
    swarm.run(lambda: "p7" in facts.records)
    assert facts.records["p7"].split_fraction == "1/4"
