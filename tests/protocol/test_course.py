"""Which round a peer is in: starting, joining, catching up, and whom to believe."""

from __future__ import annotations

from dataclasses import replace
from itertools import count

import pytest

from p2pfusion.protocol import events as e
from p2pfusion.protocol.course import ALONE_AFTER_S, Standing
from p2pfusion.protocol.messages import (
    BEFORE_START,
    TABLE,
    Facts,
    Message,
    Offer,
    Ping,
    Pong,
    StreamStart,
)
from p2pfusion.protocol.statements import sign_start
from p2pfusion.protocol.tables import TABLE_PATIENCE_S
from p2pfusion.split.homes import Homes
from tests.protocol.names import (
    NamedKey,
    founder,
    greeting,
    membership,
    offered,
    record,
)
from tests.protocol.swarm import Swarm, small_manifest, started


def joining(swarm: Swarm, *names: str, by: str = "p0") -> None:
    for name in names:
        swarm.add(name)
        swarm.join(name, by=by)


# --- Starting ------------------------------------------------------------------------


def test_the_founder_waits_for_enough_members() -> None:
    swarm = Swarm(small_manifest(min_peers=3))
    for name in ("p0", "p1"):
        swarm.add(name)
    swarm.found("p0")
    swarm.join("p1", by="p0")
    swarm.run(lambda: swarm.now > 20)
    assert all(host.peer.standing is Standing.WAITING for host in swarm.hosts.values())
    joining(swarm, "p2")
    swarm.run_until_done()
    (report,) = swarm.hosts["p0"].reported("started")
    assert report.details["members"] == ["p0", "p1", "p2"]


def test_round_0_waits_for_the_records_of_all_that_the_start_names() -> None:
    swarm = Swarm(small_manifest(min_peers=3, founder=founder("p1")))
    swarm.add("p1")
    host = swarm.hosts["p1"]
    swarm.found("p1")
    its_id = swarm.manifest.swarm_id
    a, b = (membership(record(name), its_id, by="p1") for name in "ab")
    swarm.event("p1", e.Received("a", greeting(a, its_id)))
    start = sign_start(its_id, ["a", "b", "p1"], NamedKey("p1"))
    swarm.event("p1", e.Received("a", Facts(start=start)))
    assert host.peer.standing is Standing.WAITING and not host.plans
    swarm.event("p1", e.Received("a", Facts((b,))))
    assert host.peer.standing is Standing.RUNNING
    assert host.plans[0].peers == ("a", "b", "p1")


# --- Joining -------------------------------------------------------------------------


def splits_of(swarm: Swarm, names: list[str]) -> dict[tuple[str, int], object]:
    return {
        (name, number): split
        for name in names
        for number, split in swarm.hosts[name].splits.items()
    }


@pytest.mark.parametrize("newcomers", [("p7",), ("p7", "p8")])
@pytest.mark.parametrize("at", [1.5, 6.5, 7.5])
def test_late_joiners_enter_at_their_epoch(
    newcomers: tuple[str, ...], at: float
) -> None:
    old = ["p0", "p1", "p2"]
    alone = started(3, rounds=16)
    alone.run_until_done()
    swarm = started(3, rounds=16)
    swarm.run(lambda: swarm.now > at)
    seen = swarm.hosts["p0"].peer.gossip.round_index
    joining(swarm, *newcomers)
    swarm.run_until_done()
    epoch = seen // 2 + 2
    for name in newcomers:
        host = swarm.hosts[name]
        (admitted,) = host.reported("admitted")
        assert admitted.details["epoch"] == epoch
        assert host.trained == list(range(2 * epoch, 16))
        assert min(host.plans) == 2 * epoch - 1, "it comes one round before"
    before, now = splits_of(alone, old), splits_of(swarm, old)
    assert all(now[key] == before[key] for key in before if key[1] < 2 * epoch)
    assert any(now[key] != before[key] for key in before if key[1] >= 2 * epoch)
    for name in old:
        rounds = swarm.hosts[name].sealed
        assert all(d["missing"] == [] and d["stale_ranges"] == 0 for d in rounds)
        for details in rounds[2 * epoch :]:
            assert details["contributors"] == sorted(swarm.hosts)


