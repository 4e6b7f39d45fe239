"""``sim --train``: what the runner is told, and what becomes of its answers."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import pytest

from p2pfusion.cli.experiment import result_text, round_text
from p2pfusion.cli.main import main
from p2pfusion.cli.threats import threat_lines
from p2pfusion.daemon.presets import PRESETS
from tests.cli.test_simulate import OUTCOME

Capture = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def stub(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("p2pfusion.cli.experiment.RUNNER", "tests.cli.runner_stub")


TOLD = {
    "method": "fedavg",
    "method_arguments": {},
    "objective": "task",
    "objective_arguments": {},
    "model": "mlp",
    "model_arguments": {},
    "data": {
        "kind": "digits",
        "path": None,
        "partition": None,
        "validation": 0.1,
        "limit": None,
    },
    "data_name": "digits",
    "peers": 4,
    "rounds": 20,
    "seed": 0,
    "split_fraction": "1/10",
    "vocabulary": {},
    "augment": "none",
    "partition": {"rule": None, "alpha": 0.5},
    "limit": 9,
    "limit_test": None,
    "batch": 32,
    "local_epochs": 1,
    "local_steps": 0,
    "learning_rate": 0.05,
    "optimiser": "sgd",
    "momentum": 0.9,
    "clip_relative": 0.0,
    "proximal": 0.0,
    "delay": None,
    "label_mask": False,
    "logit_adjustment": 1.0,
    "wire_dtype": None,
    "secure_aggregation": None,
    "privacy_noise": None,
    "privacy_clip": 1.0,
    "weighting": None,
    "fusion": None,
    "second_opinions": None,
    "attack": None,
    "attackers": None,
    "quarantine": False,
    "eval_every": 1,
    "shares": None,
    "participants": None,
    "ensemble": 1,
    "full_forward": False,
    "slowness": None,
    "quorum": None,
    "max_staleness": None,
    "pretrained": None,
    "save": None,
    "probe_labels": None,
    "fine_tune_labels": None,
}


def test_the_runner_is_told_every_option(capsys: Capture) -> None:
    arguments = ["--method", "fedavg", "--split-fraction", "0.1", "--limit", "9"]
    assert main(["sim", "--train", "--json", *arguments]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    told = json.loads(out)["data"]["told"]
    assert told == TOLD


def told(capsys: Capture, *arguments: str) -> dict[str, object]:
    assert main(["sim", "--train", "--json", *arguments]) == 0
    found: dict[str, object] = json.loads(capsys.readouterr().out)["data"]["told"]
    return found


def test_files_and_several_fractions_are_told(capsys: Capture, tmp_path: Path) -> None:
    files = ["--pretrained", "a.safetensors", "--save", str(tmp_path / "b.safetensors")]
    several = ["--method", "fedavg", "--split-fraction", "1/6,0.5"]
    found = told(capsys, *files, *several)
    assert found["pretrained"] == str(Path("a.safetensors").absolute())
    assert found["save"] == str(tmp_path / "b.safetensors")
    assert found["split_fraction"] == "1/6,1/2"
    assert main(["sim", "--train", "--split-fraction", "1/6,2"]) == 8
    assert main(["sim", "--train", "--split-fraction", "1/6,"]) == 8
    assert main(["sim", "--train", "--faults", "none", *files]) == 2
    assert main(["sim", *files]) == 2


def test_the_clock_is_told_where_there_is_one(capsys: Capture) -> None:
    clock = ["--slowness", "1,4", "--quorum", "2", "--max-staleness", "10"]
    found = told(capsys, "--method", "fedavg", *clock)
    assert (found["slowness"], found["max_staleness"]) == ("1,4", 10)
    assert found["quorum"] == 2
    assert main(["sim", "--train", "--faults", "none", *clock]) == 2
    assert "not with --faults" in capsys.readouterr().err
    assert main(["sim", *clock]) == 2


def test_hostile_peers_are_told(capsys: Capture) -> None:
    threat = ["--attack", "sign-flip:2", "--quarantine"]
    found = told(capsys, "--method", "fedavg", "--fusion", "median", *threat)
    assert (found["fusion"], found["attack"]) == ("median", "sign-flip:2")
    assert found["quarantine"] is True
    assert main(["sim", "--train", "--faults", "none", *threat]) == 2
    assert "not with --faults" in capsys.readouterr().err
    assert main(["sim", *threat]) == 2


def test_what_suits_a_method_is_told_unless_something_else_is(capsys: Capture) -> None:
    contrast = ("--method", "msfusion", "--objective", "contrastive")
    assert told(capsys, *contrast)["outer_momentum"] == 0.6
    assert told(capsys, *contrast, "--outer-momentum", "0")["outer_momentum"] == 0
    assert "outer_momentum" not in told(capsys, "--method", "fedavg")


def test_the_objective_is_told(capsys: Capture) -> None:
    found = told(
        capsys,
        *("--method", "fedavg", "--objective", "contrastive"),
        *("--objective-arguments", '{"weight": 5}'),
    )
    assert found["objective"] == "contrastive"
    assert found["objective_arguments"] == {"weight": 5}


def test_labels_of_probes_are_told_where_they_are_needed(capsys: Capture) -> None:
    labels = ("--probe-labels", "50", "--fine-tune-labels", "5")
    objective = ("--method", "fedavg", "--objective", "moco")
    found = told(capsys, *objective, *labels)
    assert (found["probe_labels"], found["fine_tune_labels"]) == (50, 5)
    assert main(["sim", "--train", *labels]) == 2
    assert "only with an objective without labels" in capsys.readouterr().err
    assert main(["sim", "--train", *objective, *labels, "--faults", "none"]) == 2
    assert "not with --faults" in capsys.readouterr().err


def test_a_preset_is_written_out_beside_what_is_stated(capsys: Capture) -> None:
    stated = ["--model-arguments", '{"hidden": [8]}', "--outer-momentum", "0"]
    found = told(capsys, "--preset", "paper", "--rounds", "3", *stated)
    assert found.items() >= PRESETS["paper"].items()
    assert found["model_arguments"] == {"projection": 64, "hidden": [8]}
    assert found["rounds"] == 3 and "preset" not in found


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--preset", "paper", "--no-label-mask"], "label_mask = True, and False"),
        (["--preset", "paper", "--objective", "task"], "objective = 'contrastive'"),
        (
            ["--preset", "paper", "--method-arguments", '{"dwell": 4}'],
            "method_arguments.dwell = 1, and 4",
        ),
        (["--objective-arguments", '{"weight": 1}'], "no argument 'weight'"),
        (
            ["--objective", "contrastive", "--objective-arguments", '{"weight": -1}'],
            "weight is -1",
        ),
    ],
)
def test_contradictions_are_named(
    arguments: list[str], words: str, capsys: Capture
) -> None:
    assert main(["sim", "--train", *arguments]) == 8
    err = capsys.readouterr().err
    assert words in err and err.count("\n") == 1


def test_progress_goes_beside_the_result(capsys: Capture) -> None:
    assert main(["sim", "--train", "--method", "fedavg"]) == 0
    out, err = capsys.readouterr()
    assert err == "Round 1 of 2: loss 0.500, accuracy not measured\n"
    assert out.startswith("Accuracy  unknown  (fedavg on ")


@pytest.mark.parametrize(
    ("method", "code", "words"),
    [
        ("heterofl", 8, "no data; get some"),
        ("fedrolex", 8, "'hello from a library'"),
        ("msfusion", 1, "without a result"),
        ("nope", 8, "there is no method 'nope'"),
    ],
)
def test_what_goes_wrong_is_one_line(
    method: str, code: int, words: str, capsys: Capture
) -> None:
    assert main(["sim", "--train", "--method", method]) == code
    err = capsys.readouterr().err
    assert words in err and err.count("\n") == 1


def test_texts() -> None:
    done = {"round": 3, "rounds": 20, "loss": None, "accuracy": 0.5}
    assert round_text(done) == "Round 3 of 20: loss not measured, accuracy 50.0 %"
    assert round_text({**done, "perplexity": 12.3456}).endswith(
        "accuracy 50.0 %, perplexity 12.35"
    )
    result = {
        "accuracy": 0.9,
        "method": "msfusion",
        "model": "mlp",
        "data": "digits",
        "peers": 4,
        "rounds": 20,
        "split_fraction": 0.5,
        "seed": 0,
        "ever_trained_fraction": 1.0,
        "bytes_per_peer_round": 30_000,
        "train_flops_per_peer_round": 1_000_000,
        "seconds": 61.0,
    }
    assert result_text(result).splitlines() == [
        "Accuracy  90.0 %  (msfusion on mlp, digits)",
        "Swarm     4 peers, split fraction 0.5, 20 rounds, seed 0",
        "Trained   100 % of the parameters",
        "Cost      30 kB and 1e+06 training FLOPs per peer and round",
        "Time      1m01s",
    ]
    result |= {"virtual_seconds": 12.34, "utilisation": 0.5, "updates_too_late": 3}
    assert result_text(result).splitlines()[-2] == (
        "Clock     12.3 virtual seconds, peers busy for 50.0 %; 3 updates came too late"
    )
    result |= {"probe_labels": 300, "random_encoder_accuracy": 0.5}
    assert result_text(result).splitlines()[1] == (
        "Probe     linear, fitted with 300 labels; a random encoder has 50.0 %"
    )
    result |= {"fine_tuned_accuracy": 0.75, "random_encoder_fine_tuned_accuracy": 0.25}
    assert result_text(result).splitlines()[2] == (
        "Tuned     75.0 %; a random encoder: 25.0 %"
    )


HEADS = {"width": 8, "heads": 2, "layers": 1, "inner": 8, "group": 4, "patch": 4}
HEADS |= {"head_hidden": 8, "head_output": 4}


@pytest.mark.slow
def test_without_labels_from_the_command_line(
    capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The real runner, on a set that is good for nothing but this."""
    monkeypatch.setattr(
        "p2pfusion.cli.experiment.RUNNER", "p2pfusion.simulation.experiment"
    )
    small = ["--peers", "2", "--rounds", "1", "--limit", "60", "--limit-test", "40"]
    arguments = ["sim", "--train", *small, "--objective", "moco", "--model", "vit"]
    heads = ["--model-arguments", json.dumps(HEADS), "--probe-labels", "30"]
    assert main([*arguments, *heads, "--method", "fedavg"]) == 0
    out, err = capsys.readouterr()
    assert "Round 1 of 1: loss " in err
    assert out.splitlines()[1].startswith("Probe     linear, fitted with 30 labels; ")
    assert main(arguments) == 8
    err = capsys.readouterr().err
    assert "'moco' needs a model with heads" in err and err.count("\n") == 1


