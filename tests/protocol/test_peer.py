"""Whole swarms of real peers in virtual time: with nothing wrong, and with faults.

``Swarm`` asserts at every effect that nothing is fused, sealed or trained twice.
"""

from __future__ import annotations

import hashlib
import os
import random
import subprocess
import sys
from pathlib import Path

import pytest

from p2pfusion.protocol import events as e
from p2pfusion.protocol.course import Standing
from p2pfusion.protocol.facts import FactSet
from p2pfusion.protocol.messages import Chunk, Message, Pong
from p2pfusion.protocol.planning import PLANNER
from p2pfusion.protocol.timing import DEFAULT_TIMING
from p2pfusion.split.plan import Hop
from tests.protocol.names import NAMES
from tests.protocol.swarm import Network, Swarm, started


def sealed_rounds(swarm: Swarm, name: str) -> list[object]:
    return [details["round"] for details in swarm.hosts[name].sealed]


def trained_with_others(swarm: Swarm, name: str) -> list[int]:
    """The rounds to which all the others know that this peer contributed."""
    others = [host for other, host in swarm.hosts.items() if other != name]
    rounds = [
        {d["round"] for d in host.sealed if name in d["contributors"]}
        for host in others
        if host.alive
    ]
    return sorted(set.intersection(*rounds))


def nobody_is_missing(swarm: Swarm, *, since: int = 0) -> None:
    everybody = sorted(swarm.hosts)
    for host in swarm.hosts.values():
        for details in host.sealed:
            if details["round"] >= since:
                assert details["contributors"] == everybody, (host.name, details)
                assert details["missing"] == [] and details["stale_ranges"] == 0


# --- Nothing goes wrong --------------------------------------------------------------


@pytest.mark.parametrize("count", [1, 2, 4, 8])
def test_every_round_is_sealed_with_everybody(count: int) -> None:
    swarm = started(count)
    swarm.run_until_done()
    for name in swarm.hosts:
        assert sealed_rounds(swarm, name) == list(range(6))
        assert swarm.hosts[name].trained == list(range(6))
        assert len(swarm.hosts[name].reported("done")) == 1
    nobody_is_missing(swarm)
    assert swarm.now < 6 * 1.2, "rounds take little longer than the training"


@pytest.mark.parametrize("count", [1, 2, 4, 8])
def test_what_is_sent_and_received_is_what_the_plan_says(count: int) -> None:
    swarm = started(count)
    swarm.run_until_done()
    hops = (Hop.CONTRIBUTION, Hop.FUSED, Hop.HOME)
    for host in swarm.hosts.values():
        for number, plan in host.plans.items():
            planned = {
                e.StreamKey(hop.value, number, source, host.name)
                for hop in hops
                for source in plan.sources(hop, host.name)
            }
            received = host.received.get(number, [])
            assert len(received) == len(set(received))
            assert set(received) == planned
            assert host.sent_elements[number] == plan.elements_sent(host.name)


def test_all_plan_the_same() -> None:
    swarm = started(4, planner=PLANNER)  # each of them for itself
    swarm.run_until_done()
    digests = [
        {number: plan.digest for number, plan in host.plans.items()}
        for host in swarm.hosts.values()
    ]
    assert all(each == digests[0] for each in digests) and len(digests[0]) == 7


@pytest.mark.parametrize("fraction", ["1", "1/4", "0.03125"])
def test_all_train_together_at_any_fraction(fraction: str) -> None:
    swarm = started(3, fraction=fraction)
    swarm.run_until_done()
    nobody_is_missing(swarm)


# --- Peers die and come back ---------------------------------------------------------


