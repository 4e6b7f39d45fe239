"""Real daemons on a network that is slow and loses packets, and on one that falls
apart for a while: namespaces of the kernel, lines with delay, loss and a limit."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from p2pfusion.split.plan import Hop
from p2pfusion.store import read_checkpoint
from tests.end_to_end.absences import contributors, missing, number_of
from tests.end_to_end.hosts import start_all
from tests.end_to_end.inspection import number_of_round
from tests.end_to_end.namespaces import Line, Network
from tests.end_to_end.swarm import QUICK, Daemon, Swarm, planned, swarms

pytestmark = [pytest.mark.slow, pytest.mark.alone, pytest.mark.soak]

BAD = Line(delay_s=0.08, loss=0.02, bits_per_s=20e6)
"""A home far away: 160 ms there and back, and a packet in fifty is lost."""

PATIENCE_S = 300.0
FLOAT_BYTES = 4


@pytest.fixture
def swarm(net: Network) -> Iterator[Swarm]:
    """A place for daemons, which end before their network does."""
    with swarms() as made:
        yield made


def assert_one_model(daemons: list[Daemon], folder: Path) -> None:
    """All assemble the same values."""
    models = []
    for daemon in daemons:
        path = folder / daemon.home.name
        daemon.ask("export", path=str(path))
        models.append(read_checkpoint(path)[0])
    for other in models[1:]:
        assert other.keys() == models[0].keys()
        for name, values in models[0].items():
            np.testing.assert_array_equal(values, other[name])


def test_a_bad_line_makes_a_swarm_slower_and_nothing_else(
    net: Network, swarm: Swarm, tmp_path: Path
) -> None:
    hosts = [net.host(), net.host(), net.host(line=BAD)]
    daemons = start_all(swarm, hosts, {**QUICK, "rounds": 10, "deadline_min_s": 15.0})
    for daemon in daemons:
        daemon.wait("done", PATIENCE_S)
        for row in daemon.rounds():
            assert not missing(row) and row["stale_ranges"] == 0, row
    peers = daemons[0].ask("peers")["peers"]
    assert isinstance(peers, list)
    assert max(row["rtt_s"] or 0.0 for row in peers) > 2 * BAD.delay_s
    assert_one_model(daemons, tmp_path)


SLOW = Line(delay_s=0.02, loss=0.0, bits_per_s=4e5)
"""50 kB/s: a chunk takes twenty seconds."""


def planned_bytes(daemons: list[Daemon]) -> int:
    """What all send each other in all rounds, by the plans."""
    hops = (Hop.CONTRIBUTION, Hop.FUSED, Hop.HOME)
    names = [daemon.peer for daemon in daemons]
    elements = (
        plan.elements(hop.value, source, target, "")
        for plan, _ in planned(daemons[0])
        for hop in hops
        for source, target in itertools.permutations(names, 2)
    )
    return FLOAT_BYTES * sum(elements)


def test_a_slow_line_carries_what_was_planned_and_little_else(
    net: Network, swarm: Swarm, tmp_path: Path
) -> None:
    settings = {
        **QUICK,
        "model_arguments": {"hidden": [1_000, 1_000]},
        "rounds": 2,
        "deadline_min_s": 120.0,
        "deadline_max_s": 2_000.0,
    }
    hosts = [net.host(line=SLOW) for _ in range(3)]
    daemons = start_all(swarm, hosts, settings)
    sent = 0
    for daemon in daemons:
        daemon.wait("done", PATIENCE_S)
        for row in daemon.rounds():
            assert not missing(row) and row["stale_ranges"] == 0, row
        counted = daemon.ask("status")["traffic"]
        assert isinstance(counted, dict)
        sent += int(counted["sent_bytes"])
    planned_sum = planned_bytes(daemons)
    assert planned_sum > 8e6
    # Probes and news, which are counted with it, are the rest.
    assert planned_sum < sent < 1.05 * planned_sum


# --- A network that falls apart ------------------------------------------------------

EPOCH = 5
SPLIT: dict[str, object] = {
    **QUICK,
    # So many, and so long, that the network is whole again long before the last.
    "model_arguments": {"hidden": [128, 128]},
    "batch": 8,
    "rounds": 200,
    "rounds_per_epoch": EPOCH,
    "local_epochs": 6,
    "deadline_min_s": 15.0,
    "deadline_max_s": 60.0,
    "network": "local",
}
MAJORITY, MINORITY = 3, 2
NO_QUORUM = "no quorum: 2 of 5"


def members(daemon: Daemon) -> int:
    """How many are in the roster of a daemon's round."""
    found = daemon.ask("status")["roster"]
    assert isinstance(found, dict)
    return int(found["members"])


def says(daemon: Daemon, text: str) -> bool:
    """Whether the screen of a daemon says this."""
    return text in json.dumps(daemon.ask("status"))


def names(daemons: list[Daemon]) -> set[str]:
    """What rounds call them."""
    return {f"p{daemon.home.name}" for daemon in daemons}


def is_whole(daemon: Daemon, few: list[Daemon]) -> bool:
    """Whether the smaller part contributed to the last round that a daemon closed."""
    return names(few) <= contributors(daemon.rounds()[-1])


def test_of_a_swarm_in_two_parts_the_larger_goes_on_and_the_other_waits_and_returns(
    net: Network, swarm: Swarm, tmp_path: Path
) -> None:
    hosts = [net.host(beyond=number >= MAJORITY) for number in range(5)]
    daemons = start_all(swarm, hosts, SPLIT)
    many, few = daemons[:MAJORITY], daemons[MAJORITY:]
    for daemon in daemons:
        daemon.wait("round=2", PATIENCE_S)
    net.part()
    parted = max(map(number_of_round, daemons))
    for daemon in few:
        daemon.until(lambda d=daemon: says(d, NO_QUORUM))
    stood = [number_of_round(daemon) for daemon in few]
    for daemon in many:
        daemon.until(lambda d=daemon: members(d) == MAJORITY, PATIENCE_S)
        assert not says(daemon, "no quorum")
    gone_on = min(map(number_of_round, many))
    assert gone_on > parted + 2
    assert [number_of_round(daemon) for daemon in few] == stood, "nobody raced on"
    assert all(says(daemon, NO_QUORUM) for daemon in few)
    net.heal()
    for daemon in few:
        daemon.wait(f"round={gone_on}", PATIENCE_S)
    # Who comes back is in the roster again after two epochs; how many rounds pass until
    # it is reached again depends on how fast they are.
    many[0].until(lambda: is_whole(many[0], few), PATIENCE_S)
    for daemon in daemons:
        daemon.wait("done", PATIENCE_S)
        assert members(daemon) == len(daemons)
        assert not says(daemon, "no quorum")
    assert_return(many, few, parted)
    assert_one_model(daemons, tmp_path)


def assert_return(many: list[Daemon], few: list[Daemon], parted: int) -> None:
    """Those of the smaller part are missed in one stretch of rounds, and contribute to
    the last; nobody is missed before the network fell apart, nor of the larger part."""
    for daemon in many:
        rows = daemon.rounds()
        assert is_whole(daemon, few), rows[-1]
        for row in rows:
            assert missing(row).keys() <= names(few), (daemon.home.name, row)
        named = [number_of(row) for row in rows if missing(row)]
        assert named and parted <= named[0] <= parted + 1
