"""``split show``, ``export`` and ``evaluate``."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save

from p2pfusion.cli.main import main
from p2pfusion.cli.model import evaluation_text
from p2pfusion.daemon.control import Request
from p2pfusion.protocol.manifest import Manifest
from tests.cli.stub import answering
from tests.layouts import resnet18

Capture = pytest.CaptureFixture[str]


def live(round_index: int, wire_dtype: str = "float32") -> dict[str, object]:
    manifest = Manifest(
        name="a", model="cnn", layout=resnet18(), rounds=6, wire_dtype=wire_dtype
    )
    return {
        "plan": {
            "swarm_id": manifest.swarm_id,
            "manifest": base64.b64encode(manifest.to_bytes()).decode(),
            "roster": [
                {"peer": "abcd", "name": "ann", "split_fraction": "1/2"},
                {"peer": "abxy", "name": "bob", "split_fraction": "1/4"},
            ],
            "round": round_index,
        }
    }


def show(home: Path, capsys: Capture, *arguments: str) -> dict[str, object]:
    code = main(["--home", str(home), "--json", "split", "show", *arguments])
    document = json.loads(capsys.readouterr().out)
    assert code == 0, document
    data = document["data"]
    assert isinstance(data, dict)
    return data


def test_a_live_swarm_is_shown_in_its_round(tmp_path: Path, capsys: Capture) -> None:
    with answering(tmp_path, live(4)):
        data = show(tmp_path, capsys)
        assert (data["round"], data["rounds"], data["model"]) == (4, 6, "cnn")
        assert show(tmp_path, capsys, "--round", "1")["round"] == 1
    with answering(tmp_path, live(6)):
        assert show(tmp_path, capsys)["round"] == 5, "a swarm that is done"


def test_half_precision_on_the_wire_counts(tmp_path: Path, capsys: Capture) -> None:
    with answering(tmp_path, live(0)):
        full = show(tmp_path, capsys)["peers"]
    with answering(tmp_path, live(0, "float16")):
        half = show(tmp_path, capsys)["peers"]
    for one, other in zip(full, half, strict=True):  # type: ignore[call-overload]
        assert one["sent_bytes"] == 2 * other["sent_bytes"] > 0
        assert one["sub_model_bytes"] == other["sub_model_bytes"]


@pytest.mark.parametrize("wanted", ["bob", "abx", "abxy"])
def test_one_peer_by_name_or_the_start_of_its_id(
    wanted: str, tmp_path: Path, capsys: Capture
) -> None:
    with answering(tmp_path, live(0)):
        (found,) = show(tmp_path, capsys, "--peer", wanted)["peers"]  # type: ignore[misc]
    assert found["name"] == "bob"


@pytest.mark.parametrize(("wanted", "told"), [("ab", "2 peers"), ("eve", "no peers")])
def test_an_unclear_name_lists_the_candidates(
    wanted: str, told: str, tmp_path: Path, capsys: Capture
) -> None:
    with answering(tmp_path, live(0)):
        assert main(["--home", str(tmp_path), "split", "show", "--peer", wanted]) == 4
    err = capsys.readouterr().err
    assert told in err and "ann, bob" in err


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--round", "6"], "not below the number of rounds, 6"),
        (["--plot", "x.jpg"], "neither .png nor .svg"),
        (["--model-arguments", "[1]"], "not a JSON object"),
    ],
)
def test_mistakes_of_split_show(
    arguments: list[str], told: str, tmp_path: Path, capsys: Capture
) -> None:
    with answering(tmp_path, live(0)):
        assert main(["--home", str(tmp_path), "split", "show", *arguments]) == 2
    assert told in capsys.readouterr().err


def test_a_method_that_the_model_is_not_made_for(
    tmp_path: Path, capsys: Capture
) -> None:
    swarm = ["--method", "lw-fedssl", "--model", "mlp", "--peers", "2"]
    assert main(["--home", str(tmp_path), "split", "show", *swarm]) == 8
    assert "cannot do without any" in capsys.readouterr().err


def test_an_imagined_swarm_needs_no_daemon(tmp_path: Path, capsys: Capture) -> None:
    plot = tmp_path / "windows.svg"
    arguments = ["--method", "fedrolex", "--model-arguments", '{"hidden": [8]}']
    swarm = ["--peers", "3", "--split-fraction", "0.25", "--plot", str(plot)]
    data = show(tmp_path, capsys, *arguments, *swarm)
    assert (data["method"], data["model"]) == ("fedrolex", "mlp")
    assert [axis["size"] for axis in data["axes"]] == [8]  # type: ignore[attr-defined]
    assert len(data["peers"]) == 3  # type: ignore[arg-type]
    assert data["plot"] == str(plot) and plot.exists()


def test_an_export_asks_for_an_absolute_path(
    tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def answer(request: Request) -> None:
        request.progress({"event": "progress", "done_bytes": 1, "total_bytes": 2})
        request.reply(
            {
                "path": request.arguments["path"],
                "bytes": 1000,
                "round": 20,
                "ever_trained_fraction": 1.0,
                "pulled_bytes": 0,
            }
        )

    monkeypatch.chdir(tmp_path)
    with answering(tmp_path, {"export": answer}) as asked:
        assert main(["--home", str(tmp_path), "export", "m.safetensors"]) == 0
    assert asked[0].arguments == {"path": str(tmp_path / "m.safetensors")}
    out, err = capsys.readouterr()
    assert "1.0 kB" in out and "100 %" in out and err == ""


def test_an_export_into_nowhere_is_refused(tmp_path: Path, capsys: Capture) -> None:
    assert main(["export", str(tmp_path / "no" / "m.safetensors")]) == 8
    assert "there is no directory" in capsys.readouterr().err


def test_a_file_that_does_not_name_its_model_needs_the_option(
    tmp_path: Path, capsys: Capture
) -> None:
    file = tmp_path / "m.safetensors"
    file.write_bytes(save({"w": np.zeros(3, np.float32)}))
    assert main(["evaluate", str(file), "--data", "digits"]) == 8
    assert "name it with --model" in capsys.readouterr().err
    arguments = ["evaluate", str(file), "--data", "digits", "--model", "mlp"]
    assert main(arguments) == 11
    assert "no parameter" in capsys.readouterr().err


@pytest.mark.slow
def test_a_file_says_whether_its_classifier_was_trained(
    tmp_path: Path, capsys: Capture
) -> None:
    file = tmp_path / "m.safetensors"
    values = {
        "layers.0.weight": np.eye(64, dtype=np.float32),
        "layers.0.bias": np.ones(64, np.float32),
        "layers.1.weight": np.zeros((10, 64), np.float32),
        "layers.1.bias": np.zeros(10, np.float32),
    }
    told = {"model": "mlp", "model_arguments": '{"hidden": [64]}'}
    file.write_bytes(save(values, {**told, "objective": "moco", "seed": "3"}))
    assert main(["evaluate", str(file), "--data", "digits"]) == 0
    out = capsys.readouterr().out
    assert "by a linear probe fitted with 1442 labels of the training part" in out
    file.write_bytes(save(values, told))
    assert main(["evaluate", str(file), "--data", "digits"]) == 0
    assert "probe" not in capsys.readouterr().out


def test_what_evaluation_found_in_words() -> None:
    found = {"accuracy": 0.5, "samples": 40, "chance_accuracy": 0.1, "loss": 1.25}
    assert evaluation_text({**found, "held_out": True, "perplexity": None}) == (
        "Accuracy 50.0 % on 40 held-out examples (chance: 10.0 %), loss 1.250"
    )
    language = {**found, "chance_perplexity": 700.1234, "perplexity": 123.456}
    assert evaluation_text(language) == (
        "Accuracy 50.0 % on 40 tokens, NOT held out (chance: 10.0 %), loss 1.250, "
        "perplexity 123.5 (by frequency alone: 700.1)"
    )
    unknown = {**language, "loss": None, "perplexity": None}
    assert "loss not finite, perplexity not finite (by" in evaluation_text(unknown)
    probed = {**found, "held_out": True, "probe_labels": 300}
    assert evaluation_text({**probed, "random_encoder_accuracy": 0.25}) == (
        "Accuracy 50.0 % on 40 held-out examples (chance: 10.0 %), loss 1.250; by a "
        "linear probe fitted with 300 labels of the training part (a random encoder: "
        "25.0 %)"
    )
