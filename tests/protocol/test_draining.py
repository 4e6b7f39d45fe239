"""Ending: after the present round, or for good."""

from __future__ import annotations

from p2pfusion.protocol import events as e
from p2pfusion.protocol.course import Standing
from p2pfusion.protocol.draining import DRAIN_PATIENCE_S
from p2pfusion.protocol.messages import StreamStart
from p2pfusion.protocol.waiting import waiting_for
from tests.protocol.swarm import started


def test_who_drains_finishes_the_round_and_enters_no_other() -> None:
    swarm = started(4, rounds=10)
    swarm.run_to(3.4)
    host = swarm.hosts["p2"]
    number = host.peer.course.round_index
    swarm.event("p2", e.Drain())
    swarm.run(lambda: bool(host.reported("drained")))
    assert host.peer.standing is Standing.DRAINED
    assert host.sealed[-1]["round"] == number == max(host.plans)
    assert waiting_for(host.peer, swarm.now) == {}
    assert not host.peer.exchange.owes()
    swarm.event("p2", e.Stopping())
    swarm.kill("p2")
    swarm.run_until_done()
    for name in ("p0", "p1", "p3"):
        (details,) = [d for d in swarm.hosts[name].sealed if d["round"] == number]
        assert "p2" in details["contributors"] and not details["missing"]
        assert details["stale_ranges"] == 0


def test_who_drains_does_not_wait_for_ever_for_one_that_takes_nothing() -> None:
    swarm = started(4, rounds=10)
    swarm.run_to(3.4)
    host = swarm.hosts["p2"]
    swarm.event("p2", e.Drain())
    swarm.cut = lambda a, b, m: a == "p2" and b == "p0" and isinstance(m, StreamStart)
    swarm.run(lambda: host.peer.standing is Standing.DRAINED)
    ended = swarm.now
    swarm.run(lambda: bool(host.reported("drained")))
    assert swarm.now <= ended + DRAIN_PATIENCE_S + 1


def test_who_is_in_no_round_is_drained_at_once() -> None:
    swarm = started(2, rounds=2)
    swarm.run_until_done()
    swarm.event("p1", e.Drain())
    assert swarm.hosts["p1"].reported("drained")
