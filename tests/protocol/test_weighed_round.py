"""Rounds whose reducers are checked: who is asked, and when the round goes on."""

from __future__ import annotations

import pytest

from p2pfusion.protocol import events as e
from p2pfusion.protocol.messages import Message, Request
from p2pfusion.protocol.round import Round
from p2pfusion.protocol.weighed_round import WeighedRound
from p2pfusion.split.plan import ExchangePlan, Hop
from tests.protocol.swarm import Swarm, started

Noted = list[tuple[str, e.Event | e.Effect]]

ROUND, ROUNDS = 2, 6


def checked(count: int, **changes: object) -> tuple[Swarm, Noted]:
    """A swarm that asks for second opinions, and what it does from now on."""
    told = {"rounds": ROUNDS, "fusion": "median", "second_opinions": True}
    swarm = started(count, **{**told, **changes})
    noted: Noted = []
    swarm.watch = lambda name, what, mark: noted.append((name, what))
    return swarm, noted


def settled(noted: Noted, name: str, number: int = ROUND) -> list[str]:
    """Whose values a peer has compared in a round."""
    return sorted(
        effect.reducer
        for peer, effect in noted
        if peer == name
        and isinstance(effect, e.Settle)
        and effect.round_index == number
    )


def reducers(plan: ExchangePlan, name: str) -> list[str]:
    return sorted(plan.sources(Hop.FUSED, name))


@pytest.mark.parametrize(("count", "replication"), [(2, 2), (3, 2), (5, 2), (7, 3)])
def test_all_backups_of_all_reducers_are_asked_and_then_compared(
    count: int, replication: int
) -> None:
    swarm, noted = checked(count, replication=replication)
    swarm.run_until_done()
    for name, host in swarm.hosts.items():
        for number in range(ROUNDS):
            plan = host.plans[number]
            assert settled(noted, name, number) == reducers(plan, name)
            came = host.received.get(number, [])
            for reducer in reducers(plan, name):
                asked = {
                    stream.source
                    for stream in came
                    if stream.hop == Hop.FUSED and stream.instead_of == reducer
                }
                assert asked == set(plan.backups(reducer, name)) - {name}
        assert [row["stale_ranges"] for row in host.sealed] == [0] * ROUNDS
        assert not any(row["missing"] for row in host.sealed)


def test_a_round_is_sealed_after_everything_was_compared_and_fused() -> None:
    swarm, noted = checked(4)
    swarm.run_until_done()
    sealed, closed = set[tuple[str, int]](), set[tuple[str, int, str]]()
    for name, effect in noted:
        if isinstance(effect, e.Seal):
            sealed.add((name, effect.next_round - 1))
        if isinstance(effect, e.CloseReduction):
            closed.add((name, effect.round_index, effect.instead_of))
        if isinstance(effect, e.Settle):
            number, reducer = effect.round_index, effect.reducer
            assert (name, number) not in sealed
            if name in swarm.hosts[name].plans[number].backups(reducer, name):
                assert (name, number, reducer) in closed, "it is a backup itself"


@pytest.mark.parametrize("whole", [True, False])
def test_a_backup_that_dies_meanwhile_is_not_waited_for(whole: bool) -> None:
    """Nor does it make anything stale: what the reducer has sent is here."""
    swarm, noted = checked(4)
    dead: list[str] = []

    def cut(sender: str, receiver: str, message: Message) -> bool:
        is_asked = isinstance(message, Request) and message.hop == Hop.FUSED
        in_round = is_asked and message.round_index == ROUND
        if in_round and message.instead_of and sender == "p1" and not dead:
            dead.append(receiver)
            if whole:
                swarm.at(swarm.now, lambda: swarm.kill(receiver))
        return (receiver in dead and sender == "p1") or (whole and receiver in dead)

    swarm.cut = cut
    course = swarm.hosts["p1"].peer.course
    swarm.run(lambda: course.round_index > ROUND)
    assert dead and dead[0] != "p1"
    plan = swarm.hosts["p1"].plans[ROUND]
    assert set(settled(noted, "p1")) <= set(reducers(plan, "p1"))
    alive = [name for name in reducers(plan, "p1") if name != dead[0]]
    assert set(alive) <= set(settled(noted, "p1"))


def test_without_second_opinions_rounds_are_as_ever() -> None:
    swarm = started(3, rounds=3, fusion="median")
    swarm.run(lambda: swarm.hosts["p0"].peer.round is not None)
    assert type(swarm.hosts["p0"].peer.round) is Round
    swarm, _ = checked(3)
    swarm.run(lambda: swarm.hosts["p0"].peer.round is not None)
    assert type(swarm.hosts["p0"].peer.round) is WeighedRound
