"""Residual networks for small images, with pre-activation and aligned GroupNorm.

The form for images of 32 pixels (He et al., Identity mappings in deep residual
networks, ECCV 2016): a 3 x 3 stem without pooling, then stages of blocks of norm, ReLU
and 3 x 3 convolution, twice. Every stage but the first begins with stride 2 and twice
the channels. The shortcut into a new stage is a 1 x 1 convolution of the normalised
values. At last a norm, ReLU, the mean over all positions, and a linear classifier.

Axes: ``stream1``, ``stream2``, ...: the residual stream of each stage, which everything
in it adds to; ``block1``, ``block2``, ...: the inside of each block. Norms' groups are
the axes' units. The scaler stands where a block adds to a stream: there no norm follows
the sum alone, and a stream's terms must keep their proportions.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise

from torch import Tensor, nn
from torch.nn import functional

from p2pfusion.errors import ConfigError
from p2pfusion.split.layout import Axis, Dimension, Layout, ParameterSpec
from p2pfusion.training.models.base import (
    MAX_LAYERS,
    check_group,
    image_shape,
    settle,
    whole,
    wholes,
)
from p2pfusion.training.models.cut import (
    AlignedNorm,
    Cut,
    along,
    classifier_parameters,
    norm_parameters,
    uniform,
)
from p2pfusion.training.models.projection import (
    Projecting,
    projection_layer,
    projection_parameters,
)
from p2pfusion.training.traits import Traits

_KERNEL = 3

MAX_STAGES = 8
"""Each halves the image: more than eight suit images of more than 256 pixels."""


@dataclass(frozen=True)
class Place:
    """Where a block stands: the axes that it reads, adds to and has inside."""

    source: str
    inner: str
    target: str

    @property
    def opens(self) -> bool:
        """Whether it is the first of a new stage."""
        return self.source != self.target


class Block(nn.Module):
    """Norm, ReLU and convolution, twice, added to what came in."""

    def __init__(self, place: Place, cut: Cut, group: int) -> None:
        super().__init__()
        stride = 2 if place.opens else 1
        source, inner, target = (
            cut[axis] for axis in (place.source, place.inner, place.target)
        )
        self.norm1 = cut.norm(place.source, group=group, scaled=place.opens)
        self.conv1 = _convolution(source, inner, stride=stride)
        self.norm2 = cut.norm(place.inner, group=group)
        self.conv2 = _convolution(inner, target)
        self.shortcut = (
            nn.Conv2d(source, target, 1, stride, bias=False) if place.opens else None
        )

    def forward(self, stream: Tensor) -> Tensor:  # (B, source, H, W)
        """The stream behind the block: (B, target, ...)."""
        values = _activate(self.norm1, stream)
        added: Tensor = self.conv2(_activate(self.norm2, self.conv1(values)))
        return added.add_(stream if self.shortcut is None else self.shortcut(values))


class ResNetNetwork(Projecting):
    """Stem, blocks, norm, classifier, perhaps a projection."""

    def __init__(
        self,
        *,
        in_channels: int,
        places: list[Place],
        cut: Cut,
        group: int,
        classes: int,
        projection: nn.Linear | None,
    ) -> None:
        super().__init__()
        last = places[-1].target
        self.stem = _convolution(in_channels, cut[places[0].source])
        self.blocks = nn.ModuleList(Block(place, cut, group) for place in places)
        self.norm = cut.norm(last, group=group, across=True)
        self.classifier = nn.Linear(cut[last], classes)
        self.projection = projection

    def last(self, inputs: Tensor) -> Tensor:  # (B, C, H, W) -> (B, w)
        """The normalised stream, in its mean over all positions."""
        stream = self.stem(inputs)
        for block in self.blocks:
            stream = block(stream)
        return _activate(self.norm, stream).mean((2, 3))

    def logits(self, last: Tensor) -> Tensor:  # (B, w) -> (B, classes)
        """The classifier's."""
        logits: Tensor = self.classifier(last)
        return logits


def _convolution(inputs: int, outputs: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, _KERNEL, stride, padding=1, bias=False)


def _activate(norm: AlignedNorm, values: Tensor) -> Tensor:
    return functional.relu_(norm(values))


