"""Exports of one peer's swarm: a whole file with its origin, or none at all.

Exports from several peers, with the progress they tell, are in
``tests/end_to_end/test_losses.py``.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from p2pfusion.errors import (
    ConfigError,
    ConflictError,
    P2PFusionError,
    ResourceError,
)
from p2pfusion.store import read_checkpoint
from p2pfusion.store.checksum import file_hash
from p2pfusion.store.companion import write_companion
from tests.daemon.running import ALONE, Running, running


@pytest.fixture(scope="module")
def alone() -> Iterator[Running]:
    """A swarm of one that has trained all of its rounds."""
    with running(data={"kind": "digits"}, swarm=ALONE) as made:
        made.ask("wait", **{"for": "done"})
        yield made


def test_an_export_is_a_whole_model_with_its_origin(
    alone: Running, tmp_path: Path
) -> None:
    path = tmp_path / "model.safetensors"
    found = alone.ask("export", path=str(path))
    manifest = alone.node.peer.manifest
    assert manifest is not None
    values, metadata = read_checkpoint(path)
    assert {n: v.shape for n, v in values.items()} == {
        p.name: p.shape for p in manifest.layout.parameters
    }
    assert metadata["p2pfusion_swarm"] == manifest.swarm_id
    assert (metadata["model"], metadata["p2pfusion_round"]) == ("mlp", "2")
    # What an evaluation needs to know where no classifier was trained.
    assert metadata["objective"] == "task" and metadata["seed"] == str(manifest.seed)
    assert found["bytes"] == path.stat().st_size
    assert (found["path"], found["round"], found["peers"]) == (str(path), 2, 1)
    assert found["parameters"] == manifest.layout.size
    assert 0 < float(str(found["ever_trained_fraction"])) <= 1


def test_it_lies_beside_a_description_of_itself(alone: Running, tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    found = alone.ask("export", path=str(path))
    told = json.loads(Path(str(found["manifest"])).read_text())
    manifest = alone.node.peer.manifest
    assert manifest is not None
    assert told["sha256"] == file_hash(path)
    assert told["layout_sha256"] == manifest.layout.digest.hex()
    assert told["swarm"] == {"id": manifest.swarm_id, "name": manifest.name}
    assert (told["round"], told["rounds"]) == (2, manifest.rounds)
    assert told["ever_trained_fraction"] == found["ever_trained_fraction"]


def test_the_daemon_answers_while_a_file_is_checked_and_synced(
    alone: Running, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    go_on = threading.Event()

    def held(model: Path, facts: Mapping[str, object]) -> str:
        assert go_on.wait(60)
        return write_companion(model, facts)

    monkeypatch.setattr("p2pfusion.daemon.exports.write_companion", held)
    path = tmp_path / "model.safetensors"
    exported = alone.begin("export", path=str(path))
    alone.turn_until(path.exists)
    assert alone.ask("status")["state"]
    with pytest.raises(ConflictError, match="under way"):
        alone.ask("export", path=str(tmp_path / "other.safetensors"))
    assert not exported.done()
    go_on.set()
    alone.turn_until(exported.done)
    assert exported.result()


def test_what_goes_wrong_at_the_end_is_told_and_leaves_nothing(
    alone: Running, tmp_path: Path
) -> None:
    (tmp_path / "model.manifest.json").mkdir()
    with pytest.raises(ResourceError, match="cannot write"):
        alone.ask("export", path=str(tmp_path / "model.safetensors"))
    assert [path.name for path in tmp_path.iterdir()] == ["model.manifest.json"]
    assert not alone.is_exporting


@pytest.mark.parametrize(
    ("path", "error"),
    [
        ("/no/such/directory/model", ConfigError),
        ("model.safetensors", ConfigError),
        ("/tmp", ConfigError),
        ("", ConfigError),
        (None, ConfigError),
        ("/proc/model", ResourceError),
        ("/tmp/" + "x" * 300, ResourceError),
        ("/" + "y" * 300 + "/model", ResourceError),
    ],
    ids=["nowhere", "relative", "directory", "empty", "none", "proc", "long", "longer"],
)
def test_an_export_to_where_nothing_can_be_written_is_refused(
    alone: Running, path: object, error: type[P2PFusionError]
) -> None:
    for _ in range(2):  # the second time shows that the first left nothing behind
        with pytest.raises(error):
            alone.ask("export", path=path)
