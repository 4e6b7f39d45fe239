"""Who is accused, who answers, who is evicted, and how it comes back."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from p2pfusion.protocol import events as e
from p2pfusion.protocol.messages import Facts, Message
from p2pfusion.protocol.observers import circle
from p2pfusion.protocol.timing import TIMINGS
from tests.protocol.stage import Host
from tests.protocol.swarm import Swarm, small_manifest

TIMING = TIMINGS["local"]
EPOCH_ROUNDS = 4


class Sleepy(Swarm):
    """Hosts may be stopped, as by SIGSTOP: what is sent to them waits."""

    def __init__(self, *args: object, **named: object) -> None:
        super().__init__(*args, **named)  # type: ignore[arg-type]
        self.asleep: dict[str, list[Callable[[], None]]] = {}

    def event(self, name: str, event: e.Event) -> None:
        if name not in self.asleep:
            super().event(name, event)
        elif not isinstance(event, e.Tick):
            self.asleep[name].append(lambda: self.event(name, event))

    def wake(self, name: str) -> None:
        for action in self.asleep.pop(name):
            action()
        self.event(name, e.Tick())


def running(count: int, **changes: object) -> Sleepy:
    """A swarm that has come to its third round."""
    changes = {"rounds": 200, "rounds_per_epoch": EPOCH_ROUNDS, **changes}
    manifest = small_manifest(min_peers=count, network="local", **changes)
    swarm = Sleepy(manifest)
    for number in range(count):
        swarm.add(f"p{number}")
    swarm.found("p0")
    for number in range(1, count):
        swarm.join(f"p{number}", by="p0")
    reach(swarm, 2)
    return swarm


def alive(swarm: Swarm) -> list[Host]:
    return [host for host in swarm.hosts.values() if host.alive]


def reach(swarm: Swarm, round_index: int) -> None:
    """Until everybody who is there is in this round or beyond."""

    def is_there(host: Host) -> bool:
        return host.peer.course.round_index >= round_index

    swarm.run(lambda: all(map(is_there, alive(swarm))))


def epoch(swarm: Swarm, name: str = "p0") -> int:
    return swarm.hosts[name].peer.gossip.epoch(swarm.now)


def roster(host: Host, epoch: int) -> list[str]:
    return [member.peer for member in host.peer.gossip.facts.roster(epoch)]


def agree(swarm: Swarm) -> bool:
    """Whether all who are there know the same."""
    return len({host.peer.gossip.facts.digest for host in alive(swarm)}) == 1


def kinds(host: Host, *wanted: str) -> list[tuple[str, object]]:
    return [(r.kind, r.details["peer"]) for r in host.reports if r.kind in wanted]


# --- Eviction ------------------------------------------------------------------------


def test_a_dead_peer_is_out_of_the_roster_two_epochs_later() -> None:
    swarm = running(4)
    swarm.kill("p3")
    p0 = swarm.hosts["p0"]
    swarm.run(lambda: bool(p0.reported("accused")))
    said = epoch(swarm)
    swarm.run(lambda: bool(p0.reported("evicted")))
    out = p0.peer.gossip.facts.evicted["p3"]
    assert said + 2 <= out <= said + 3
    swarm.run(lambda: agree(swarm))
    for host in alive(swarm):
        assert roster(host, out - 1) == ["p0", "p1", "p2", "p3"]
        assert roster(host, out) == ["p0", "p1", "p2"]
        assert kinds(host, "evicted") == [("evicted", "p3")]
        assert p0.peer.gossip.why_absent("p3", swarm.now) == (
            f"out of the roster since epoch {out}"
            if epoch(swarm) >= out
            else p0.peer.gossip.detector.why_silent("p3", swarm.now)
        )
    swarm.run(lambda: epoch(swarm) > out)
    assert p0.peer.gossip.why_absent("p3", swarm.now) == (
        f"out of the roster since epoch {out}"
    )
    assert len(p0.reported("accused")) <= 3, "nobody says it twice"


def test_who_comes_back_too_late_joins_anew_two_epochs_later() -> None:
    swarm = running(4)
    swarm.kill("p3")
    p0 = swarm.hosts["p0"]
    swarm.run(lambda: bool(p0.reported("evicted")))
    out = p0.peer.gossip.facts.evicted["p3"]
    swarm.run(lambda: epoch(swarm) >= out)
    swarm.restart("p3")
    swarm.run(lambda: bool(p0.reported("rejoined")))
    back = p0.peer.gossip.facts.records["p3"].join_epoch
    assert back >= epoch(swarm) + 1
    swarm.run(lambda: epoch(swarm) >= back and agree(swarm))
    for host in alive(swarm):
        assert roster(host, back - 1) == ["p0", "p1", "p2"]
        assert roster(host, back) == ["p0", "p1", "p2", "p3"], "with the last rank"


def test_who_is_accused_but_there_says_so_and_keeps_its_rank() -> None:
    swarm = running(4, rounds_per_epoch=12)
    swarm.cut = lambda a, b, m: "p1" in (a, b)
    p0 = swarm.hosts["p0"]
    swarm.run(lambda: bool(p0.reported("accused")))
    swarm.cut = lambda a, b, m: False
    accused_in = epoch(swarm)
    swarm.run(lambda: bool(p0.reported("refuted")))
    assert epoch(swarm) < accused_in + 2
    swarm.run(lambda: epoch(swarm) >= accused_in + 3 and agree(swarm))
    for host in alive(swarm):
        assert roster(host, epoch(swarm)) == ["p0", "p1", "p2", "p3"]
        assert not host.peer.gossip.facts.evicted
    record = p0.peer.gossip.facts.records["p1"]
    assert record.incarnation == 1, "its sessions go on"


def test_who_cannot_reach_a_quorum_accuses_nobody() -> None:
    swarm = running(5)
    small = ("p1", "p4")
    swarm.cut = lambda a, b, m: (a in small) is not (b in small)
    swarm.run(lambda: len(swarm.hosts["p0"].reported("evicted")) == 2)
    swarm.run_to(swarm.now + 30)
    for name in small:
        assert not swarm.hosts[name].reported("accused")
    swarm.cut = lambda a, b, m: False
    swarm.run(lambda: len(swarm.hosts["p0"].reported("rejoined")) == 2)
    swarm.run(lambda: agree(swarm))
    back = max(swarm.hosts["p0"].peer.gossip.facts.records[p].join_epoch for p in small)
    assert sorted(roster(swarm.hosts["p0"], back)) == ["p0", "p1", "p2", "p3", "p4"]


# --- Who is not accused --------------------------------------------------------------


def test_a_link_that_is_cut_one_way_evicts_nobody_and_is_shown() -> None:
    swarm = running(5)
    swarm.cut = lambda a, b, m: (a, b) == ("p2", "p1")
    p1 = swarm.hosts["p1"].peer.gossip
    swarm.run_to(swarm.now + 40)
    for host in alive(swarm):
        assert not host.reported("accused") and not host.reported("evicted")
    assert kinds(swarm.hosts["p1"], "asymmetric") == [("asymmetric", "p2")]
    assert not p1.detector.is_online("p2", swarm.now)
    why = p1.why_absent("p2", swarm.now)
    assert why == "reachable by others, not from here"


def test_who_was_stopped_does_not_accuse_everybody_when_it_wakes() -> None:
    swarm = running(4)
    swarm.asleep["p2"] = []
    swarm.run_to(swarm.now + 20)
    swarm.asleep["p2"].clear()  # and nothing of it has arrived
    swarm.wake("p2")
    gossip = swarm.hosts["p2"].peer.gossip
    online = gossip.detector.online(swarm.now)
    assert online == ["p0", "p1", "p3"], "who sleeps does not judge"
    swarm.run_to(swarm.now + 20)
    assert not any(
        report.details["by"] == "p2"
        for host in alive(swarm)
        for report in host.reported("accused")
    )


def test_two_of_two_cannot_evict_each_other() -> None:
    swarm = running(2)
    swarm.cut = lambda a, b, m: True
    swarm.run_to(swarm.now + 60)
    assert swarm.hosts["p0"].reported("accused"), "the lowest rank decides"
    assert not swarm.hosts["p1"].reported("accused")


# --- News ----------------------------------------------------------------------------


def test_lost_accusations_come_with_the_digests() -> None:
    swarm = running(4)

    def loses(a: str, b: str, message: Message) -> bool:
        return b == "p2" and isinstance(message, Facts) and bool(message.accusations)

    swarm.cut = loses
    swarm.kill("p3")
    swarm.run(lambda: bool(swarm.hosts["p0"].reported("evicted")))
    p2 = swarm.hosts["p2"]
    assert {r.details["by"] for r in p2.reported("accused")} <= {"p2"}
    swarm.cut = lambda a, b, m: False
    swarm.run(lambda: agree(swarm), limit_s=5.0)
    assert len(p2.peer.gossip.facts.accusers("p3")) >= 2


# --- The user's word -----------------------------------------------------------------


def test_who_leaves_is_out_of_the_roster_from_its_epoch_on() -> None:
    swarm = running(3)
    now = epoch(swarm)
    swarm.event("p2", e.Leave())
    swarm.run(lambda: bool(swarm.hosts["p0"].reported("left")))
    assert roster(swarm.hosts["p0"], now + 1) == ["p0", "p1", "p2"]
    assert roster(swarm.hosts["p0"], now + 2) == ["p0", "p1"]
    swarm.run(lambda: epoch(swarm) > now + 2)
    assert not swarm.hosts["p0"].reported("accused")


def test_a_new_fraction_counts_from_an_epoch_that_lies_ahead() -> None:
    swarm = running(3)
    now = epoch(swarm)
    swarm.event("p2", e.ChangeFraction("1/4"))
    swarm.run(lambda: agree(swarm), limit_s=5.0)
    facts = swarm.hosts["p0"].peer.gossip.facts
    assert str(facts.fraction("p2", now + 1)) == "1/2"
    assert str(facts.fraction("p2", now + 2)) == "1/4"
    swarm.event("p2", e.ChangeFraction("1"))
    swarm.run_to(swarm.now + 1)
    assert str(facts.fraction("p2", now + 1)) == "1/2", "what counts now stays"
    assert str(facts.fraction("p2", now + 9)) == "1"


def test_an_admin_declares_the_majority_lost_and_has_a_quorum_again() -> None:
    swarm = running(5)
    for name in ("p1", "p2", "p3"):
        swarm.kill(name)
    p0 = swarm.hosts["p0"]
    swarm.run_to(swarm.now + 20)
    assert not p0.reported("accused") and not p0.peer.suspicion.has_quorum(swarm.now)
    swarm.event("p4", e.Recover(("p1",), "no admin"))
    swarm.event("p0", e.Recover(("p1", "p2", "p3"), "the flood"))
    swarm.run_to(swarm.now + 2)
    for name in ("p0", "p4"):
        host = swarm.hosts[name]
        assert host.peer.suspicion.has_quorum(swarm.now)
        (report,) = host.reported("recovered")
        assert report.details["peers"] == ("p1", "p2", "p3")


# --- Large swarms --------------------------------------------------------------------


@pytest.fixture
def small_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a swarm of a hundred does, one of eight does from now on."""
    monkeypatch.setattr("p2pfusion.protocol.spread.MAX_FLOODED", 3)
    for module in ("observers", "fold", "meeting"):
        monkeypatch.setattr(f"p2pfusion.protocol.{module}.OBSERVERS", 4)