@pytest.mark.parametrize("seed", range(6))
def test_peers_killed_and_restarted_at_random_come_back(seed: int) -> None:
    chance = random.Random(seed)
    swarm = started(5, rounds=24)
    back: list[str] = []
    for victim in chance.sample(sorted(swarm.hosts), 2):
        killed_at = chance.uniform(0.5, 8.0)
        swarm.at(killed_at, lambda victim=victim: swarm.kill(victim))

        def restart(victim: str = victim) -> None:
            swarm.restart(victim)
            back.append(victim)

        swarm.at(killed_at + chance.uniform(0.2, 9.0), restart)
    swarm.run(lambda: len(back) == 2)
    swarm.run_until_done()
    for victim in back:
        host = swarm.hosts[victim]
        assert host.incarnation == 2
        assert all(
            other.peer.gossip.facts.records[victim].incarnation == 2
            for other in swarm.hosts.values()
        )
        assert trained_with_others(swarm, victim)[-5:] == [19, 20, 21, 22, 23]
    nobody_is_missing(swarm, since=20)


def test_nobody_waits_for_the_dead_longer_than_it_takes_to_notice() -> None:
    swarm = started(4, rounds=12)
    swarm.at(3.5, lambda: swarm.kill("p2"))
    swarm.run_until_done()
    for name in ("p0", "p1", "p3"):
        seconds = {d["round"]: d["seconds"] for d in swarm.hosts[name].sealed}
        assert sorted(seconds) == list(range(12))
        assert max(seconds.values()) < DEFAULT_TIMING.silence_s + 2.5
        assert all(seconds[number] < 1.2 for number in range(6, 12))
        reasons = [d["missing"] for d in swarm.hosts[name].sealed if d["round"] == 9]
        assert [m["peer"] for m in reasons[0]] == ["p2"]
        assert "silent" in reasons[0][0]["reason"]


def test_who_comes_back_catches_up_and_trains_again() -> None:
    swarm = started(4, rounds=14)
    back: list[bool] = []
    swarm.at(3.5, lambda: swarm.kill("p2"))
    swarm.at(9.0, lambda: (swarm.restart("p2"), back.append(True)))
    swarm.run(lambda: bool(back))
    swarm.run_until_done()
    host = swarm.hosts["p2"]
    (report,) = host.reported("catching-up")
    assert report.details["why"] == "back after a restart"
    first = min(host.plans)
    hops = {stream.hop for stream in host.received[first]}
    assert first not in host.trained and Hop.CATCH_UP in hops
    assert host.trained == list(range(first + 1, 14))
    nobody_is_missing(swarm, since=first + 1)


def test_one_that_is_back_before_the_round_ends_goes_on_from_its_disk() -> None:
    swarm = started(3, rounds=8)
    back: list[bool] = []
    swarm.at(3.5, lambda: swarm.kill("p1"))
    swarm.at(3.6, lambda: (swarm.restart("p1"), back.append(True)))
    swarm.run(lambda: bool(back))
    swarm.run_until_done()
    assert swarm.hosts["p1"].trained == list(range(3, 8))
    assert not swarm.hosts["p1"].reported("catching-up")
    nobody_is_missing(swarm, since=4)


def test_everybody_restarts_and_the_swarm_goes_on() -> None:
    swarm = started(4, rounds=10)
    back: list[bool] = []

    def restart_all() -> None:
        for name in list(swarm.hosts):
            swarm.kill(name)
        for name in list(swarm.hosts):
            swarm.restart(name)
        back.append(True)

    swarm.at(4.5, restart_all)
    swarm.run(lambda: bool(back))
    swarm.run_until_done()
    for name, host in swarm.hosts.items():
        assert sealed_rounds(swarm, name) == list(range(10))
        assert host.trained == list(range(4, 10))
    nobody_is_missing(swarm)


def test_everybody_restarts_in_the_moment_of_sealing() -> None:
    """Some sealed the round and some did not: the others catch up with them."""
    swarm = started(4, rounds=10)
    back: list[bool] = []

    def restart_all() -> None:
        for name in list(swarm.hosts):
            swarm.kill(name)
            swarm.restart(name)
        back.append(True)

    def some_sealed() -> bool:
        saved = [(host.saved or (0,))[0] for host in swarm.hosts.values()]
        return set(saved) == {3, 4}

    swarm.run(some_sealed)
    restart_all()
    swarm.run_until_done()
    nobody_is_missing(swarm, since=7)


