"""The vision transformer: patches are tokens, and torch's own layers agree."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional

from p2pfusion.errors import ConfigError, DataError
from p2pfusion.split.segment import Split
from p2pfusion.training.models import MODELS
from p2pfusion.training.traits import Traits
from tests.training.samples import torchs_layer

MODEL = MODELS["vit"]
WIDTH, HEADS, INNER, PATCH = 8, 2, 12, 3
ARGUMENTS: dict[str, object] = {
    "in_channels": 2,
    "image_size": 6,
    "patch": PATCH,
    "width": WIDTH,
    "heads": HEADS,
    "layers": 2,
    "inner": INNER,
    "group": WIDTH,
    "classes": 5,
}


def network() -> nn.Module:
    """The full model in float64, every parameter random."""
    sizes = Split.full(MODEL.layout(ARGUMENTS)).sizes()
    module = MODEL.build(ARGUMENTS, sizes).double()
    random = torch.Generator().manual_seed(0)
    for parameter in module.parameters():
        parameter.data.normal_(0.0, 0.3, generator=random)
    return module


def test_values_are_those_of_torchs_layers() -> None:
    module = network()
    value = module.get_parameter
    random = torch.Generator().manual_seed(1)
    images = torch.randn(4, 2, 6, 6, generator=random, dtype=torch.float64)
    patches = functional.unfold(images, PATCH, stride=PATCH).transpose(1, 2)
    kernels = value("patches.weight").flatten(1)
    stream = functional.linear(patches, kernels, value("patches.bias"))
    stream = stream + value("positions.weight")
    for block in module.get_submodule("blocks").children():
        layer = torchs_layer(block, width=WIDTH, heads=HEADS, inner=INNER)
        stream = layer(stream)
    normal = functional.layer_norm(
        stream, (WIDTH,), value("norm.weight"), value("norm.bias")
    )
    expected = module.get_submodule("classifier")(normal.mean(1))
    torch.testing.assert_close(module(images), expected)


def test_a_position_for_every_patch() -> None:
    shapes = {p.name: p.shape for p in MODEL.layout({}).parameters}
    assert shapes["patches.weight"] == (192, 3, 4, 4)
    assert shapes["positions.weight"] == (64, 192)


def test_patches_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ConfigError, match="images of 6 pixels are not"):
        MODEL.layout({**ARGUMENTS, "patch": 4})


def test_only_square_images() -> None:
    assert MODEL.suited(Traits("image", (1, 8, 8), 3))["image_size"] == 8
    with pytest.raises(DataError, match="these have 8 x 9 pixels"):
        MODEL.suited(Traits("image", (1, 8, 9), 3))