@pytest.mark.usefixtures("small_bounds")
def test_in_a_large_swarm_a_few_observers_evict() -> None:
    swarm = running(8)
    p0 = swarm.hosts["p0"]
    assert {len(host.peer.gossip.detector.probed) for host in alive(swarm)} == {4}
    swarm.kill("p5")
    swarm.run(lambda: all(h.reported("evicted") for h in alive(swarm)))
    assert len(p0.peer.gossip.facts.accusers("p5")) <= 4
    out = p0.peer.gossip.facts.evicted["p5"]
    swarm.run(lambda: epoch(swarm) > out and agree(swarm))
    swarm.restart("p5")
    swarm.run(lambda: all(h.reported("rejoined") for h in alive(swarm)), limit_s=60.0)
    back = p0.peer.gossip.facts.records["p5"].join_epoch
    swarm.run(lambda: epoch(swarm) > back)
    for host in alive(swarm):
        assert "p5" in roster(host, back) and "p5" not in roster(host, back - 1)
    assert p0.sealed[-1]["contributors"], "and rounds go on"


def storm() -> tuple[Sleepy, str, list[str]]:
    """A swarm of eight, one of them, and the six that follow it on the circle of
    observers: newcomers, who are in no roster yet."""
    swarm = running(8, rounds_per_epoch=20)
    some = (f"p{number}" for number in range(8 + 8 * 5 + 1))  # six of them in a row
    around = [peer for _, peer in circle(swarm.manifest.swarm_id, some)]
    following: dict[str, list[str]] = {name: [] for name in swarm.hosts}
    member = [peer for peer in around if peer in following][-1]
    for peer in around:
        if peer in following:
            member = peer
        else:
            following[member].append(peer)
    member, newcomers = max(following.items(), key=lambda each: len(each[1]))
    for name in newcomers[:6]:
        swarm.add(name)
        swarm.join(name, by="p0")
    swarm.run(lambda: agree(swarm))
    there = [len(roster(swarm.hosts["p0"], number)) for number in (1, 2)]
    assert there == [8, 14]
    return swarm, member, newcomers[:6]