def test_a_restarted_peer_saves_what_it_knew() -> None:
    swarm = started(3, rounds=6)
    swarm.run(lambda: swarm.now > 2.0)
    old = swarm.hosts["p1"].peer.exchange.pulls
    swarm.kill("p1")
    swarm.restart("p1")
    new = swarm.hosts["p1"].peer.exchange.pulls
    assert new._next_number > old._next_number + 1_000_000, "late chunks would fit"
    saved = FactSet(NAMES, swarm.manifest)
    for facts in swarm.hosts["p1"].facts:
        saved.merge(facts)
    assert saved.records.keys() == {"p0", "p1", "p2"}
    assert saved.records["p1"].incarnation == 2
    assert saved.start == ("p0", "p1", "p2")


# --- Cut off, slow, stopped ----------------------------------------------------------


def is_apart(*names: str):
    """A cut between some peers and the rest."""

    def cut(sender: str, receiver: str, message: Message) -> bool:
        return (sender in names) is not (receiver in names)

    return cut


def all_in_one_round_at_the_end(swarm: Swarm, since: int) -> None:
    swarm.run_until_done()
    nobody_is_missing(swarm, since=since)
    for host in swarm.hosts.values():
        assert host.trained[-3:] == [21, 22, 23]


@pytest.mark.parametrize("apart", [("p3",), ("p2", "p3")])
def test_after_a_partition_all_are_in_one_round(apart: tuple[str, ...]) -> None:
    swarm = started(4, rounds=24, partition_policy="fork")
    swarm.hosts["p3"].training_s = 1.3
    swarm.at(5.2, lambda: setattr(swarm, "cut", is_apart(*apart)))
    swarm.at(14.2, lambda: setattr(swarm, "cut", lambda a, b, m: False))
    swarm.run(lambda: swarm.now > 12)
    lonely = swarm.hosts["p3"].sealed[-1]
    missing = {entry["peer"] for entry in lonely["missing"]}
    assert missing == set(swarm.hosts) - set(apart)
    all_in_one_round_at_the_end(swarm, since=18)


def test_after_a_one_way_cut_all_are_in_one_round() -> None:
    swarm = started(4, rounds=24)
    swarm.at(5.2, lambda: setattr(swarm, "cut", lambda a, b, m: a == "p3"))
    swarm.at(14.2, lambda: setattr(swarm, "cut", lambda a, b, m: False))
    all_in_one_round_at_the_end(swarm, since=18)
    # Once in each round in which it finds itself behind, not at every event.
    assert 1 <= len(swarm.hosts["p3"].reported("catching-up")) <= 9


def test_two_peers_that_cannot_reach_each_other_do_not_stop_the_swarm() -> None:
    swarm = started(4, rounds=8)

    def cut(sender: str, receiver: str, message: Message) -> bool:
        return swarm.now > 2.2 and {sender, receiver} == {"p2", "p3"}

    swarm.cut = cut
    swarm.run_until_done()
    for name in swarm.hosts:
        assert sealed_rounds(swarm, name) == list(range(8))
    # While they look for each other they are late once: their next offers carry that.
    rounds = [details["contributors"] for details in swarm.hosts["p0"].sealed]
    assert sum(names != ["p0", "p1", "p2", "p3"] for names in rounds) <= 1


def test_rounds_close_without_a_slow_peer_that_stays_a_member() -> None:
    swarm = started(4, rounds=16)
    swarm.hosts["p3"].training_s = 12.0
    swarm.run_until_done()
    for name in ("p0", "p1", "p2"):
        seconds = [d["seconds"] for d in swarm.hosts[name].sealed]
        assert len(seconds) == 16 and max(seconds[1:]) < 6
        assert not swarm.hosts[name].reported("peer-silent")
        facts = swarm.hosts[name].peer.gossip.facts
        assert "p3" in [member.peer for member in facts.roster(7)]
    assert swarm.hosts["p3"].peer.standing is Standing.DONE


