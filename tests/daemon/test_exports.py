"""Exports of one peer's swarm: a whole file with its origin, or none at all.

Exports from several peers, with the progress they tell, are in
``tests/end_to_end/test_losses.py``.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from p2pfusion.errors import ConfigError, P2PFusionError, ResourceError
from p2pfusion.store import read_checkpoint
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