def test_two_join_one_that_trains_alone() -> None:
    swarm = started(1, rounds=20)
    swarm.run(lambda: swarm.now > 9.5)
    first = 2 * (swarm.hosts["p0"].peer.gossip.round_index // 2 + 2)
    joining(swarm, "p7", "p8")
    swarm.run_until_done()
    for name in ("p7", "p8"):
        assert swarm.hosts[name].trained == list(range(first, 20))


@pytest.mark.parametrize("killed_at", [5.5, 12.5])
def test_a_late_joiner_stays_a_member_over_a_restart(killed_at: float) -> None:
    swarm = started(3, rounds=24)
    swarm.run(lambda: swarm.now > 3.5)
    joining(swarm, "p7")
    swarm.run(lambda: swarm.now > killed_at)
    epoch = swarm.hosts["p7"].peer.gossip.record.join_epoch
    assert epoch == 3
    swarm.kill("p7")
    swarm.run(lambda: swarm.now > killed_at + 2)
    swarm.restart("p7")
    swarm.run_until_done()
    assert swarm.hosts["p0"].peer.gossip.facts.records["p7"].join_epoch == epoch
    assert swarm.hosts["p7"].trained[-8:] == list(range(16, 24))
    assert len(swarm.hosts["p7"].reported("admitted")) == 1


@pytest.mark.parametrize("count", [2, 3])
@pytest.mark.parametrize("back_after", [0.05, 0.5, 1.0, 4.0])
def test_one_that_comes_back_holds_up_no_round(count: int, back_after: float) -> None:
    """It says at once that it will not be in the round that the others are in."""
    limits = {"deadline_min_s": 60.0, "deadline_max_s": 60.0}
    swarm = started(count, rounds=20, **limits)
    swarm.run(lambda: swarm.now > 5.05)
    swarm.event("p1", e.Stopping())
    swarm.kill("p1")
    swarm.run(lambda: swarm.now > 5.05 + back_after)
    swarm.restart("p1")
    swarm.run_until_done()
    rows = swarm.hosts["p0"].sealed
    assert max(float(str(row["seconds"])) for row in rows) < 10.0
    assert rows[-1]["contributors"] == sorted(swarm.hosts)


def test_who_joins_at_the_end_is_done_without_training() -> None:
    swarm = started(2, rounds=4)
    swarm.run_until_done()
    joining(swarm, "p7")
    swarm.run_until_done()
    assert swarm.hosts["p7"].trained == []
    assert swarm.hosts["p7"].peer.gossip.round_index == 4


def test_one_restarted_before_it_was_admitted_is_admitted_then() -> None:
    swarm = started(2, rounds=20)
    swarm.run(lambda: swarm.now > 2.5)
    joining(swarm, "p7")
    host = swarm.hosts["p7"]
    swarm.run(lambda: "p0" in host.peer.gossip.facts.records)
    # It dies before it has said from which epoch on it counts.
    swarm.kill("p7")
    assert host.peer.gossip.record.join_epoch == BEFORE_START
    assert not host.reported("admitted")
    swarm.restart("p7")
    swarm.run_until_done()
    assert swarm.hosts["p7"].reported("admitted")
    assert swarm.hosts["p7"].trained


# --- Coming back ---------------------------------------------------------------------


def test_one_that_nobody_answers_goes_on_alone_after_a_while() -> None:
    swarm = started(2, rounds=6, partition_policy="fork")
    swarm.run(lambda: swarm.now > 2.5)
    swarm.kill("p0")
    swarm.kill("p1")
    swarm.at(swarm.now + 1, lambda: None)
    swarm.run(lambda: swarm.now > 3.5)
    swarm.restart("p1")
    back = swarm.now
    host = swarm.hosts["p1"]
    swarm.run(lambda: bool(host.plans))
    assert swarm.now == pytest.approx(back + ALONE_AFTER_S)
    swarm.run_until_done()
    assert host.trained == [2, 3, 4, 5]


def test_a_peer_in_the_minority_catches_up_like_a_newcomer() -> None:
    """p3 misses the news of a newcomer until the epoch has begun."""
    swarm = started(4, rounds=16)
    swarm.run(lambda: swarm.now > 2.5)

    def cut(sender: str, receiver: str, message: Message) -> bool:
        news = isinstance(message, Facts) or "p7" in (sender, receiver)
        return swarm.now < 6.5 and news and "p3" in (sender, receiver)

    swarm.cut = cut
    joining(swarm, "p7")
    swarm.run_until_done()
    reasons = [r.details["why"] for r in swarm.hosts["p3"].reported("catching-up")]
    assert "planned with other facts than most" in reasons
    last = swarm.hosts["p3"].sealed[-1]
    assert last["contributors"] == ["p0", "p1", "p2", "p3", "p7"]


# --- Liars ---------------------------------------------------------------------------


@pytest.mark.parametrize("claim", [10**9, 2**62, 15, 7])
def test_one_liar_about_its_round_makes_nobody_catch_up(claim: int) -> None:
    swarm = started(4, rounds=16)
    numbers = count(100)

    def lie(sender: str, receiver: str, message: Message) -> bool:
        if sender == "p3" and isinstance(message, Ping) and swarm.now > 2:
            false = Ping(message.nonce, claim, message.facts_digest)
            swarm.event(receiver, e.Received("p3", false))
            offer = Offer(claim, bytes(16), 1, 1.0, 1.0, 1.0)
            said = offered("p3", swarm.manifest.swarm_id, offer, sequence=next(numbers))
            swarm.event(receiver, e.Received("p3", said))
        return sender == "p3" and isinstance(message, Ping | Pong) and swarm.now > 2

    swarm.cut = lie
    swarm.run_until_done()
    for name in ("p0", "p1", "p2"):
        host = swarm.hosts[name]
        assert not host.reported("catching-up")
        assert [d["round"] for d in host.sealed] == list(range(16))


def test_a_newcomer_is_not_led_astray_by_one_liar() -> None:
    swarm = started(4, rounds=40)
    swarm.run(lambda: swarm.now > 4.5)

    def lie(sender: str, receiver: str, message: Message) -> bool:
        if sender == "p3" and isinstance(message, Ping | Pong):
            false = replace(message, round_index=39)
            swarm.event(receiver, e.Received("p3", false))
            return True
        # Nor does the liar ever send its table.
        return sender == "p3" and receiver == "p7" and isinstance(message, StreamStart)

    swarm.cut = lie
    joining(swarm, "p7")
    swarm.run(lambda: swarm.now > 30)
    (admitted,) = swarm.hosts["p7"].reported("admitted")
    assert 4 <= admitted.details["epoch"] <= 5
    host = swarm.hosts["p7"]
    trained = sorted({*host.trained, *host.offered_late})
    first = 2 * int(str(admitted.details["epoch"]))
    assert trained == list(range(first, first + len(trained))) and len(trained) > 3


def test_a_table_that_does_not_come_is_asked_of_another() -> None:
    swarm = started(3, rounds=30)
    swarm.run(lambda: swarm.now > 4.5)
    first: list[str] = []

    def cut(sender: str, receiver: str, message: Message) -> bool:
        if receiver != "p7" or not isinstance(message, StreamStart):
            return False
        pulls = swarm.hosts["p7"].peer.exchange.pulls.of_hop(TABLE)
        if any(pull.number == message.pull for pull in pulls) and not first:
            first.append(sender)
        return [sender] == first

    swarm.cut = cut
    joining(swarm, "p7")
    host = swarm.hosts["p7"]
    swarm.run(lambda: bool(first))
    asked_at = swarm.now
    swarm.run(lambda: bool(host.plans))
    assert swarm.now - asked_at < TABLE_PATIENCE_S + 5
    assert host.received or host.plans


def test_a_well_formed_table_of_too_many_peers_is_refused() -> None:
    swarm = started(3, rounds=12)
    swarm.run(lambda: swarm.now > 2.5)
    course = swarm.hosts["p0"].peer.course
    layout = swarm.manifest.layout
    names = [f"peer-{number}" for number in range(32_767)]
    table = Homes.initial(layout).with_peers(names).to_bytes()
    course._catch_up("a test", swarm.now)
    course.tables.target = 9
    (report,) = course._enter_with(table, swarm.now)
    assert isinstance(report, e.Report) and report.kind == "protocol-error"


# --- The trainer ---------------------------------------------------------------------


@pytest.mark.parametrize(
    "finished",
    [
        e.TrainingFinished(1, 0, 1.0, 1.0, 1.0),
        e.TrainingFinished(1, 10, float("nan"), 1.0, 1.0),
        e.TrainingFinished(1, 10, 1.0, float("inf"), 1.0),
        e.TrainingFinished(1, 10, 1.0, 1.0, 1.0, float("inf")),
        e.TrainingFinished(1, 10, 1.0, 1.0, 1.0, -1.0),
    ],
)
def test_useless_values_are_not_offered(finished: e.TrainingFinished) -> None:
    swarm = started(3, rounds=4)
    swarm.run(lambda: swarm.hosts["p1"].trained == [0, 1])
    swarm.event("p1", finished)
    swarm.run_until_done()
    assert len(swarm.hosts["p1"].reported("training-failed")) == 1
    for name in ("p0", "p2"):
        details = swarm.hosts[name].sealed[1]
        assert details["contributors"] == ["p0", "p2"]
        assert swarm.hosts[name].sealed[2]["contributors"] == ["p0", "p1", "p2"]


def test_the_trainers_word_about_another_round_is_ignored() -> None:
    swarm = started(2, rounds=4)
    swarm.run(lambda: swarm.now > 2.5)
    for number in (0, 1, 99):
        peer = swarm.hosts["p0"].peer
        assert not peer.handle(e.TrainingFinished(number, 1, 1.0, 1.0, 1.0), swarm.now)
        assert not peer.handle(e.TrainingFailed(number, "late"), swarm.now)
