"""One round: its table of phases, backups, deadlines, and what it says of itself."""

from __future__ import annotations

import pytest

from p2pfusion.errors import LocalProtocolError
from p2pfusion.protocol import events as e
from p2pfusion.protocol.attendance import GRACE_S
from p2pfusion.protocol.messages import Message, Offer, SignedOffer, StreamStart
from p2pfusion.protocol.round import TRANSITIONS, Phase, Round, Signal
from p2pfusion.protocol.timing import DEFAULT_TIMING
from p2pfusion.split.plan import Hop
from tests.protocol.swarm import SAMPLES, Swarm, started


def round_of(swarm: Swarm, name: str) -> Round:
    round_ = swarm.hosts[name].peer.round
    assert round_ is not None
    return round_


def exchanging(count: int, victim: str, **changes: object) -> Swarm:
    """Everybody has offered round 3, and the victim's streams do not leave it."""
    swarm = started(count, rounds=8, **changes)
    swarm.run_to(1.5)
    swarm.run(lambda: round_of(swarm, victim).number == 3)

    def cut(sender: str, receiver: str, message: Message) -> bool:
        return sender == victim and isinstance(message, StreamStart)

    swarm.cut = cut
    swarm.run(
        lambda: all(
            host.peer.round is not None
            and host.peer.round.number == 3
            and host.peer.round.phase is Phase.EXCHANGE
            for host in swarm.hosts.values()
        )
    )
    return swarm


# --- Phases --------------------------------------------------------------------------


def test_the_table_leads_from_the_plan_to_the_seal() -> None:
    assert set(TRANSITIONS) == set(Phase)
    used = {signal for row in TRANSITIONS.values() for signal in row}
    assert used == set(Signal)
    reached, edge = {Phase.PLAN}, {Phase.PLAN}
    while edge:
        edge = {to for phase in edge for to in TRANSITIONS[phase].values()} - reached
        reached |= edge
    assert reached == set(Phase) and not TRANSITIONS[Phase.SEAL]


@pytest.mark.parametrize("phase", list(Phase))
@pytest.mark.parametrize("signal", list(Signal))
def test_a_signal_outside_the_table_is_our_own_bug(
    phase: Phase, signal: Signal
) -> None:
    swarm = started(1)
    swarm.run(lambda: swarm.hosts["p0"].peer.round is not None)
    round_ = round_of(swarm, "p0")
    round_.phase = phase
    following = TRANSITIONS[phase].get(signal)
    if following is None:
        with pytest.raises(LocalProtocolError, match=str(signal)):
            round_._signal(signal)
    else:
        round_._signal(signal)
        assert round_.phase is following


def test_a_round_passes_through_its_phases() -> None:
    swarm = started(2, rounds=1)
    seen: list[Phase] = []
    while not swarm.hosts["p1"].sealed:
        swarm.run_to(swarm.now + 0.002)
        round_ = swarm.hosts["p1"].peer.exchange.rounds.get(0)
        if round_ is not None and round_.phase not in seen[-1:]:
            seen.append(round_.phase)
    assert seen == [Phase.TRAIN, Phase.EXCHANGE, Phase.SEAL]


# --- Backups -------------------------------------------------------------------------


@pytest.mark.parametrize("victim", ["p0", "p1", "p2", "p3"])
def test_backups_do_the_work_of_a_reducer_that_dies_in_the_exchange(
    victim: str,
) -> None:
    swarm = exchanging(4, victim)
    plan = round_of(swarm, victim).plan
    others = sorted(set(swarm.hosts) - {victim})
    owed = [name for name in others if victim in plan.sources(Hop.FUSED, name)]
    swarm.kill(victim)
    swarm.run(
        lambda: all(
            host.peer.round is not None and host.peer.round.number > 3
            for host in swarm.hosts.values()
            if host.alive
        )
    )
    assert owed, "nobody needed anything of the one that died"
    for name in owed:
        received = swarm.hosts[name].received[3]
        for backup in plan.backups(victim, name):
            if backup == name:
                assert swarm.hosts[name].closed[3, victim] == 1
                continue
            key = e.StreamKey("fused", 3, backup, name, victim)
            assert received.count(key) == 1
            assert swarm.hosts[backup].closed[3, victim] == 1
    for host in swarm.hosts.values():
        if host.alive:
            (details,) = [d for d in host.sealed if d["round"] == 3]
            settling = host.peer.exchange.pause.settling_s
            assert details["seconds"] < 1 + DEFAULT_TIMING.silence_s + settling + 1.5


def test_what_has_neither_reducer_nor_backup_counts_as_stale() -> None:
    swarm = exchanging(5, "p0", partition_policy="fork")
    plan = swarm.hosts["p4"].plans[3]
    dead = ["p0", "p1", "p2", "p3"]
    assert set(plan.backups("p0", "p4")) & set(dead)
    for name in dead:
        swarm.kill(name)
    swarm.run(lambda: len(swarm.hosts["p4"].sealed) > 3)
    (details,) = [d for d in swarm.hosts["p4"].sealed if d["round"] == 3]
    assert details["stale_ranges"] > 0