def test_a_peer_that_is_a_little_slow_is_waited_for() -> None:
    swarm = started(4, rounds=8)
    swarm.hosts["p3"].training_s = 1.6
    swarm.run_until_done()
    nobody_is_missing(swarm)


def test_who_stops_is_missed_at_once() -> None:
    swarm = started(3, rounds=8)

    def stop() -> None:
        swarm.event("p1", e.Stopping())
        swarm.kill("p1")

    swarm.at(3.5, stop)
    swarm.run_until_done()
    for name in ("p0", "p2"):
        rounds = {d["round"]: d for d in swarm.hosts[name].sealed}
        assert rounds[3]["missing"] == [{"peer": "p1", "reason": "stopped"}]
        assert all(d["seconds"] < 1.2 for d in rounds.values())


# --- The network ---------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(4))
def test_lost_messages_are_made_up_for(seed: int) -> None:
    swarm = started(4, rounds=8)
    swarm.network = Network(seed=seed, loss=0.1)
    swarm.run_until_done(limit_s=600)
    done = [host.peer.gossip.round_index for host in swarm.hosts.values()]
    assert done == [8] * 4


@pytest.mark.parametrize("seed", range(4))
def test_repeated_and_delayed_messages_change_nothing(seed: int) -> None:
    swarm = started(4, rounds=6)
    swarm.network = Network(seed=seed, duplicates=0.3, jitter_s=0.02)
    swarm.run_until_done()
    for name in swarm.hosts:
        assert sealed_rounds(swarm, name) == list(range(6))
    nobody_is_missing(swarm)


@pytest.mark.parametrize("seed", range(4))
def test_messages_that_overtake_each_other_cost_time_only(seed: int) -> None:
    swarm = started(4, rounds=6, deadline_min_s=10.0)
    swarm.network = Network(seed=seed, jitter_s=0.02, in_order=False)
    swarm.run_until_done()
    for name in swarm.hosts:
        assert sealed_rounds(swarm, name) == list(range(6))
    nobody_is_missing(swarm)


def test_a_lost_chunk_is_sent_again_from_its_offset() -> None:
    swarm = started(2, rounds=1)
    lost: list[Message] = []

    def cut(sender: str, receiver: str, message: Message) -> bool:
        if isinstance(message, Chunk) and not lost:
            lost.append(message)
            return True
        return False

    swarm.cut = cut
    swarm.run_until_done()
    assert lost
    nobody_is_missing(swarm)


def test_any_sign_of_life_is_enough() -> None:
    swarm = started(3, rounds=4)
    swarm.cut = lambda a, b, m: isinstance(m, Pong)
    swarm.run_until_done()
    nobody_is_missing(swarm)


# --- Determinism ---------------------------------------------------------------------


def chaos(seed: int) -> str:
    """A hash of everything that happens in a swarm with faults."""
    swarm = started(4, rounds=8)
    swarm.network = Network(seed=seed, loss=0.05, duplicates=0.1, jitter_s=0.05)
    back: list[bool] = []
    swarm.at(3.5, lambda: swarm.kill("p2"))
    swarm.at(7.0, lambda: (swarm.restart("p2"), back.append(True)))
    swarm.run(lambda: bool(back))
    swarm.run_until_done(limit_s=600)
    return hashlib.sha256("\n".join(swarm.log).encode()).hexdigest()


def test_the_same_seed_gives_the_same_log_in_any_process() -> None:
    here = chaos(1)
    assert chaos(1) == here
    assert chaos(2) != here
    code = "from tests.protocol.test_peer import chaos; print(chaos(1))"
    for hash_seed in ("1", "2"):
        there = subprocess.run(
            [sys.executable, "-c", code],
            cwd=Path(__file__).resolve().parents[2],
            env={**os.environ, "PYTHONHASHSEED": hash_seed, "PYTHONPATH": "."},
            capture_output=True,
            text=True,
            check=True,
        )
        assert there.stdout.strip() == here
