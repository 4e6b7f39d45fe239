"""Models of one's own: what may be imported, what a function is told."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from p2pfusion.errors import ConfigError
from p2pfusion.training.models import check_fit, find_model
from p2pfusion.training.models.own import Own
from p2pfusion.training.outside import MODEL, allow
from p2pfusion.training.traits import Traits

DIGITS = Traits("image", (1, 8, 8), 10)
WORDS = Traits("language", (5,), 11, 11)


def perceptron(shape: list[int], classes: int, width: int = 12) -> nn.Module:
    inputs = shape[0] * shape[1] * shape[2]
    return nn.Sequential(
        nn.Flatten(), nn.Linear(inputs, width), nn.ReLU(), nn.Linear(width, classes)
    )


def tables(vocabulary: int, width: int = 8) -> nn.Module:
    return nn.Sequential(nn.Embedding(vocabulary, width), nn.Linear(width, vocabulary))


def test_a_function_is_told_what_the_data_asks_for() -> None:
    model = Own("perceptron", perceptron)
    arguments = {**model.suited(Traits("image", (2, 4, 4), 7)), "width": 6}
    layout = model.layout(arguments)
    shapes = [parameter.shape for parameter in layout.parameters]
    assert shapes == [(6, 32), (6,), (7, 6), (7,)]
    assert [(axis.name, axis.size) for axis in layout.axes] == [("1", 6)]
    assert model.build(arguments, {"1": 3}).get_parameter("1.weight").shape == (3, 32)
    check_fit(model, arguments, Traits("image", (2, 4, 4), 7))


def test_running_text_has_logits_behind_every_token() -> None:
    model = Own("tables", tables)
    layout = model.layout(model.suited(WORDS))
    assert [axis.size for axis in layout.axes] == [8]


def test_a_trace_is_made_once_and_is_the_same_everywhere() -> None:
    one, two = Own("perceptron", perceptron), Own("perceptron", perceptron)
    assert one.trace({}) is one.trace({"width": 12})
    assert one.layout({}).digest == two.layout({}).digest


@pytest.mark.parametrize(
    ("builder", "traits", "text"),
    [
        (lambda size: perceptron([1, 8, 8], 10), DIGITS, "'size' has no default"),
        (lambda classes: 3, DIGITS, "gives int, not an nn.Module"),
        (lambda classes: nn.Linear(-1, classes), DIGITS, "cannot be built"),
        (lambda: perceptron([1, 8, 8], 4), DIGITS, "shape \\(4,\\), and the data"),
        (tables, DIGITS, "fails|no tensor|cannot be built"),
        (3, DIGITS, "not a function"),
    ],
)
def test_a_function_that_gives_no_model_is_refused(
    builder: object, traits: Traits, text: str
) -> None:
    model = Own("mine:build", builder)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match=text) as caught:
        model.layout(model.suited(traits))
    assert "mine:build" in caught.value.message
    assert "\n" not in caught.value.message


@pytest.mark.parametrize(
    ("key", "value"), [("task", "sound"), ("shape", [8, 8]), ("shape", 3)]
)
def test_arguments_that_no_data_has_are_refused(key: str, value: object) -> None:
    with pytest.raises(ConfigError, match=key):
        Own("perceptron", perceptron).layout({key: value})


MODULE = """
from torch import nn

with open(__file__ + ".ran", "a") as ran:
    ran.write("imported")

def build(classes=10):
    layers = nn.Linear(64, 8), nn.ReLU(), nn.Linear(8, classes)
    return nn.Sequential(nn.Flatten(), *layers)
"""


@pytest.fixture
def stranger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A module that shows whether it was imported."""
    path = tmp_path / "strangers_code.py"
    path.write_text(MODULE)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield tmp_path / "strangers_code.py.ran"
    sys.modules.pop("strangers_code", None)


def test_code_is_imported_only_if_its_owner_has_named_it(stranger: Path) -> None:
    with pytest.raises(ConfigError, match="nobody has named") as caught:
        find_model("strangers_code:build")
    assert "models" in caught.value.hint and not stranger.exists()
    allow(MODEL, ["strangers_code:build"])
    found = find_model("strangers_code:build")
    assert stranger.exists()
    assert found is find_model("strangers_code:build")
    with pytest.raises(ConfigError, match="nobody has named"):
        find_model("strangers_code:other")


@pytest.mark.parametrize("name", ["no.such.module:f", "math:nothing", ":f", "math:"])
def test_what_is_not_there_is_named(name: str) -> None:
    allow(MODEL, [name])
    with pytest.raises(ConfigError, match="cannot be imported"):
        find_model(name)


def test_a_tensor_comes_out(stranger: Path) -> None:
    allow(MODEL, ["strangers_code:build"])
    model = find_model("strangers_code:build")
    sizes = {axis.name: 4 for axis in model.layout({}).axes}
    found: Tensor = model.build({}, sizes)(torch.zeros(2, 1, 8, 8))
    assert found.shape == (2, 10)
