"""Rounds whose fused values count when they were looked at: who is asked, and when the
round goes on."""

from __future__ import annotations

import random

import pytest

from p2pfusion.protocol import events as e
from p2pfusion.protocol.messages import Message, Request
from p2pfusion.protocol.weighed_round import WeighedRound
from p2pfusion.split.plan import Hop
from tests.protocol.swarm import Swarm, started

Noted = list[tuple[str, e.Event | e.Effect]]

ROUND = 2


def weighing(count: int, **changes: object) -> tuple[Swarm, Noted]:
    """A swarm with a rule, and what it does from now on."""
    swarm = started(count, rounds=6, fusion="median", **changes)
    noted: Noted = []
    swarm.watch = lambda name, what, mark: noted.append((name, what))
    return swarm, noted


def doubting(swarm: Swarm, name: str) -> set[str]:
    """One peer doubts all that it gets in a round; gives whose values these are, when
    they have come."""
    found: set[str] = set()

    def doubts(peer: str, stream: e.StreamKey) -> bool:
        if peer != name or stream.round_index != ROUND:
            return False
        found.add(stream.source)
        return True

    swarm.doubts = doubts
    return found


def settled(noted: Noted, name: str) -> list[str]:
    """Whose values a peer has compared in that round, in order."""
    return [
        effect.reducer
        for peer, effect in noted
        if peer == name and isinstance(effect, e.Settle) and effect.round_index == ROUND
    ]


def test_the_backups_of_what_is_doubted_are_asked_and_then_it_is_settled() -> None:
    swarm, noted = weighing(4)
    reducers = doubting(swarm, "p1")
    swarm.run_until_done()
    assert reducers and sorted(settled(noted, "p1")) == sorted(reducers)
    asked: dict[str, set[str]] = {}
    for at, (peer, what) in enumerate(noted):
        if isinstance(what, e.OpenSink) and peer == "p1":
            stream = what.stream
            if stream.hop == Hop.FUSED and stream.instead_of:
                asked.setdefault(stream.instead_of, set()).add(stream.source)
        if isinstance(what, e.Settle):
            sealed = (peer, e.Seal) in [(p, type(x)) for p, x in noted[at:]]
            assert peer == "p1" and sealed, "compared before it is sealed"
    plan = swarm.hosts["p1"].plans[ROUND]
    for reducer in reducers:
        backups = set(plan.backups(reducer, "p1")) - {"p1"}
        assert asked.get(reducer, set()) == backups
    for host in swarm.hosts.values():
        assert [row["stale_ranges"] for row in host.sealed] == [0] * 6
        assert not any(row["missing"] for row in host.sealed)


def test_what_was_not_looked_at_does_not_count() -> None:
    swarm, _ = weighing(3)
    told: list[e.Weighed] = []
    soon = swarm._soon

    def hold(host: object, event: e.Event) -> None:
        is_held = isinstance(event, e.Weighed) and event.stream.target == "p2"
        if is_held and event.stream.round_index == ROUND:
            told.append(event)  # type: ignore[arg-type]
        else:
            soon(host, event)  # type: ignore[arg-type]

    swarm._soon = hold  # type: ignore[method-assign, assignment]
    swarm.run(lambda: swarm.hosts["p0"].peer.course.round_index > ROUND)
    waiting = swarm.hosts["p2"].peer
    assert told and waiting.course.round_index == ROUND
    assert isinstance(waiting.round, WeighedRound)
    assert {event.stream for event in told} <= waiting.round.needs
    for event in told:
        swarm.event("p2", event)
        swarm.event("p2", event)  # once more says nothing new
    assert waiting.course.round_index == ROUND + 1


def test_where_nobody_can_be_asked_what_is_here_is_settled_at_once() -> None:
    """Of two, the backup of the other is who doubts it: it makes the same itself."""
    swarm, noted = weighing(2)
    reducers = doubting(swarm, "p1")
    swarm.run_until_done()
    assert settled(noted, "p1") == sorted(reducers)


def test_a_backup_that_dies_meanwhile_is_not_waited_for() -> None:
    swarm, noted = weighing(4)
    reducers = doubting(swarm, "p1")
    dead: list[str] = []

    def cut(sender: str, receiver: str, message: Message) -> bool:
        is_asked = isinstance(message, Request) and message.hop == Hop.FUSED
        if is_asked and message.instead_of and sender == "p1" and not dead:
            dead.append(receiver)
            swarm.at(swarm.now, lambda: swarm.kill(receiver))
        return receiver in dead

    swarm.cut = cut
    swarm.run(lambda: swarm.hosts["p1"].peer.course.round_index > ROUND)
    assert dead and dead[0] != "p1"
    assert sorted(settled(noted, "p1")) == sorted(reducers)


@pytest.mark.parametrize("seed", range(6))
def test_doubts_of_any_streams_cost_nobody_a_part(seed: int) -> None:
    chance = random.Random(seed)
    swarm, noted = weighing(chance.randint(3, 7), replication=chance.randint(1, 3))
    doubted: list[tuple[str, int, str]] = []

    def doubts(name: str, stream: e.StreamKey) -> bool:
        if chance.random() < 0.5:
            return False
        doubted.append((name, stream.round_index, stream.source))
        return True

    swarm.doubts = doubts
    swarm.run_until_done()
    done = [
        (name, effect.round_index, effect.reducer)
        for name, effect in noted
        if isinstance(effect, e.Settle)
    ]
    assert sorted(done) == sorted(doubted)
    for host in swarm.hosts.values():
        assert [row["stale_ranges"] for row in host.sealed] == [0] * 6
