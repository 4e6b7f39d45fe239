"""A module, data and an objective of one's own in a real swarm, from profiles alone;
and who refuses them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from p2pfusion.store import read_checkpoint
from tests.end_to_end.programs import Program
from tests.end_to_end.swarm import QUICK, Swarm

pytestmark = pytest.mark.slow

NAME = "garage.models:build"
MODEL = '''
from torch import nn


class Net(nn.Module):
    """An ordinary module, which knows nothing of swarms."""

    def __init__(self, classes, width):
        super().__init__()
        self.first = nn.Conv2d(1, width, KERNEL, padding="same")
        self.norm = nn.BatchNorm2d(width)
        self.second = nn.Conv2d(width, width, 3, padding=1)
        self.head = nn.Linear(width, classes)

    def forward(self, images):
        values = self.norm(self.first(images)).relu()
        values = values + self.second(values).relu()
        return self.head(values.mean((2, 3)))


def build(classes=10, width=16):
    return Net(classes, width)
'''
DATA = """
import numpy as np


def load(part):
    random = np.random.default_rng(5 if part == "train" else 6)
    labels = random.integers(0, 4, 240)
    images = random.normal(0, 0.3, (240, 1, 8, 8)).astype("float32")
    for image, label in zip(images, labels):
        image[0, 4 * (label // 2) :][:4, 4 * (label % 2) :][:, :4] += 1
    return images, labels
"""
LOSS = """
from torch import nn


def build(smoothing):
    return nn.CrossEntropyLoss(label_smoothing=smoothing)
"""
QUARTERS, SMOOTH = "garage.data:load", "garage.losses:build"
SWARM = {**QUICK, "model": NAME, "model_arguments": {}, "min_peers": 3}
DIGITS = {"kind": "digits", "limit": 240}
MINE = {"models": [NAME]}


def garage(directory: Path, kernel: int = 3, version: str = "1.0") -> str:
    """A package that is not ours; where it is."""
    package = directory / "garage"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text(f"__version__ = {version!r}\n")
    (package / "data.py").write_text(DATA)
    (package / "losses.py").write_text(LOSS)
    (package / "models.py").write_text(MODEL.replace("KERNEL", str(kernel)))
    return str(directory)


@pytest.mark.soak
def test_a_module_of_ones_own_trains_in_a_swarm_of_three(
    swarm: Swarm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", garage(tmp_path / "path"))
    first = swarm.add(data=DIGITS, swarm=SWARM)
    others = [swarm.add(data=DIGITS, peer=MINE) for _ in range(2)]
    first.start()
    for each in others:
        each.start("--join", first.ticket())
    for each in (first, *others):
        each.wait("done")
    exported = []
    for each in (first, *others):
        path = tmp_path / f"{each.home.name}.safetensors"
        each.ask("export", path=str(path))
        exported.append(read_checkpoint(path)[0])
    for name, value in exported[0].items():
        assert all(np.array_equal(value, other[name]) for other in exported[1:]), name
    assert exported[0]["first.weight"].shape == (16, 1, 3, 3)
    assert exported[0]["norm.running_var"].min() > 0
    assert not np.array_equal(exported[0]["norm.running_mean"], np.zeros(16))
    program = Program(tmp_path / "elsewhere")
    file = tmp_path / f"{first.home.name}.safetensors"
    refused = program.run("evaluate", str(file), "--data", "digits")
    assert refused.code == 8 and "nobody has named" in refused.err
    named = ["--model", NAME, "--json"]
    told = program.run("evaluate", str(file), "--data", "digits", *named)
    assert told.code == 0, told.err
    assert isinstance(told.data["accuracy"], float)


def test_module_data_and_objective_of_ones_own_train_from_profiles_alone(
    swarm: Swarm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing of it is in p2pfusion, and profiles are all that anybody has written."""
    monkeypatch.setenv("PYTHONPATH", garage(tmp_path / "path"))
    smooth = {"objective": SMOOTH, "objective_arguments": {"smoothing": 0.1}}
    first = swarm.add(data={"kind": QUARTERS}, swarm={**SWARM, **smooth, "rounds": 8})
    theirs = {**MINE, "objectives": [SMOOTH]}
    others = [swarm.add(data={"kind": QUARTERS}, peer=theirs) for _ in range(2)]
    first.start()
    first.wait("joined")
    told = first.ask("invite-create", uses=2)
    code = {"models": [NAME], "objectives": [SMOOTH], "versions": {"garage": "1.0"}}
    assert told["code"] == code
    for each in others:
        each.start("--join", str(told["ticket"]))
    for each in (first, *others):
        each.wait("done")
    path = tmp_path / "whole.safetensors"
    first.ask("export", path=str(path))
    program = Program(tmp_path / "elsewhere")
    named = ["--model", NAME, "--data", QUARTERS, "--json"]
    found = program.run("evaluate", str(path), *named)
    assert found.code == 0, found.err
    assert found.data["held_out"] is True
    accuracy = found.data["accuracy"]
    assert isinstance(accuracy, float) and accuracy > 0.6  # guessing gives a quarter


@pytest.mark.soak
def test_who_has_not_named_it_or_has_another_one_does_not_train(
    swarm: Swarm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", garage(tmp_path / "path"))
    first = swarm.add(data=DIGITS, swarm={**SWARM, "min_peers": 1, "rounds": 1000})
    unaware = swarm.add(data=DIGITS)
    older = swarm.add(data=DIGITS, peer=MINE)
    first.start()
    unaware.launch("--join", first.ticket())
    code, said = unaware.ended()
    assert code == 8 and NAME in said and "nobody has named" in said
    monkeypatch.setenv("PYTHONPATH", garage(tmp_path / "older", kernel=5))
    older.launch("--join", first.ticket())
    code, said = older.ended()
    assert code == 9 and "x 3 x 3 there, parameter first.weight of" in said
    assert "'garage'" not in said  # the version is the same
    monkeypatch.setenv("PYTHONPATH", garage(tmp_path / "newer", version="2.0"))
    newer = swarm.add(data=DIGITS, peer=MINE)
    newer.launch("--join", first.ticket())
    code, said = newer.ended()
    assert code == 9
    assert "package 'garage' is version 2.0 here, and 1.0 in the swarm" in said


@pytest.mark.soak
def test_an_objective_that_nobody_has_named_is_not_imported(
    swarm: Swarm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", garage(tmp_path / "path"))
    stated = {"objective": SMOOTH, "objective_arguments": {"smoothing": 0.1}}
    first = swarm.add(data=DIGITS, swarm={**QUICK, **stated, "rounds": 1000})
    unaware = swarm.add(data=DIGITS, peer={"models": [SMOOTH]})
    first.start()
    unaware.launch("--join", first.ticket())
    code, said = unaware.ended()
    assert code == 8 and f'write objectives = ["{SMOOTH}"]' in said
