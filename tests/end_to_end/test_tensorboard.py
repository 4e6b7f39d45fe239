"""``start --tensorboard``: what a daemon has written is what ``rounds`` says."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from tests.daemon.test_scalars import read
from tests.end_to_end.programs import Program, end_marked, profile

pytestmark = pytest.mark.slow

SWARM = 'name = "alone"\nmodel = "mlp"\nrounds = 3\n'


def test_every_round_of_a_daemon_in_the_background(tmp_path: Path) -> None:
    mark = f"{os.getpid()}-{tmp_path.name}"
    ann, directory = Program(tmp_path / "home", mark), tmp_path / "runs"
    founder = profile(tmp_path / "alone.toml", {"swarm": SWARM})
    try:
        started = ann.run(
            "start", str(founder), "--tensorboard", str(directory), "--detach"
        )
        assert started.code == 0, started
        assert ann.run("wait", "--for", "done", "--timeout", "240").code == 0
        rounds = ann.run("rounds", "--json").data["rounds"]
        assert ann.run("stop").code == 0
    finally:
        end_marked(mark)
    assert isinstance(rounds, list) and len(rounds) == 3
    found = read(directory)
    for tag, key in (("loss", "loss"), ("round/seconds", "seconds")):
        expected = [(row["number"], float(np.float32(row[key]))) for row in rounds]
        assert found[tag] == expected
