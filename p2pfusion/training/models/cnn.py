"""A small convolutional network with aligned GroupNorm.

Layers of 3 x 3 convolution, GroupNorm and ReLU, then the mean over all positions and a
linear classifier. The first two convolutions have stride 2, which keeps the network
cheap on a processor. Axes ``c1``, ``c2``, ...: the channels of each layer.

Groups have a fixed number of channels, which is the axis' unit: a sub-model's groups
are groups of the full model, with the same members, and normalise over the same
channels (docs/methods.md). Only the classifier has no norm after it, so only the
last width carries the scaler.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import sqrt

import torch
from torch import Tensor, nn

from p2pfusion.split.layout import Axis, Dimension, Initial, Layout, ParameterSpec
from p2pfusion.training.models.base import (
    Width,
    check_group,
    cut_width,
    image_shape,
    settle,
    whole,
    wholes,
)
from p2pfusion.training.models.projection import (
    Projecting,
    projection_layer,
    projection_parameters,
)
from p2pfusion.training.traits import Traits

_KERNEL = 3
_STRIDED_LAYERS = 2


class CnnNetwork(Projecting):
    """Blocks of convolution and norm, the classifier, perhaps a projection."""

    def __init__(
        self,
        *,
        in_channels: int,
        channels: tuple[int, ...],
        full_channels: tuple[int, ...],
        group: int,
        classes: int,
        projection: nn.Linear | None,
    ) -> None:
        super().__init__()
        self.convolutions = nn.ModuleList()
        self.norms = nn.ModuleList()
        self.widths = nn.ModuleList()
        for n, width in enumerate(channels):
            inputs = channels[n - 1] if n else in_channels
            stride = 2 if n < _STRIDED_LAYERS else 1
            self.convolutions.append(
                nn.Conv2d(inputs, width, _KERNEL, stride, padding=1, bias=False)
            )
            self.norms.append(nn.GroupNorm(width // group, width))
            self.widths.append(
                Width(
                    f"c{n + 1}",
                    size=width,
                    full_size=full_channels[n],
                    scaled=n == len(channels) - 1,
                    across=True,
                )
            )
        self.classifier = nn.Linear(channels[-1], classes)
        self.projection = projection

    def last(self, inputs: Tensor) -> Tensor:  # (B, C, H, W) -> (B, w)
        """The last channels, in their mean over all positions."""
        values = inputs
        for convolution, norm, width in zip(
            self.convolutions, self.norms, self.widths, strict=True
        ):
            values = width(torch.relu_(norm(convolution(values))))
        return values.mean((2, 3))

    def logits(self, last: Tensor) -> Tensor:  # (B, w) -> (B, classes)
        """The classifier's."""
        logits: Tensor = self.classifier(last)
        return logits


@dataclass(frozen=True)
class Cnn:
    """The ``cnn`` of the table.

    Arguments: in_channels, channels, group, classes, projection.
    """

    defaults: Mapping[str, object] = field(
        default_factory=lambda: {
            "in_channels": 1,
            "channels": [64, 64, 64],
            "group": 4,
            "classes": 10,
            "projection": 0,
        }
    )

    def suited(self, traits: Traits) -> dict[str, object]:
        """Any image size: the classifier sees the mean over positions."""
        channels, _, _ = image_shape(traits, "cnn")
        return {"in_channels": channels, "classes": traits.classes}

    def layout(self, arguments: Mapping[str, object]) -> Layout:
        """All convolutions, all norms, the classifier, the projection: the order of
        the module."""
        settled = settle(self, arguments)
        in_channels, channels, group, classes = self._numbers(settled)
        axes = tuple(Axis(f"c{n + 1}", c, group) for n, c in enumerate(channels))
        widths = [Dimension(axis.size, axis.name) for axis in axes]
        inputs = [Dimension(in_channels), *widths]
        kernel = Dimension(_KERNEL)
        convolutions = [
            ParameterSpec(
                f"convolutions.{n}.weight",
                (width, inputs[n], kernel, kernel),
                Initial("uniform", sqrt(6 / (inputs[n].size * _KERNEL**2))),
                n,
            )
            for n, width in enumerate(widths)
        ]
        norms = [
            ParameterSpec(f"norms.{n}.{name}", (width,), Initial(kind), n)
            for n, width in enumerate(widths)
            for name, kind in (("weight", "ones"), ("bias", "zeros"))
        ]
        out, last = Dimension(classes), len(channels)
        bound = Initial("uniform", sqrt(1 / channels[-1]))
        head = [
            ParameterSpec("classifier.weight", (out, widths[-1]), bound, last),
            ParameterSpec("classifier.bias", (out,), Initial("zeros"), last),
            *projection_parameters(settled, axes[-1], last),
        ]
        return Layout(axes, (*convolutions, *norms, *head))

    def build(
        self, arguments: Mapping[str, object], sizes: Mapping[str, int]
    ) -> nn.Module:
        """The dense network with these channels per layer."""
        settled = settle(self, arguments)
        in_channels, channels, group, classes = self._numbers(settled)
        cut = tuple(
            cut_width(sizes, f"c{n + 1}", width, group)
            for n, width in enumerate(channels)
        )
        return CnnNetwork(
            in_channels=in_channels,
            channels=cut,
            full_channels=channels,
            group=group,
            classes=classes,
            projection=projection_layer(settled, cut[-1]),
        )

    def _numbers(
        self, settled: Mapping[str, object]
    ) -> tuple[int, tuple[int, ...], int, int]:
        channels, group = wholes(settled, "channels"), whole(settled, "group")
        for width in channels:
            check_group(width, group, "channels")
        classes = whole(settled, "classes", 1 << 20)
        return whole(settled, "in_channels"), channels, group, classes
