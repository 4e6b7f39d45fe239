"""What is wrong with somebody's own model or data, in one line and with exit code 8."""

from __future__ import annotations

from pathlib import Path

import pytest

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