def is_out(swarm: Swarm, peer: str, since: int) -> Callable[[], bool]:
    """Whether all who are there have evicted a peer from this epoch on."""
    return lambda: all(
        host.peer.gossip.facts.evicted.get(peer) == since for host in alive(swarm)
    )


@pytest.mark.usefixtures("small_bounds")
def test_newcomers_are_watched_by_those_who_decide_while_they_wait() -> None:
    swarm, _, newcomers = storm()
    swarm.kill(newcomers[2])
    swarm.run(is_out(swarm, newcomers[2], 2), limit_s=20.0)
    assert epoch(swarm) == 0, "nobody had to wait until newcomers decide"


@pytest.mark.usefixtures("small_bounds")
def test_newcomers_accuse_in_the_epoch_before_they_decide() -> None:
    swarm, member, newcomers = storm()
    swarm.run(lambda: all(epoch(swarm, host.name) == 1 for host in alive(swarm)))
    swarm.kill(member)
    swarm.run(is_out(swarm, member, 3), limit_s=20.0)
    assert epoch(swarm, newcomers[0]) == 1, "nor until they are in"


@pytest.mark.usefixtures("small_bounds")
def test_in_a_large_swarm_offers_go_to_those_whom_they_concern() -> None:
    swarm = running(8, rounds=5)
    swarm.run_until_done()
    for host in alive(swarm):
        assert len(host.sealed) == 5
        for round_ in host.sealed:
            assert round_["missing"] == [] and round_["stale_ranges"] == 0, round_
