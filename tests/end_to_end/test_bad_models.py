"""What is wrong with somebody's own model or data, in one line and with exit code 8."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from p2pfusion.cli.toml_text import toml_text
from tests.end_to_end.programs import Program

pytestmark = pytest.mark.slow

CODE = """
import numpy as np
import torch
from torch import nn


class Branching(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(64, 10)

    def forward(self, images):
        values = self.layer(images.flatten(1))
        if values.sum() > 0:  # follows from values
            values = -values
        return values


class Choosing(Branching):
    def forward(self, images):
        values = self.layer(images.flatten(1))
        bright = values[values[:, 0] > 0]  # nobody knows how many
        return values + bright.sum()


class Sorting(Branching):
    def forward(self, images):
        values = self.layer(images.flatten(1))
        return self.layer.bias + torch.unique(values, dim=0)


class Telling(Branching):
    def forward(self, images):
        return [self.layer(images.flatten(1)), "extra"]


def mixed(part):
    return [(np.zeros((8, 8), "f4"), 0), (np.zeros((8, 9), "f4"), 1)] * 8


def few(part):
    return np.zeros((2, 8, 8), "uint8"), [0, 1]


def none(part):
    return np.zeros((0, 8, 8), "uint8"), np.zeros(0, "int64")


def negative(part):
    return np.zeros((4, 8, 8), "uint8"), [0, 1, 2, -1]


def many(part):
    return np.zeros((40, 8, 8), "uint8"), np.arange(40) % 12


def build(classes, width=16):
    return nn.Sequential(nn.Flatten(), nn.Linear(64, width), nn.Linear(width, classes))
"""


def soaking(*values: object) -> object:
    """A case of which the tests of the trainer's parts have the words already."""
    return pytest.param(*values, marks=pytest.mark.soak)


SHOW = ("split", "show", "--model")
TRAIN = ("sim", "--train", "--rounds", "1", "--data")


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Program:
    """With a package of somebody's own on its path."""
    (tmp_path / "wrong.py").write_text(CODE)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    return Program(tmp_path / "home")


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ((*SHOW, "wrong:Branching"), ("wrong.py, line 14: if values.sum() > 0",)),
        soaking((*SHOW, "wrong:Choosing"), ("wrong.py, line 22: bright = values[",)),
        ((*SHOW, "wrong:Sorting"), ("wrong.py, line 29: ", "unique")),
        soaking(
            (*SHOW, "wrong:Telling"),
            ("gives list, where a tensor of logits is needed",),
        ),
        (
            (*TRAIN, "wrong:mixed"),
            ("record 1 has the shape (8, 9), and that of record 0 (8, 8)",),
        ),
        soaking((*TRAIN, "wrong:few"), ("2 records cannot be dealt to 4 shares",)),
        soaking((*TRAIN, "wrong:none"), ("there are no records",)),
        soaking((*TRAIN, "wrong:negative"), ("record 3 has the label -1",)),
        (
            (*TRAIN, "wrong:many", "--model-arguments", '{"classes": 10}'),
            ("needs the model argument classes = 12, the model has 10",),
        ),
    ],
    ids=lambda value: value[-1] if isinstance(value, tuple) else value,
)
def test_it_is_one_clear_line(
    program: Program, arguments: tuple[str, ...], told: tuple[str, ...]
) -> None:
    done = program.run(*arguments)
    assert done.code == 8, done
    assert done.err.count("\n") == 1 and "Traceback" not in done.err, done.err
    assert all(text in done.err for text in told), done.err


SHARE = {"rule": "iid", "share": "3/4"}
BUILD = {"model": "wrong:build", "model_arguments": {"classes": 10}}
FOLDER = {"kind": "image-folder", "path": "pictures"}
DIGITS = {"kind": "digits"}


def case(swarm: object, data: object, told: str, *, soaks: bool = True) -> object:
    """What a founder's profile says, and what must be said of it."""
    marks = [pytest.mark.soak] if soaks else []
    return pytest.param(swarm, data, told, marks=marks, id=told)


@pytest.mark.parametrize(
    ("swarm", "data", "told"),
    [
        case({"model": "wrong:Branching"}, DIGITS, "takes follows from values"),
        case({"model": "wrong:Choosing"}, DIGITS, "gives follows from values"),
        case({"model": "wrong:Telling"}, DIGITS, "gives list, where a tensor"),
        case(BUILD, {"kind": "wrong:mixed"}, "that of record 0 (8, 8)"),
        case(BUILD, {"kind": "wrong:none"}, "there are no records"),
        case(BUILD, {"kind": "wrong:negative"}, "record 3 has the label -1"),
        case(BUILD, {"kind": "wrong:many"}, "classes = 12, the model has 10"),
        case(
            BUILD,
            {"kind": "wrong:few", "partition": SHARE},
            "2 records cannot be dealt to 4 shares",
            soaks=False,
        ),
        case(BUILD, FOLDER, "mixed image sizes: 9 x 8 pixels here", soaks=False),
    ],
)
def test_both_who_checks_a_profile_and_who_starts_it_are_told(
    program: Program,
    tmp_path: Path,
    swarm: dict[str, object],
    data: dict[str, object],
    told: str,
) -> None:
    for name, width in (("one", 8), ("other", 9)):
        picture = tmp_path / "pictures" / name / "0.png"
        picture.parent.mkdir(parents=True)
        Image.fromarray(np.zeros((8, width), np.uint8)).save(picture)
    founder = {"name": "bad", "min_peers": 1, "rounds": 1, **swarm}
    profile = tmp_path / "founder.toml"
    listens = {"listen": "127.0.0.1:0"}
    profile.write_text(toml_text({"peer": listens, "data": data, "swarm": founder}))
    checked = program.run("profiles", "check", str(profile))
    assert checked.code == 8 and checked.out.count("\n") == 1, checked
    assert told in checked.out, checked
    started = program.run("start", str(profile))
    assert started.code == 8 and "Traceback" not in started.err, started
    last = started.err.splitlines()[-1]
    assert last.startswith("p2pfusion: ") and told in last, started


def test_a_peer_that_founds_nothing_has_its_data_checked(
    program: Program, tmp_path: Path
) -> None:
    profile = tmp_path / "joins.toml"
    profile.write_text(toml_text({"data": {"kind": "wrong:negative"}}))
    checked = program.run("profiles", "check", str(profile))
    assert checked.code == 8 and "record 3 has the label -1" in checked.out, checked
    profile.write_text(toml_text({"data": {"kind": "wrong:many"}}))
    checked = program.run("profiles", "check", str(profile))
    assert checked.code == 0, checked
