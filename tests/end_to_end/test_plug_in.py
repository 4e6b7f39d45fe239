"""A method that is in no table: from a package of its own, in all that a method is in.

The package is what pip leaves behind: a module and its metadata on the path. Nothing
of p2pfusion knows it.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from p2pfusion.store import read_checkpoint
from tests.end_to_end.programs import Program
from tests.end_to_end.swarm import QUICK, Swarm

pytestmark = pytest.mark.slow

TURNS = '''
"""Peers take turns: each trains a window one step further than its neighbour's."""

from dataclasses import dataclass

from p2pfusion.split.segment import Split
from p2pfusion.split.windows import rolling_window, window_cells


@dataclass(frozen=True)
class Turns:
    cells: int = 1

    def split(self, context, round_index, rank):
        fraction = context.roster[rank].split_fraction
        start = (rank + round_index) * self.cells
        return Split(tuple(
            (axis.name, rolling_window(axis, window_cells(axis, fraction), start))
            for axis in context.layout.axes
        ))
'''


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The package is on the path of every process that a test starts."""
    (tmp_path / "turns.py").write_text(TURNS)
    facts = tmp_path / "turns-1.0.dist-info"
    facts.mkdir()
    (facts / "METADATA").write_text("Metadata-Version: 2.1\nName: turns\nVersion: 1\n")
    (facts / "entry_points.txt").write_text(
        "[p2pfusion.methods]\nturns = turns:Turns\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))


@pytest.mark.usefixtures("installed")
def test_a_method_from_outside_is_planned_trained_and_simulated(tmp_path: Path) -> None:
    program = Program(tmp_path / "home")
    named = ["--method", "turns", "--peers", "3", "--split-fraction", "1/2", "--json"]
    shown = program.run("split", "show", "--model", "mlp", *named)
    assert shown.code == 0, shown.err
    assert shown.data["method"] == "turns"

    told = ["--method-arguments", json.dumps({"cells": 2}), "--rounds", "15"]
    data = ["--data", "digits", "--limit", "300", "--learning-rate", "0.2"]
    trained = program.run("sim", "--train", *named, *told, *data)
    assert trained.code == 0, trained.err
    assert trained.data["method_arguments"] == {"cells": 2}
    accuracy = trained.data["accuracy"]
    assert isinstance(accuracy, float) and accuracy > 0.3  # guessing gives a tenth

    wrong = program.run("sim", "--train", *named, "--method-arguments", '{"cell": 2}')
    assert wrong.code == 8
    assert "did you mean 'cells'?" in wrong.out + wrong.err


@pytest.mark.soak
@pytest.mark.usefixtures("installed")
def test_daemons_train_by_a_method_from_outside(swarm: Swarm, tmp_path: Path) -> None:
    settings = {**QUICK, "method": "turns", "min_peers": 2}
    digits = {"kind": "digits", "limit": 200}
    first = swarm.add(data=digits, swarm=settings)
    second = swarm.add(data=digits)
    first.start()
    second.start("--join", first.ticket())
    for daemon in (first, second):
        daemon.wait("done")
    exported = []
    for daemon in (first, second):
        path = tmp_path / f"{daemon.home.name}.safetensors"
        daemon.ask("export", path=str(path))
        exported.append(read_checkpoint(path)[0])
    for name, value in exported[0].items():
        assert np.array_equal(value, exported[1][name]), name
