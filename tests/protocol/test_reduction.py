"""Ranges to which nobody contributes keep their newest values."""

from __future__ import annotations

import pytest

from p2pfusion.protocol import events as e
from p2pfusion.split.plan import Hop
from tests.protocol.swarm import Swarm, started


def without(victim: str) -> Swarm:
    """A swarm of small splits, in which one dies while it trains the third round."""
    swarm = started(5, rounds=8, fraction="1/4")
    swarm.run(lambda: swarm.hosts[victim].trained == [0, 1, 2])
    swarm.kill(victim)
    return swarm


@pytest.mark.parametrize("victim", ["p1", "p2", "p4"])
def test_a_range_whose_only_holder_is_silent_is_carried_over(victim: str) -> None:
    swarm = without(victim)
    kept: dict[tuple[str, str], int] = {}

    def watch(name: str, what: e.Event | e.Effect, mark: str) -> None:
        if isinstance(what, e.OpenSink) and what.stream.hop == Hop.KEEP:
            kept[name, what.stream.instead_of] = what.stream.round_index

    swarm.watch = watch
    swarm.run_until_done()
    assert kept, "everybody had everything"
    for host in swarm.hosts.values():
        if host.alive:
            assert not any(stream.hop == Hop.KEEP for stream in host.opened.values()), (
                "nothing is left open"
            )


def test_nobody_asks_for_older_values_while_all_contribute() -> None:
    swarm = started(5, rounds=8, fraction="1/4")
    swarm.run_until_done()
    assert not any("hop='keep'" in line for line in swarm.log)
