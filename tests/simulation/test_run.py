"""A simulation from beginning to end: what it tells."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from p2pfusion.errors import ConfigError
from p2pfusion.simulation.run import Outcome, Setting, simulate

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "faults.toml"


def sound(setting: Setting) -> Outcome:
    outcome = simulate(setting)
    told = [f"{v.at_s:.3f} {v.check} {v.peer}: {v.text}" for v in outcome.violations]
    assert not told, "\n".join([setting.command, *told])
    return outcome


# --- The outcome ---------------------------------------------------------------------


def test_the_example_script_breaks_nothing_and_all_take_part() -> None:
    outcome = sound(Setting(peers=6, rounds=30, faults=str(EXAMPLE)))
    assert outcome.rounds_completed_min == 30
    assert outcome.roster_convergence_s is not None


def test_a_sound_swarm_of_one() -> None:
    outcome = sound(Setting(peers=1, rounds=3, faults="none"))
    assert outcome.rounds_completed_min == 3
    assert outcome.bytes_per_peer_round == {"p50": 0.0, "p99": 0.0, "max": 0.0}


def test_the_outcome_is_plain_data() -> None:
    outcome = sound(Setting(peers=3, rounds=4, faults="none"))
    data = json.loads(json.dumps(outcome.to_data()))
    assert list(data) == [
        *("peers", "rounds", "seed", "split_fraction", "faults", "network"),
        "partition_policy",
        *("event_log_hash", "events", "virtual_seconds", "rounds_completed_min"),
        *("roster_convergence_s", "bytes_per_peer_round"),
        *("control_bytes_per_peer_s", "observed", "known_gaps", "violations"),
    ]
    assert data["violations"] == [] and data["known_gaps"] == data["observed"] == {}
    moved = data["bytes_per_peer_round"]
    assert 0 < moved["p50"] <= moved["p99"] <= moved["max"]
    assert data["control_bytes_per_peer_s"] > 0


def test_the_command_that_does_it_again_has_every_choice() -> None:
    setting = Setting(peers=3, rounds=4, seed=9, faults="none")
    assert setting.command == (
        "p2pfusion sim --peers 3 --rounds 4 --seed 9 --split-fraction 1/2 --faults none"
    )


def test_a_script_that_does_not_fit_the_swarm_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"faults.toml: fault .* names 'p5'"):
        simulate(Setting(peers=2, faults=str(EXAMPLE)))
