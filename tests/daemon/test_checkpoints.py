"""The whole models that a home keeps: made, listed, forgotten."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from p2pfusion.cli.main import main
from p2pfusion.daemon.checkpoints import listed
from p2pfusion.split.layout import Axis, Dimension, Initial, Layout, ParameterSpec
from p2pfusion.split.segment import Split
from p2pfusion.store import read_checkpoint, write_checkpoint
from tests.daemon.running import ALONE, running

LAYOUT = Layout(
    (Axis("a", 8),), (ParameterSpec("w", (Dimension(8, "a"),), Initial("zeros")),)
)


def write(directory: Path, number: int) -> Path:
    """A checkpoint after a round, older the smaller the number."""
    path = directory / f"round-{number:06}.safetensors"
    segments = tuple(Split.full(LAYOUT).segments(LAYOUT))
    with write_checkpoint(path, LAYOUT, {"p2pfusion_round": str(number)}) as writer:
        writer.write_flat(segments, np.full(8, number, np.float32))
    os.utime(path, (1_700_000_000 + number, 1_700_000_000 + number))
    return path


def test_the_list_tells_good_ones_from_damaged_and_half_written(
    tmp_path: Path,
) -> None:
    good, damaged = write(tmp_path, 3), write(tmp_path, 7)
    cut = tmp_path / "round-000009.safetensors"
    cut.write_bytes(good.read_bytes()[:100])
    os.utime(cut, (1_800_000_000, 1_800_000_000))
    (tmp_path / ".round-000011.safetensors.part").write_bytes(good.read_bytes())
    changed = bytearray(damaged.read_bytes())
    changed[-1] ^= 1
    damaged.write_bytes(changed)
    os.utime(damaged, (1_700_000_007, 1_700_000_007))
    found = listed(tmp_path, verified=True)
    assert [(row["id"], row["round"], row["verified"]) for row in found] == [
        ("round-000009", None, False),
        ("round-000007", 7, False),
        ("round-000003", 3, True),
    ]
    assert found[2]["when"] == "2023-11-14T22:13:23Z"
    assert found[2]["bytes"] == good.stat().st_size
    assert [r["verified"] for r in listed(tmp_path, verified=False)] == [None] * 3


def test_no_directory_has_no_checkpoints(tmp_path: Path) -> None:
    assert listed(tmp_path / "none", verified=True) == []


@pytest.mark.slow
def test_a_peer_keeps_the_newest_and_forgets_the_others() -> None:
    swarm = {**ALONE, "rounds": 7, "local_steps": 1}
    peer = {"checkpoint_every": 1, "checkpoints_kept": 2}
    with running(swarm=swarm, peer=peer) as alone:
        directory = alone.home.checkpoints
        alone.turn_until(lambda: bool(alone.ask("status")["round"]["phase"] == "done"))  # type: ignore[index]
        alone.turn_until(lambda: not alone.is_exporting)
        last = alone.ask("checkpoint-create")
        found = listed(directory, verified=True)
        assert len(found) == 2 and all(row["verified"] for row in found)
        assert found[0]["path"] == last["path"] and found[0]["round"] == 7
        beside = sorted(path.name for path in directory.glob("*.manifest.json"))
        assert beside == sorted(f"{row['id']}.manifest.json" for row in found)
        assert len(list(directory.iterdir())) == 4, "and nothing unfinished"
        values, metadata = read_checkpoint(Path(str(last["path"])))
        assert metadata["model"] == "mlp" and values
        assert not alone.node.troubles


@pytest.mark.slow
def test_they_go_where_the_profile_says_and_nothing_else_is_touched(
    tmp_path: Path,
) -> None:
    directory = tmp_path / "disk" / "models"
    directory.mkdir(parents=True)
    other = write(directory, 1).rename(directory / "mine.safetensors")
    peer = {
        **{"checkpoint_every": 1, "checkpoints_kept": 1},
        "checkpoint_directory": str(directory),
    }
    with running(swarm={**ALONE, "rounds": 3, "local_steps": 1}, peer=peer) as alone:
        made = directory / "round-000003.safetensors"
        alone.turn_until(
            lambda: made.exists() and not alone.is_exporting  # the last one
        )
        assert not alone.home.checkpoints.exists()
    assert other.exists(), "older than all of them"
    assert [path.name for path in directory.glob("round-*.safetensors")] == [made.name]
    command = ["checkpoint", "ls", str(directory), "--home", str(tmp_path), "--json"]
    assert main(command) == 0


@pytest.mark.slow
def test_one_that_cannot_be_made_is_a_warning_and_no_end() -> None:
    swarm = {**ALONE, "rounds": 3, "local_steps": 1}
    with running(swarm=swarm, peer={"checkpoint_every": 2}) as alone:
        alone.home.checkpoints.write_text("in the way")
        alone.turn_until(lambda: "checkpoint" in alone.node.troubles)
        alone.home.checkpoints.unlink()
        alone.turn_until(lambda: bool(alone.ask("status")["round"]["phase"] == "done"))  # type: ignore[index]
        alone.turn_until(lambda: "checkpoint" not in alone.node.troubles)
        assert len(listed(alone.home.checkpoints, verified=False)) == 1
