"""``sim`` without ``--train``: its text, its JSON, its exit code."""

from __future__ import annotations

import json

import click
import pytest
from click.testing import CliRunner

from p2pfusion.cli.command import command
from p2pfusion.cli.main import main
from p2pfusion.cli.simulate import outcome_text, run_simulation

OUTCOME: dict[str, object] = {
    "peers": 4,
    "rounds": 12,
    "seed": 3,
    "split_fraction": 0.5,
    "faults": "random",
    "event_log_hash": "00ff",
    "events": 1234,
    "virtual_seconds": 61.0,
    "rounds_completed_min": 12,
    "roster_convergence_s": None,
    "bytes_per_peer_round": {"p50": 2000.0, "p99": 4000.0, "max": 5000.0},
    "control_bytes_per_peer_s": 900.0,
    "observed": {},
    "known_gaps": {},
    "violations": [],
}


@command("sim", example="p2pfusion sim")
@click.option("--faults", default="none")
@click.option("--rounds", type=int, default=3)
def sim(faults: str, rounds: int) -> None:
    """The part of the command that is tested here."""
    run_simulation(peers=2, rounds=rounds, seed=0, fraction="0.5", faults=faults)


def test_a_sound_swarm_is_told_in_a_few_lines() -> None:
    done = CliRunner().invoke(sim, [])
    assert done.exit_code == 0, done.output
    lines = done.output.splitlines()
    assert lines[0] == "Swarm     2 peers, 3 rounds, seed 0, faults none"
    assert lines[2] == "Rounds    3 completed by everybody who is there"
    assert lines[-1] == "Violated  nothing"


def test_the_same_in_json() -> None:
    done = CliRunner().invoke(sim, ["--json"])
    document = json.loads(done.output)
    assert (done.exit_code, document["ok"], document["error"]) == (0, True, None)
    assert document["data"]["rounds_completed_min"] == 3
    assert document["data"]["violations"] == []


def test_a_violation_is_told_with_the_command_that_shows_it_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("p2pfusion.simulation.recovery.STALL", 0.0)
    done = CliRunner().invoke(sim, [])
    assert done.exit_code == 1
    assert "VIOLATED  stall at " in done.output
    replay = "p2pfusion sim --peers 2 --rounds 3 --seed 0 --split-fraction 1/2"
    assert f"Again     {replay} --faults none" in done.output
    as_json = json.loads(CliRunner().invoke(sim, ["--json"]).output)
    assert not as_json["ok"] and as_json["error"]["code"] == 1
    assert as_json["data"]["violations"][0]["replay"].startswith(replay)


def test_text_of_what_is_not_known_and_of_too_much() -> None:
    assert "one and the same never after" in outcome_text(OUTCOME)
    violation = {"check": "x", "at_s": 1.0, "peer": "p1", "text": "y", "replay": "z"}
    many = outcome_text({**OUTCOME, "violations": [violation] * 12}).splitlines()
    assert many.count("VIOLATED  x at 1.000 s, p1: y") == 10
    assert many[-2:] == ["... and 2 more", "Again     z"]


def test_a_simulated_swarm_that_trains_tells_what_it_learned(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The runner is a process of its own."""
    line = "--json sim --train --faults none --peers 2 --rounds 3"
    assert main(line.split()) == 0
    data = json.loads(capsys.readouterr().out)["data"]
    assert data["violations"] == [] and data["rounds_completed_min"] == 3
    assert data["model"] == "mlp" and 0.2 < data["accuracy"] <= 1.0


@pytest.mark.parametrize("line", ["--policy fork", "--faults none --eval-every 2"])
def test_an_option_that_would_be_ignored_is_refused(line: str) -> None:
    assert main(["sim", "--train", *line.split()]) == 2
