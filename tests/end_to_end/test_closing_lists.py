"""Real daemons whose rounds close with the updates that are ready first."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from p2pfusion.store import read_checkpoint
from tests.end_to_end.swarm import QUICK, Swarm, share

pytestmark = [pytest.mark.slow, pytest.mark.soak]

ROUNDS = 4
SETTINGS = {
    **QUICK,
    **{"model": "vit-units", "method": "co-s2p", "objective": "exits"},
    "model_arguments": {
        **{"in_channels": 1, "image_size": 8, "patch": 4, "width": 16, "heads": 4},
        **{"layers": 2, "inner": 16, "exits": 2, "classes": 10},
    },
    **{"method_arguments": {"mask": "static"}, "rounds": ROUNDS, "min_peers": 3},
}


def test_two_of_three_close_a_round_and_all_have_the_same_model(
    swarm: Swarm, tmp_path: Path
) -> None:
    daemons = [
        swarm.add(
            data={**share(number, 3), "limit": 120},
            swarm=SETTINGS if number == 0 else None,
        )
        for number in range(3)
    ]
    founder, *others = daemons
    founder.start()
    ticket = founder.ticket(uses=2)
    for daemon in others:
        daemon.launch("--join", ticket)
    exported = []
    for daemon in daemons:
        daemon.wait("done")
        # One that falls two rounds behind, as on a busy machine, catches up.
        counts = {row["number"]: row["contributors"] for row in daemon.rounds()}
        assert ROUNDS - 1 in counts
        assert all(len(each) >= 2 for each in counts.values())  # type: ignore[arg-type]
        path = tmp_path / f"{daemon.home.name}.safetensors"
        daemon.ask("export", path=str(path))
        exported.append(read_checkpoint(path)[0])
    for name, value in exported[0].items():
        assert np.isfinite(value).all()
        assert all(np.array_equal(value, each[name]) for each in exported[1:]), name
