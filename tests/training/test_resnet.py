"""ResNets: their size, and their values against a plain network of torch's layers."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from p2pfusion.errors import ConfigError
from p2pfusion.split.segment import Split
from p2pfusion.training.models import MODELS
from p2pfusion.training.models.base import Width

SMALL = {"in_channels": 2, "width": 8, "group": 4, "classes": 5, "blocks": [2, 1, 2]}


def convolutions(inputs: int, outputs: int) -> int:
    """Weights of a block between streams of these widths, without norms."""
    shortcut = inputs * outputs if inputs != outputs else 0
    return 9 * outputs * (inputs + outputs) + shortcut


@pytest.mark.parametrize(
    ("name", "blocks", "total"),
    [
        ("resnet18", [2, 2, 2, 2], 11_172_170),
        ("resnet34", [3, 4, 6, 3], 21_280_330),
    ],
)
def test_the_number_of_parameters(name: str, blocks: list[int], total: int) -> None:
    """Stem, two convolutions and two norms a block, shortcuts, norm, classifier."""
    expected, before = 27 * 64, 64
    for stage, count in enumerate(blocks):
        width = 64 << stage
        expected += convolutions(before, width) + 2 * (before + width)
        expected += (count - 1) * (convolutions(width, width) + 4 * width)
        before = width
    expected += 2 * 512 + 10 * 512 + 10
    assert MODELS[name].layout({}).size == expected == total


class PlainBlock(nn.Module):
    def __init__(self, inputs: int, outputs: int, group: int) -> None:
        super().__init__()
        stride = 1 if inputs == outputs else 2
        self.norm1 = nn.GroupNorm(inputs // group, inputs)
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.norm2 = nn.GroupNorm(outputs // group, outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.shortcut = (
            nn.Conv2d(inputs, outputs, 1, stride, bias=False) if stride > 1 else None
        )

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm1(x).relu()
        kept = x if self.shortcut is None else self.shortcut(y)
        return kept + self.conv2(self.norm2(self.conv1(y)).relu())


def plain() -> nn.Module:
    """What ``SMALL`` is, by hand."""
    network = nn.Module()
    network.stem = nn.Conv2d(2, 8, 3, padding=1, bias=False)
    widths = [(8, 8), (8, 8), (8, 16), (16, 32), (32, 32)]
    network.blocks = nn.Sequential(*(PlainBlock(a, b, 4) for a, b in widths))
    network.norm = nn.GroupNorm(8, 32)
    network.classifier = nn.Linear(32, 5)
    return network


def test_values_are_those_of_a_plain_network() -> None:
    layout = MODELS["resnet18"].layout(SMALL)
    network = MODELS["resnet18"].build(SMALL, Split.full(layout).sizes()).double()
    other = plain().double()
    random = torch.Generator().manual_seed(0)
    for parameter in network.parameters():
        parameter.data.normal_(0.0, 0.3, generator=random)
    other.load_state_dict(network.state_dict())
    images = torch.randn(3, 2, 12, 12, generator=random, dtype=torch.float64)
    stream = other.blocks(other.stem(images))
    expected = other.classifier(other.norm(stream).relu().mean((2, 3)))
    torch.testing.assert_close(network(images), expected)


def test_a_stage_has_one_stream_and_a_block_its_own_inside() -> None:
    layout = MODELS["resnet18"].layout({})
    axes = {p.name: p.axes for p in layout.parameters}
    assert axes["blocks.0.conv1.weight"] == ("block1", "stream1")
    assert axes["blocks.1.conv2.weight"] == ("stream1", "block2")
    assert axes["blocks.2.norm1.weight"] == ("stream1",)
    assert axes["blocks.2.conv2.weight"] == ("stream2", "block3")
    assert axes["blocks.2.shortcut.weight"] == ("stream2", "stream1")
    assert axes["classifier.weight"] == ("stream4",)
    sizes = [axis.size for axis in layout.axes if axis.name.startswith("stream")]
    assert sizes == [64, 128, 256, 512]


def test_the_scaler_stands_where_no_norm_follows_the_sum_alone() -> None:
    sizes = {axis.name: axis.size // 2 for axis in MODELS["resnet18"].layout({}).axes}
    network = MODELS["resnet18"].build({}, sizes)
    factors = {
        name: module.factor
        for name, module in network.named_modules()
        if isinstance(module, Width)
    }
    assert factors["blocks.0.norm1"] == 1.0, "conv1's norm follows"
    assert factors["blocks.0.norm2"] == 2.0, "added to the stream"
    assert factors["blocks.2.norm1"] == 2.0, "its shortcut begins the next stream"
    assert factors["norm"] == 2.0, "the classifier"


@pytest.mark.parametrize(
    "arguments",
    [
        {"width": 62},
        {"blocks": [2] * 9},
        {"blocks": [256, 1]},
        {"blocks": []},
        {"group": 0},
    ],
)
def test_wrong_arguments_are_named(arguments: dict[str, object]) -> None:
    (key,) = arguments
    with pytest.raises(ConfigError, match=f"^model argument '{key}'"):
        MODELS["resnet34"].layout(arguments)
