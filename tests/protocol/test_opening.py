"""Whom a reducer of masked contributions asks for which seeds, and what it is told."""

from __future__ import annotations

from collections import defaultdict

import pytest

from p2pfusion.protocol import events as e
from p2pfusion.protocol.messages import Request
from p2pfusion.protocol.opening import Openings
from p2pfusion.protocol.stream import StreamKey
from p2pfusion.protocol.transfer import Pulls
from p2pfusion.split.groups import pack_missing, unpack_missing
from p2pfusion.split.plan import Hop
from tests.protocol.swarm import Swarm, started

WHOLE = {"method": "fedavg", "fraction": "1", "max_staleness": 0}
Asked = dict[tuple[str, str, int, str], set[bytes]]
"""By reducer, holder, round and ``instead_of``."""


def masked(count: int, **changes: object) -> tuple[Swarm, Asked]:
    """A swarm of peers that train everything, and which seeds they ask for."""
    swarm = started(
        count,
        secure_aggregation="withhold",
        **{**WHOLE, **changes},  # type: ignore[arg-type]
    )
    asked: Asked = defaultdict(set)

    def watch(name: str, what: e.Event | e.Effect, mark: str) -> None:
        if isinstance(what, e.Send) and isinstance(what.message, Request):
            request = what.message
            if request.hop == Hop.SEEDS:
                key = name, what.peer, request.round_index, request.instead_of
                asked[key].add(request.asked)

    swarm.watch = watch
    return swarm, asked


def missing(swarm: Swarm, asked: Asked) -> dict[int, set[str]]:
    """Per round, for whom seeds were asked."""
    found: dict[int, set[str]] = defaultdict(set)
    for (reducer, _, number, _), lists in asked.items():
        plan = swarm.hosts[reducer].plans[number]
        for each in lists:
            found[number] |= {plan.peers[at] for at in unpack_missing(plan, each)}
    return found


def test_everybody_is_asked_once_and_for_nobody_elses_seeds() -> None:
    swarm, asked = masked(4)
    swarm.run_until_done()
    assert asked and all(len(lists) == 1 for lists in asked.values())
    assert not any(missing(swarm, asked).values())
    for host in swarm.hosts.values():
        for number in range(6):
            sources = host.plans[number].sources(Hop.CONTRIBUTION, host.name)
            told = [s for s in host.received[number] if s.hop == Hop.SEEDS]
            assert {stream.source for stream in told} == set(sources)


@pytest.mark.parametrize("victim", ["p1", "p3"])
def test_a_peer_that_dies_in_training_is_missing_and_the_round_closes(
    victim: str,
) -> None:
    swarm, asked = masked(5, rounds=5)
    swarm.run(lambda: swarm.hosts[victim].trained == [0, 1])
    swarm.kill(victim)
    swarm.run_until_done()
    assert all(len(lists) == 1 for lists in asked.values())
    named = missing(swarm, asked)
    assert named.pop(2) == {victim}
    assert set().union(*named.values()) <= {victim}


def test_who_was_asked_and_is_silent_never_becomes_missing() -> None:
    swarm, asked = masked(4, rounds=3, deadline_max_s=4.0)
    swarm.cut = lambda a, b, m: (
        b == "p2" and isinstance(m, Request) and m.hop == Hop.SEEDS
    )
    swarm.run_until_done()
    assert all(len(lists) == 1 for lists in asked.values())
    assert not any(missing(swarm, asked).values())
    reports = swarm.hosts["p0"].sealed
    assert any("p2" in str(report["missing"]) for report in reports)


def test_without_masks_nobody_has_seeds() -> None:
    swarm = started(4, **{**WHOLE, "max_staleness": 3})  # type: ignore[arg-type]
    swarm.run(lambda: 1 in swarm.hosts["p0"].plans)
    round_ = swarm.hosts["p1"].peer.exchange.rounds[0]
    asked = pack_missing(round_.plan, [])
    stream = StreamKey(Hop.SEEDS.value, 0, "p1", "p0", "", asked)
    assert round_.readiness(stream) == "plan"


def test_a_holder_tells_one_thing_about_a_sum_and_keeps_to_it() -> None:
    swarm, _ = masked(4)
    swarm.run(lambda: 0 in swarm.hosts["p0"].plans)
    plan = swarm.hosts["p0"].plans[0]
    openings = Openings(plan, "p1", Pulls(1), {})

    def answer(*lost: str, target: str = "p0") -> str:
        asked = pack_missing(plan, lost)
        return openings.readiness(
            StreamKey(Hop.SEEDS.value, 0, "p1", target, "", asked)
        )

    assert answer("p2") == "ready"
    assert answer("p2") == "ready", "a request may be repeated"
    assert answer() == answer("p3") == answer("p2", "p3") == "lacking"
    assert answer("p3", target="p2") == "ready"
    assert answer("p1", target="p3") == "lacking", "it would give both of its seeds"
    short = StreamKey(Hop.SEEDS.value, 0, "p1", "p0", "", b"")
    assert openings.readiness(short) == "plan"
