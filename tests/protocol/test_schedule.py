"""Members that have no part in a round: put out, or gone by themselves."""

from __future__ import annotations

from p2pfusion.protocol import events as e
from p2pfusion.protocol.course import Standing
from p2pfusion.protocol.messages import Facts
from tests.protocol.swarm import Swarm, started


def renewed(swarm: Swarm, name: str, **changes: int) -> None:
    """The peer says something new of itself, and everybody hears it."""
    gossip = swarm.hosts[name].peer.gossip
    gossip._renew(**changes)
    news = Facts((gossip.membership(),))
    gossip.facts.merge(news)
    for other in set(swarm.hosts) - {name}:
        swarm.event(other, e.Received(name, news))


def test_who_leaves_gives_what_it_has_and_enters_no_later_epoch() -> None:
    swarm = started(4, rounds=16, fraction="1/4")
    swarm.run_to(3.4)
    renewed(swarm, "p2", leave_epoch=4)
    swarm.run(lambda: swarm.hosts["p2"].peer.standing is Standing.LEFT)
    left = swarm.hosts["p2"]
    assert max(left.plans) == 7 == left.sealed[-1]["round"]
    swarm.run(lambda: bool(left.reported("drained")))
    swarm.kill("p2")
    swarm.run(lambda: swarm.hosts["p0"].peer.course.round_index == 9)
    homes = swarm.hosts["p0"].homes[9]
    names = [name for name in homes.peers if name != "p2"]
    for index, version in enumerate(homes.version):
        copies = homes.copies(index, names).sum(axis=0)
        assert (copies[version > 0] >= 2).all()
    swarm.run_until_done()
    for name in ("p0", "p1", "p3"):
        assert all(d["stale_ranges"] == 0 for d in swarm.hosts[name].sealed)


def test_who_is_in_no_roster_waits_for_its_new_epoch() -> None:
    swarm = started(4, rounds=24)
    swarm.run_to(3.4)
    renewed(swarm, "p2", join_epoch=6)
    host = swarm.hosts["p2"]
    swarm.run(lambda: bool(host.reported("outside")))
    entered = max(host.plans)
    swarm.run(lambda: swarm.hosts["p0"].peer.course.round_index == 9)
    assert max(host.plans) == entered, "it races through no rounds"
    swarm.run_until_done()
    assert next(number for number in host.trained if number > entered) == 12
    assert host.trained[-1] == 23
    assert swarm.hosts["p0"].sealed[-1]["contributors"] == ["p0", "p1", "p2", "p3"]


def test_one_put_out_while_it_was_away_enters_no_round_when_it_is_back() -> None:
    swarm = started(4, rounds=24)
    swarm.run_to(3.4)
    swarm.kill("p2")
    swarm.run_to(6)
    swarm.restart("p2")
    host = swarm.hosts["p2"]
    renewed(swarm, "p2", join_epoch=8)
    swarm.run(lambda: swarm.hosts["p0"].peer.course.round_index == 13)
    assert not host.plans
    swarm.run_until_done()
    assert min(host.plans) == 15 and host.trained[-1] == 23
