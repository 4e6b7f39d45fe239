"""A multi-layer perceptron: ReLU layers of any widths, then a linear classifier.

Axes ``h1``, ``h2``, ...: one per hidden layer. No norm anywhere, so every hidden width
carries the scaler (see ``base.Width``).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from math import prod, sqrt

from torch import Tensor, nn

from p2pfusion.split.layout import Axis, Dimension, Initial, Layout, ParameterSpec
from p2pfusion.training.models.base import (
    Width,
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


class MlpNetwork(Projecting):
    """Linear, ReLU and scaler per hidden layer; then the classifier."""

    def __init__(
        self,
        widths: tuple[int, ...],
        full_widths: tuple[int, ...],
        projection: nn.Linear | None = None,
    ) -> None:
        super().__init__()
        hidden = range(1, len(widths) - 1)
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in pairwise(widths))
        self.widths = nn.ModuleList(
            Width(
                f"h{n}",
                size=widths[n],
                full_size=full_widths[n],
                scaled=True,
                across=n == hidden[-1],
            )
            for n in hidden
        )
        self.projection = projection

    def last(self, inputs: Tensor) -> Tensor:  # (B, C, H, W) -> (B, w)
        """The last hidden layer."""
        values = inputs.flatten(1)
        for layer, width in zip(self.layers[:-1], self.widths, strict=True):
            values = width(layer(values).relu())
        return values

    def logits(self, last: Tensor) -> Tensor:  # (B, w) -> (B, classes)
        """The classifier's."""
        logits: Tensor = self.layers[-1](last)
        return logits


@dataclass(frozen=True)
class Mlp:
    """The ``mlp`` of the table. Arguments: inputs, hidden, classes, projection."""

    defaults: Mapping[str, object] = field(
        default_factory=lambda: {
            "inputs": 64,
            "hidden": [128, 128],
            "classes": 10,
            "projection": 0,
        }
    )

    def suited(self, traits: Traits) -> dict[str, object]:
        """One input per pixel."""
        shape = image_shape(traits, "mlp")
        return {"inputs": prod(shape), "classes": traits.classes}

    def layout(self, arguments: Mapping[str, object]) -> Layout:
        """Two parameters per layer, and the projection."""
        settled = settle(self, arguments)
        widths = self._widths(settled)
        last = len(widths) - 1
        axes = tuple(Axis(f"h{n}", widths[n]) for n in range(1, last))
        names = [None, *(axis.name for axis in axes), None]
        dimensions = [
            Dimension(width, name) for width, name in zip(widths, names, strict=True)
        ]
        parameters: list[ParameterSpec] = []
        for n in range(last):
            # ReLU halves the variance, so hidden layers get He's bound (full width).
            bound = sqrt((6 if n < last - 1 else 1) / widths[n])
            weight = (dimensions[n + 1], dimensions[n])
            parameters += [
                ParameterSpec(
                    f"layers.{n}.weight", weight, Initial("uniform", bound), n
                ),
                ParameterSpec(f"layers.{n}.bias", weight[:1], Initial("zeros"), n),
            ]
        parameters += projection_parameters(settled, axes[-1], last - 1)
        return Layout(axes, tuple(parameters))

    def build(
        self, arguments: Mapping[str, object], sizes: Mapping[str, int]
    ) -> nn.Module:
        """The dense network with these hidden widths."""
        settled = settle(self, arguments)
        full = self._widths(settled)
        hidden = [cut_width(sizes, f"h{n}", full[n]) for n in range(1, len(full) - 1)]
        projection = projection_layer(settled, hidden[-1])
        return MlpNetwork((full[0], *hidden, full[-1]), full, projection)

    def _widths(self, settled: Mapping[str, object]) -> tuple[int, ...]:
        ends = whole(settled, "inputs", 1 << 24), whole(settled, "classes", 1 << 20)
        return (ends[0], *wholes(settled, "hidden"), ends[1])
