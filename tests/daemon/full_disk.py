"""A real node whose disk gets full while it trains, and has room again later.

Run by ``test_disk.py`` on a small file system: the directory is the argument.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from p2pfusion.errors import DiskFullError
from p2pfusion.store import Store
from tests.daemon.running import ALONE, Running, running
from tests.small_disk import fill

SWARM = {
    **ALONE,
    "model_arguments": {"hidden": [512, 512]},
    "rounds": 100_000,
    "local_steps": 1,
}


def number(alone: Running) -> int:
    """The round that the node is in."""
    return alone.node.peer.gossip.round_index


def progress(alone: Running) -> int:
    """The first round that is not sealed, as a start would find it."""
    manifest = alone.node.peer.manifest
    assert manifest is not None
    return alone.node.state.load_progress(manifest.layout)[0]


def versions(alone: Running) -> set[int]:
    """All versions on disk, as a reader finds them."""
    manifest = alone.node.peer.manifest
    assert manifest is not None
    store = Store.open(alone.node.state.store, manifest.layout, manifest.seed)
    indices = range(len(manifest.layout.signatures))
    return {int(v) for index in indices for v in store.versions(index).ravel()}


def main(directory: Path) -> None:
    """Trains, is full, is not full."""
    tempfile.tempdir = str(directory)
    with running(swarm=SWARM) as alone:
        alone.turn_until(lambda: number(alone) >= 3)
        filler = fill(directory)
        alone.turn_until(lambda: alone.node.disk.is_full)
        # What was under way ends; then it stays where it is, and answers.
        for _ in range(30):
            alone.ask("status")
        held, sealed = number(alone), progress(alone)
        for _ in range(30):
            health = alone.ask("status")["health"]
            assert isinstance(health, list)
            codes = {each["code"]: each for each in health}
            assert "MiB needed and 0.0 MiB free" in codes["disk-full"]["message"]
        assert number(alone) == held and progress(alone) == sealed <= held
        assert max(versions(alone)) in (sealed, sealed + 1)
        export(alone, directory)
        alone.node.disk.check(float("inf"))
        assert alone.node.disk.is_full, "nothing has changed"
        filler.unlink()
        # It tries again by itself every few seconds; not to wait for that:
        alone.node.disk.check(float("inf"))
        assert not alone.node.disk.is_full and not alone.node.troubles
        alone.turn_until(lambda: progress(alone) > held + 3)
        rounds = alone.ask("rounds", count=100)["rounds"]
        assert isinstance(rounds, list)
        assert rounds[-1]["contributors"] == ["me"]
        untrained = [row["number"] for row in rounds if not row["contributors"]]
        assert len(untrained) <= 2, untrained
        assert max(versions(alone)) >= progress(alone)


def export(alone: Running, directory: Path) -> None:
    """An export has no room either, and says so."""
    future = alone.begin("export", path=str(directory / "model.safetensors"))
    alone.turn_until(future.done)
    assert isinstance(future.exception(), DiskFullError), future.exception()
    assert not (directory / "model.safetensors").exists()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
