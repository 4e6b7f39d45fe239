"""Random fault scripts: the same for the same seed, calm at the end, and sensible."""

from __future__ import annotations

import pytest

from p2pfusion.simulation.faults import ALL, KINDS, Script, check_names
from p2pfusion.simulation.random_script import CALM_SHARE, random_script

SEEDS = range(300)


def test_the_same_arguments_give_the_same_script() -> None:
    assert random_script(7, 5, 30) == random_script(7, 5, 30)
    assert random_script(7, 5, 30) != random_script(8, 5, 30)


@pytest.mark.parametrize("peers", [1, 2, 3, 8])
def test_every_script_has_only_what_a_file_may_have(peers: int) -> None:
    for seed in SEEDS:
        script = random_script(seed, peers, 20)
        check_names(script, peers)
        for fault in script.faults:
            required, optional = KINDS[fault.kind]
            assert set(required) <= fault.values.keys() <= {*required, *optional}
            assert fault.at_s >= 0


def test_everything_is_over_when_it_should_be() -> None:
    for seed in SEEDS:
        script = random_script(seed, 5, 40)
        calm = 40.0 * CALM_SHARE
        assert max(fault.at_s for fault in script.faults) <= calm + 0.001
        last = [fault for fault in script.faults if fault.at_s >= calm - 0.001]
        assert {"heal", "unclog", "resume", "slow", "restart"} <= {
            fault.kind for fault in last
        }


def gone(script: Script) -> set[str]:
    """Who is dead after the last fault."""
    dead: set[str] = set()
    for fault in script.faults:
        names = set(fault.names("peers", [f"p{n}" for n in range(5)]))
        if fault.kind in ("kill", "stop"):
            dead |= names
        elif fault.kind == "restart":
            dead -= names
    return dead


def test_at_most_one_peer_is_gone_for_good() -> None:
    counts = [len(gone(random_script(seed, 5, 40))) for seed in SEEDS]
    assert set(counts) == {0, 1}


def test_nobody_joins_by_a_founder_that_is_gone() -> None:
    for seed in SEEDS:
        script = random_script(seed, 5, 40)
        if "p0" in gone(script):
            assert not any(f.kind.startswith("join") for f in script.faults)


def test_all_kinds_of_faults_are_drawn() -> None:
    kinds = {f.kind for seed in SEEDS for f in random_script(seed, 6, 40).faults}
    assert kinds == set(KINDS)
    everybody = [
        fault
        for seed in SEEDS
        for fault in random_script(seed, 5, 40).faults
        if fault.kind == "network" and fault.values["peers"] == ALL
    ]
    assert everybody
