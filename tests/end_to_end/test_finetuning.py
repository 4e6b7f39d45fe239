"""A swarm of real daemons that finetunes a pretrained model, each the layers it can."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from p2pfusion.simulation.experiment import run
from p2pfusion.store import read_checkpoint
from p2pfusion.store.checksum import file_hash
from tests.end_to_end.programs import Program
from tests.end_to_end.swarm import QUICK, Swarm

pytestmark = pytest.mark.slow

MODEL = {
    **{"in_channels": 1, "image_size": 8, "patch": 4, "width": 16, "heads": 4},
    **{"layers": 2, "inner": 16, "group": 4, "classes": 10},
}
PRETRAINING: dict[str, object] = {
    **{"model": "vit", "model_arguments": MODEL, "data": {"kind": "digits"}},
    **{"peers": 1, "method": "fedavg", "split_fraction": "1", "rounds": 1},
    **{"limit": 100, "limit_test": 50},
}


def test_a_strong_and_a_weak_peer_finetune_what_only_the_founder_had(
    swarm: Swarm, tmp_path: Path
) -> None:
    file = tmp_path / "pretrained.safetensors"
    run({**PRETRAINING, "save": str(file)}, lambda message: None)
    name = file_hash(file)
    settings = {
        **QUICK,
        **{"model": "vit", "model_arguments": MODEL, "min_peers": 2},
        **{"method": "layer-finetune", "pretrained": str(file)},
    }
    digits = {"kind": "digits", "limit": 200}
    strong = swarm.add(data=digits, peer={"split_fraction": 0.5}, swarm=settings)
    # Less than a quarter would be too little of the heads, if these were cut.
    weak = swarm.add(data=digits, peer={"split_fraction": 0.1})
    strong.start()
    ticket = strong.ticket(uses=3)

    # What it gives to others is its store's: its pool may be emptied.
    (strong.home / "pool" / f"{name}.safetensors").unlink()
    weak.start("--join", ticket)
    weak.wait("joined")
    listed = Program(weak.home).run("pool", "ls", "--json")
    assert [found["hash"] for found in listed.data["pool"]] == [name]  # type: ignore[attr-defined]
    for daemon in (strong, weak):
        daemon.wait("done")

    before, _ = read_checkpoint(file)
    exported = []
    for daemon in (strong, weak):
        path = tmp_path / f"{daemon.home.name}.safetensors"
        daemon.ask("export", path=str(path))
        exported.append(read_checkpoint(path)[0])
    for key, value in before.items():
        assert all(np.array_equal(exported[0][key], each[key]) for each in exported)
        trained = key.startswith(("blocks.1.", "norm.", "classifier."))
        assert np.array_equal(exported[0][key], value) != trained, key

    # A member's store has all that it needs: the pool may be emptied.
    for found in (weak.home / "pool").iterdir():
        found.unlink()
    weak.interrupt()
    assert weak.ended()[0] == 0
    weak.start()
    weak.wait("done")
