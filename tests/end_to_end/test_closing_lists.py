"""Real daemons that learn masks, announce them, and close their rounds with lists."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from p2pfusion.store import read_checkpoint
from tests.end_to_end.swarm import QUICK, Swarm, share

pytestmark = pytest.mark.slow

ROUNDS = 6
MODEL = {
    **{"in_channels": 1, "image_size": 8, "patch": 4, "width": 16, "heads": 4},
    **{"layers": 4, "inner": 32, "classes": 10},
}
SETTINGS = {
    **QUICK,
    **{"model": "vit-units", "model_arguments": MODEL, "method": "co-s2p"},
    **{"method_arguments": {"mask_epochs": 1}, "objective": "exits"},
    **{"rounds": ROUNDS, "rounds_per_epoch": 1, "min_peers": 3},
}


def test_masks_are_announced_and_rounds_close_without_the_slowest(
    swarm: Swarm, tmp_path: Path
) -> None:
    first = swarm.add(
        data={**share(0, 3), "limit": 120},
        peer={"split_fraction": 1.0},
        swarm=SETTINGS,
    )
    others = [
        swarm.add(data={**share(rank, 3), "limit": 120}, peer={"split_fraction": 0.5})
        for rank in (1, 2)
    ]
    first.start()
    ticket = first.ticket(uses=2)
    for daemon in others:
        daemon.start("--join", ticket)
    daemons = (first, *others)
    for daemon in daemons:
        daemon.wait("done")
    for daemon in daemons:
        assert (daemon.home / "swarm" / "announced.bin").is_file()
        events = daemon.ask("events", since=0)["events"]
        assert isinstance(events, list)
        told = [event["kind"] for event in events]
        assert told.count("announced") == 1
        assert "protocol-error" not in told
        # One that falls two rounds behind, as on a busy machine, catches up.
        counts = {row["number"]: row["contributors"] for row in daemon.rounds()}
        assert ROUNDS - 1 in counts
        assert all(len(each) >= 2 for each in counts.values())
    exported = []
    for daemon in daemons:
        path = tmp_path / f"{daemon.home.name}.safetensors"
        daemon.ask("export", path=str(path))
        exported.append(read_checkpoint(path)[0])
    for name, value in exported[0].items():
        assert np.isfinite(value).all()
        assert all(np.array_equal(value, each[name]) for each in exported[1:]), name