def test_a_reducer_that_answers_but_sends_nothing_is_given_up_by_the_deadline() -> None:
    swarm = exchanging(4, "p2")
    wait = round_of(swarm, "p0").pace.lateness.wait_s()
    swarm.run(lambda: len(swarm.hosts["p0"].sealed) > 3)
    (details,) = [d for d in swarm.hosts["p0"].sealed if d["round"] == 3]
    maximum = swarm.manifest.deadline_max_s
    assert details["seconds"] < 1 + maximum + wait + 2 * GRACE_S + 1
    assert not swarm.hosts["p0"].reported("peer-silent")


# --- Deadlines -----------------------------------------------------------------------


def test_the_wait_counts_from_the_own_offer_and_half_of_the_others() -> None:
    swarm = started(5, rounds=4)
    swarm.hosts["p3"].training_s = swarm.hosts["p4"].training_s = 2.0
    swarm.run_to(0.5)
    round_ = round_of(swarm, "p0")
    assert round_.attendance.base() is None and round_.deadline() == float("inf")
    swarm.run(lambda: round_.offered_at is not None)
    swarm.run(lambda: len(round_.offers) == 2)
    base = round_.attendance.base()
    assert base == max(at for at, _ in round_.offers.values())
    swarm.run_to(1.5)
    assert round_.attendance.base() == base, "later offers do not move it"


def test_who_is_not_in_the_round_has_no_say_in_it() -> None:
    swarm = started(2, rounds=4)
    swarm.run_to(1.5)
    round_ = round_of(swarm, "p0")
    round_.attendance.offered(
        "stranger", Offer(1, bytes(16), 5, 1.0, 1.0, 1.0), swarm.now
    )
    assert "stranger" not in round_.contributors() and not round_.offers


def test_a_stream_of_another_kind_does_not_run_into_the_rounds_deadline() -> None:
    """Tables and exports name a round, but it does not wait for them."""
    swarm = started(3, rounds=30, deadline_max_s=2.0)
    swarm.run_to(2.5)
    swarm.cut = lambda a, b, m: b == "p1" and isinstance(m, StreamStart)
    exchange = swarm.hosts["p1"].peer.exchange
    swarm.event("p1", e.ExportRequested(1))
    exchange.table.begin("p0", round_of(swarm, "p1").number + 1, swarm.now)
    swarm.run_to(swarm.now + 15)
    assert all(key.hop != "export" for key in round_of(swarm, "p1").needs)
    assert len(swarm.hosts["p1"].assembled) == 1


# --- What it says --------------------------------------------------------------------


def test_a_waiting_round_says_for_whom() -> None:
    swarm = started(3, rounds=4)
    swarm.hosts["p2"].training_s = 3.0
    swarm.run_to(0.5)
    assert round_of(swarm, "p0").waiting_for()["p0"] == "training"
    swarm.run_to(1.8)
    waits = round_of(swarm, "p0").waiting_for()
    assert waits["p2"] in ("its offer", "fused ranges") and "p0" not in waits


def test_the_report_of_a_round_is_plain_and_complete() -> None:
    swarm = started(3, rounds=2)
    swarm.run_until_done()
    for details in swarm.hosts["p0"].sealed:
        assert details["contributors"] == ["p0", "p1", "p2"]
        assert details["trained"] is True and details["training_s"] == 1.0
        assert details["samples"] == SAMPLES and details["loss"] == 1.0
        offers = details["offers"]
        assert isinstance(offers, dict) and sorted(offers) == ["p1", "p2"]
        assert offers["p1"]["samples"] == SAMPLES


def test_whose_values_came_before_their_offer_has_contributed() -> None:
    swarm = started(2, rounds=1)
    swarm.cut = lambda sender, to, message: isinstance(message, SignedOffer)
    swarm.run(lambda: all(host.sealed for host in swarm.hosts.values()))
    for host in swarm.hosts.values():
        assert host.sealed[0]["contributors"] == ["p0", "p1"]
        assert not host.sealed[0]["missing"]


@pytest.mark.parametrize(
    ("weighting", "weight"), [("samples", SAMPLES), ("uniform", 1)]
)
def test_weights_are_samples_or_all_one(weighting: str, weight: float) -> None:
    swarm = started(3, rounds=1, weighting=weighting)
    swarm.run_until_done()
    text = f"weight={float(weight)}"
    heads = [line for line in swarm.log if "hop='contribution'" in line]
    opened = [line for line in heads if "OpenSink" in line]
    own = [line for line in swarm.log if "AddOwn" in line]
    assert opened and own and all(text in line for line in [*opened, *own])
