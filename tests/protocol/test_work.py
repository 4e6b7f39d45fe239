"""Updates that come too late for their round: where, and how much, they count."""

from __future__ import annotations

import pytest

from p2pfusion.protocol import events as e
from p2pfusion.protocol.messages import NEVER, Offer
from tests.protocol.swarm import Swarm, started


def with_slow_peer(training_s: float, **changes: object) -> Swarm:
    """Four peers, of which p3 takes so long to train where the others take a second."""
    swarm = started(4, rounds=20, **changes)
    swarm.hosts["p3"].training_s = training_s
    return swarm


@pytest.mark.parametrize("training_s", [3.0, 5.0, 8.0])
def test_a_late_update_is_fused_in_a_later_round(training_s: float) -> None:
    swarm = with_slow_peer(training_s)
    sinks: list[e.OpenSink] = []

    def watch(name: str, what: e.Event | e.Effect, mark: str) -> None:
        if isinstance(what, e.OpenSink) and what.stream.source == "p3":
            sinks.append(what)

    swarm.watch = watch
    swarm.run_until_done()
    slow = swarm.hosts["p3"]
    assert slow.offered_late
    for number, base in slow.offered_late.items():
        assert 1 <= number - base <= 3
        assert number not in slow.trained or base in slow.trained
        fused = [
            sink.weight
            for sink in sinks
            if sink.stream.hop == "contribution" and sink.stream.round_index == number
        ]
        assert all(weight == 1 / (1 + number - base) for weight in fused)
    used = 0
    for details in swarm.hosts["p0"].sealed:
        offer = details["offers"].get("p3")
        if offer and offer["samples"] and offer["base_round"] < details["round"]:
            assert offer["base_round"] == slow.offered_late[details["round"]]
            used += "p3" in details["contributors"]
    assert used, "nothing that was late counted"


@pytest.mark.parametrize("training_s", [3.0, 12.0, 40.0])
def test_nobody_waits_for_what_a_slow_peer_adds_up(training_s: float) -> None:
    """It is given up a second after the others, and closes its sums without itself."""
    swarm = with_slow_peer(training_s)
    swarm.run_until_done()
    *rows, _ = swarm.hosts["p0"].sealed  # after the last there is none to offer it in
    assert max(float(str(row["seconds"])) for row in rows) < 2.2
    assert all(row["stale_ranges"] == 0 for row in rows)
    assert {row["round"] for row in swarm.hosts["p3"].sealed} >= {0, 1, 2}


def test_without_staleness_nothing_late_counts() -> None:
    swarm = with_slow_peer(14.0, max_staleness=0)
    swarm.run_until_done()
    slow = swarm.hosts["p3"]
    assert not slow.offered_late and slow.reported("late-dropped")


def test_what_is_older_than_the_staleness_is_dropped() -> None:
    swarm = with_slow_peer(14.0, max_staleness=2)
    swarm.run_until_done()
    slow = swarm.hosts["p3"]
    assert slow.reported("late-dropped")
    for number, base in slow.offered_late.items():
        assert number - base <= 2


def test_who_is_late_again_and_again_is_too_slow() -> None:
    swarm = with_slow_peer(5.0)
    swarm.run_until_done()
    (first, *_) = swarm.hosts["p3"].reported("too-slow")
    assert first.details["rounds"] >= 3 and first.details["training_s"] == 5.0
    assert not swarm.hosts["p0"].reported("too-slow")


def test_who_is_in_time_is_never_late() -> None:
    swarm = started(4, rounds=8)
    swarm.run_until_done()
    for host in swarm.hosts.values():
        assert not host.offered_late and not host.reported("late-dropped")
        assert host.trained == list(range(8))


def test_an_offer_says_how_late_it_is() -> None:
    fresh = Offer(7, bytes(16), 1, 1.0, 1.0, 1.0)
    assert fresh.base_round == NEVER and fresh.rounds_late == 0
    assert Offer(7, bytes(16), 1, 1.0, 1.0, 1.0, 5).rounds_late == 2


def test_nobody_waits_for_the_trainer_of_one_that_comes_to_rounds_under_way() -> None:
    swarm = started(3, rounds=16)
    swarm.run(lambda: swarm.now > 1.5)
    asked: dict[str, list[bool]] = {}

    def watch(name: str, what: e.Event | e.Effect, mark: str) -> None:
        if isinstance(what, e.StartTraining):
            asked.setdefault(name, []).append(what.if_ready)

    swarm.watch = watch
    late = swarm.add("p7")
    late.unready_rounds = 2
    swarm.join("p7", by="p0")
    swarm.run_until_done()
    assert asked["p7"] == [True] * 3 + [False] * (len(asked["p7"]) - 3)
    assert len(late.trained) == len(asked["p7"]) - 2 > 3
    for name in ("p0", "p1", "p2"):
        assert not any(asked[name])
        rows = swarm.hosts[name].sealed
        assert all(row["seconds"] < 2.0 for row in rows), "they do not wait for it"
        with_it = [row["round"] for row in rows if "p7" in row["contributors"]]
        assert with_it == late.trained
