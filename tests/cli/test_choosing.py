"""``pool choose``: real checkpoints, whose layouts a trainer process tells."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from p2pfusion.cli.main import main
from p2pfusion.daemon.home import Home
from p2pfusion.daemon.pool import Pool

Capture = pytest.CaptureFixture[str]

pytestmark = pytest.mark.slow  # torch starts once for every checkpoint


def add(home: Home, model: str | None, seed: int = 0, **arguments: object) -> str:
    """A checkpoint that says of itself what an exported one says; its hash."""
    told = {} if model is None else {"model": model}
    told |= {"model_arguments": json.dumps(arguments)} if arguments else {}
    home.create()
    file = home.root / "any.safetensors"
    save_file({"w": np.full(3, seed, np.float32)}, file, told)
    return Pool(home.pool).add(file)


def vit(home: Home, layers: int, width: int = 16) -> str:
    """A vision transformer of so many blocks."""
    shape = {"image_size": 8, "patch": 4, "width": width, "heads": 4, "inner": 16}
    return add(home, "vit", layers=layers, group=4, **shape)


def choose(home: Home, capsys: Capture, *options: str) -> dict[str, object]:
    assert main(["pool", "choose", *options, "--json", "--home", str(home.root)]) == 0
    found = json.loads(capsys.readouterr().out)["data"]
    assert isinstance(found, dict)
    return found


def test_the_model_of_which_most_blocks_are_trained(
    tmp_path: Path, capsys: Capture
) -> None:
    home = Home(tmp_path)
    deep, shallow = vit(home, 6), vit(home, 2)
    found = choose(home, capsys, "--split-fraction", "1/6,2/3")
    assert found["chosen"] == deep
    trained = {row["hash"]: row["trained_blocks"] for row in found["candidates"]}  # type: ignore[attr-defined]
    assert trained == {deep: [1, 4], shallow: [1, 2]}
    assert found["split_fractions"] == ["1/6", "2/3"] and found["warnings"] == []
    fractions = {row["hash"]: row["split_fractions"] for row in found["candidates"]}  # type: ignore[attr-defined]
    assert fractions == {deep: ["1/6", "2/3"], shallow: ["1/2", "1"]}
    # Two blocks of either: the model that is trained whole.
    found = choose(home, capsys, "--split-fraction", "1/3")
    assert found["chosen"] == shallow
    assert "as many blocks of 2 models" in found["warnings"][0]  # type: ignore[index]
    # Frozen blocks cost a third of their FLOPs, so 0.4 of 6 blocks is none of them.
    options = ["--split-fraction", "0.4,1", "--limit", "flops"]
    assert main(["pool", "choose", *options, "--home", str(home.root)]) == 0
    screen = capsys.readouterr().out
    assert f'pretrained = "{deep}"' in screen and "0 to 6" in screen
    assert 'split_fraction = "2/5", "1"' in screen


def test_what_cannot_be_finetuned_is_skipped_with_the_reason(
    tmp_path: Path, capsys: Capture
) -> None:
    home = Home(tmp_path)
    good, wide = vit(home, 2), vit(home, 2, width=32)
    reasons = {
        add(home, None, seed=1): "does not say which model",
        add(home, "mlp", seed=2): "mlp cannot be cut in depth",
        add(home, "no-such", seed=3): "no-such",
        add(home, "vit", seed=4, layers="many"): "layers",
    }
    damaged = add(home, "vit", seed=5)
    Pool(home.pool).path(damaged).write_bytes(b"something else")
    reasons[damaged] = "damaged"
    found = choose(home, capsys, "--split-fraction", "1/2")
    assert {row["hash"] for row in found["candidates"]} == {good, wide}  # type: ignore[attr-defined]
    told = {row["hash"]: row["reason"] for row in found["skipped"]}  # type: ignore[attr-defined]
    assert told.keys() == reasons.keys()
    assert all(reasons[name] in told[name] for name in told), told
    assert any("not equally large" in text for text in found["warnings"])  # type: ignore[attr-defined]


@pytest.mark.parametrize("fraction", ["", "0", "1/2,", "2", "a third"])
def test_what_is_no_split_fraction_is_refused(
    fraction: str, tmp_path: Path, capsys: Capture
) -> None:
    options = ["--split-fraction", fraction, "--home", str(tmp_path)]
    assert main(["pool", "choose", *options]) == 8
    assert "--split-fraction" in capsys.readouterr().err


def test_an_empty_pool_says_what_to_do(tmp_path: Path, capsys: Capture) -> None:
    options = ["--split-fraction", "1/2", "--home", str(tmp_path)]
    assert main(["pool", "choose", *options]) == 8
    assert "pool add FILE" in capsys.readouterr().err
