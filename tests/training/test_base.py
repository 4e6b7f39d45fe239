"""Arguments of models: defaults, suggestions, and what data asks for."""

from __future__ import annotations

import pytest
import torch

from p2pfusion.errors import ConfigError, DataError
from p2pfusion.training.models import MODELS, check_fit, find_model, settle
from p2pfusion.training.models.base import Width, cut_width
from p2pfusion.training.traits import Traits


def test_unknown_models_and_arguments() -> None:
    with pytest.raises(ConfigError, match="model 'resnet9'") as caught:
        find_model("resnet9")
    assert "cnn, mlp" in caught.value.hint
    with pytest.raises(ConfigError, match="'hiden' is unknown") as caught:
        settle(MODELS["mlp"], {"hiden": [3]})
    assert caught.value.hint == "did you mean 'hidden'?"


def test_given_arguments_replace_defaults() -> None:
    settled = settle(MODELS["mlp"], {"hidden": [7]})
    assert settled == {**MODELS["mlp"].defaults, "hidden": [7]}


@pytest.mark.parametrize(
    ("model", "key", "value"),
    [
        ("mlp", "inputs", 0),
        ("mlp", "hidden", []),
        ("mlp", "hidden", 128),
        ("mlp", "hidden", [12, "x"]),
        ("mlp", "hidden", [12, 1 << 17]),
        ("mlp", "hidden", [1] * 257),
        ("mlp", "classes", True),
        ("mlp", "classes", 2.0),
        ("cnn", "channels", [8, 6]),
        ("cnn", "channels", None),
        ("cnn", "group", -4),
        ("cnn", "in_channels", "RGB"),
    ],
)
def test_wrong_values_name_their_argument(model: str, key: str, value: object) -> None:
    with pytest.raises(ConfigError, match=f"^model argument '{key}': "):
        MODELS[model].layout({key: value})


def test_data_that_does_not_fit_says_which_argument_would() -> None:
    with pytest.raises(DataError, match="inputs = 784, the model has 64"):
        check_fit(MODELS["mlp"], {}, Traits("image", (1, 28, 28), 10))
    with pytest.raises(DataError, match="in_channels = 3, the model has 1"):
        check_fit(MODELS["cnn"], {}, Traits("image", (3, 8, 8), 10))
    with pytest.raises(DataError, match="classes = 11, the model has 10"):
        check_fit(MODELS["cnn"], {}, Traits("image", (1, 8, 8), 11))


def test_a_model_may_have_more_classes_than_a_peer_has_seen() -> None:
    check_fit(MODELS["mlp"], {}, Traits("image", (1, 8, 8), 4))


def test_the_scaler_keeps_the_scale_of_sums() -> None:
    values = torch.ones(1, 8)
    cut = Width("h", size=8, full_size=32, scaled=True)
    assert cut(values).sum() == 32
    assert Width("h", size=8, full_size=32, scaled=False)(values).sum() == 8
    assert Width("h", size=32, full_size=32, scaled=True).factor == 1.0


@pytest.mark.parametrize("width", [0, 6, 36])
def test_widths_that_cannot_be_built(width: int) -> None:
    with pytest.raises(ConfigError, match="axis 'c1' cannot be cut"):
        cut_width({"c1": width}, "c1", 32, 4)