@dataclass(frozen=True)
class ResNet:
    """``resnet18`` and ``resnet34`` of the table.

    Arguments: in_channels, width (of the first stage), blocks (per stage), group,
    classes, projection.
    """

    name: str
    blocks: tuple[int, ...]

    @property
    def defaults(self) -> Mapping[str, object]:
        """The usual width, and the blocks that the name stands for."""
        return {
            "in_channels": 3,
            "width": 64,
            "blocks": list(self.blocks),
            "group": 4,
            "classes": 10,
            "projection": 0,
        }

    def suited(self, traits: Traits) -> dict[str, object]:
        """Any image size: the classifier sees the mean over positions."""
        channels, _, _ = image_shape(traits, self.name)
        return {"in_channels": channels, "classes": traits.classes}

    def layout(self, arguments: Mapping[str, object]) -> Layout:
        """The stem, each block, and norm with classifier are one layer each."""
        settled = settle(self, arguments)
        in_channels = Dimension(whole(settled, "in_channels"))
        classes = whole(settled, "classes", 1 << 20)
        axes, places = self._axes(settled), self._places(settled)
        # Images do not come from a ReLU, which would halve their variance.
        stem = _kernels("stem", along(axes["stream1"]), in_channels, 0, gain=1.0)
        parameters = [stem]
        for n, place in enumerate(places):
            length = sum(place.target == other.target for other in places)
            parameters += _block(f"blocks.{n}", place, axes, n + 1, length)
        last, end = axes[places[-1].target], len(places) + 1
        parameters += [
            *norm_parameters("norm", last, end),
            *classifier_parameters(classes, last, end),
            *projection_parameters(settled, last, end),
        ]
        return Layout(tuple(axes.values()), tuple(parameters))

    def build(
        self, arguments: Mapping[str, object], sizes: Mapping[str, int]
    ) -> nn.Module:
        """The dense network with these channels per axis."""
        settled = settle(self, arguments)
        places = self._places(settled)
        cut = Cut(self._axes(settled), sizes)
        return ResNetNetwork(
            in_channels=whole(settled, "in_channels"),
            places=places,
            cut=cut,
            group=whole(settled, "group"),
            classes=whole(settled, "classes", 1 << 20),
            projection=projection_layer(settled, cut[places[-1].target]),
        )

    def _axes(self, settled: Mapping[str, object]) -> dict[str, Axis]:
        width, group = whole(settled, "width"), whole(settled, "group")
        check_group(width, group, "width")
        places = self._places(settled)
        sizes = {"stream1": width}
        for place in places:
            size = sizes[place.source] * (2 if place.opens else 1)
            sizes |= {place.inner: size, place.target: size}
        return {name: Axis(name, size, group) for name, size in sizes.items()}

    def _places(self, settled: Mapping[str, object]) -> list[Place]:
        blocks = wholes(settled, "blocks", MAX_LAYERS)
        if len(blocks) > MAX_STAGES or sum(blocks) > MAX_LAYERS:
            raise ConfigError(
                f"model argument 'blocks': more than {MAX_STAGES} stages or "
                f"{MAX_LAYERS} blocks"
            )
        stages = [n for n, count in enumerate(blocks, 1) for _ in range(count)]
        return [
            Place(f"stream{before}", f"block{n}", f"stream{stage}")
            for n, (before, stage) in enumerate(pairwise([1, *stages]), 1)
        ]


def _block(
    name: str, place: Place, axes: Mapping[str, Axis], layer: int, length: int
) -> list[ParameterSpec]:
    """A block's parameters. ``length``: of its stage, whose stream all blocks add to;
    each begins with its part, so that the stream's scale does not grow with depth."""
    source, inner, target = axes[place.source], axes[place.inner], axes[place.target]
    inside = _kernels(f"{name}.conv1", along(inner), along(source), layer)
    out = _kernels(f"{name}.conv2", along(target), along(inner), layer, gain=2 / length)
    parameters = [
        *norm_parameters(f"{name}.norm1", source, layer),
        inside,
        *norm_parameters(f"{name}.norm2", inner, layer),
        out,
    ]
    if place.opens:
        parameters.append(
            _kernels(f"{name}.shortcut", along(target), along(source), layer, side=1)
        )
    return parameters


def _kernels(
    name: str,
    outputs: Dimension,
    inputs: Dimension,
    layer: int,
    *,
    side: int = _KERNEL,
    gain: float = 2.0,
) -> ParameterSpec:
    """A convolution. ``gain``: the sum's variance; 2 behind a ReLU is He's rule, for
    the full width."""
    kernel = Dimension(side)
    bound = uniform(gain / (inputs.size * side**2))
    shape = (outputs, inputs, kernel, kernel)
    return ParameterSpec(f"{name}.weight", shape, bound, layer)