def test_what_a_training_under_faults_violates_is_told_with_all_options(
    capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    violation = {"check": "x", "at_s": 1.0, "peer": "p1", "text": "y", "replay": "z"}
    found = {**OUTCOME, "accuracy": None, "model": "mlp", "data": "digits"}
    monkeypatch.setattr(
        "p2pfusion.cli.experiment.run_experiment",
        lambda *_, **__: {**found, "violations": [dict(violation)]},
    )
    typed = ["sim", "--train", "--faults", "random", "--seed", "3"]
    typed += ["--model-arguments", '{"hidden": [16, 16]}', "--label-mask"]
    assert main([*typed, "--json"]) == 1
    replay = json.loads(capsys.readouterr().out)["data"]["violations"][0]["replay"]
    words = shlex.split(replay)
    assert words[:2] == ["p2pfusion", "sim"]
    assert sorted(words[1:]) == sorted(typed)
    assert main(words[1:]) == 1
    assert f"Again     {replay}" in capsys.readouterr().out


def test_who_was_hostile_and_who_was_found_is_one_line() -> None:
    found = {"attack": "noise", "attackers": ["peer-0001"], "quarantined": []}
    assert threat_lines({}) == []
    assert threat_lines({**found, "suspected": {}}) == [
        "Threat    noise by peer-0001; suspected: nobody"
    ]
    put_out = {**found, "suspected": {"peer-0001": 3}, "quarantined": ["peer-0001"]}
    assert threat_lines(put_out) == [
        "Threat    noise by peer-0001; suspected: peer-0001 in round 3 (put out)"
    ]
    honest = {"attackers": [], "suspected": {}}
    assert threat_lines(honest) == ["Threat    suspected: nobody"]
