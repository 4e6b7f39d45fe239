"""The widths of one sub-model, and the norm whose groups survive a cut.

A network that is built from a ``Cut`` has the width of a split on every axis, and marks
where it reads an axis. An ``AlignedNorm`` normalises groups of a fixed number of
channels; the group is the axis' unit, so a sub-model's groups are groups of the full
model, with the same members, and give the same values (docs/methods.md).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import sqrt

import torch
from torch import Tensor, nn
from torch.nn import functional

from p2pfusion.split.depth import gate
from p2pfusion.split.layout import Axis, Dimension, Initial, ParameterSpec
from p2pfusion.training.models.base import Width, cut_width

LAST = -1
"""The dimension of channels where activations are tokens: (B, T, w)."""


class AlignedNorm(Width):
    """Normalises every group of channels, then scale and shift: reads one axis.

    Over images (``dim`` 1) a group's statistics are over its channels and all positions
    (GroupNorm); over tokens (``dim`` ``LAST``) over its channels, per token: LayerNorm
    if the whole axis is one group. The scaler, where one is wanted, multiplies the
    parameters and not the activations, of which there are far more.
    """

    def __init__(
        self,
        axis: Axis,
        *,
        size: int,
        scaled: bool,
        group: int,
        dim: int,
        across: bool,
    ) -> None:
        super().__init__(
            axis.name,
            size=size,
            full_size=axis.size,
            scaled=scaled,
            dim=dim,
            across=across,
        )
        self.weight = nn.Parameter(torch.ones(size))
        self.bias = nn.Parameter(torch.zeros(size))
        self.group = group

    def forward(self, values: Tensor) -> Tensor:  # (B, w, H, W) or (B, T, w)
        """The normalised activations."""
        weight: Tensor = self.weight
        bias: Tensor = self.bias
        if self.factor != 1.0:
            weight, bias = weight * self.factor, bias * self.factor
        if self.dim != LAST:
            count = len(weight) // self.group
            return functional.group_norm(values, count, weight, bias)
        if self.group == len(weight):
            return functional.layer_norm(values, (self.group,), weight, bias)
        # GroupNorm would do it in one step, and takes half as long again.
        groups = values.unflatten(LAST, (-1, self.group))
        normal = functional.layer_norm(groups, (self.group,)).flatten(-2)
        return torch.addcmul(bias, normal, weight)


class Reading(Width):
    """Marks activations of tokens on their way into a sum that no norm follows.

    It leaves them alone: the sum applies the factor, which costs less than to multiply
    all of them.
    """

    def forward(self, activations: Tensor) -> Tensor:  # (B, T, w), (B, T, heads, w)
        """The same activations."""
        return activations

    def into(self, layer: nn.Linear, activations: Tensor) -> Tensor:
        """The layer's values for these activations, the factor included."""
        weight: Tensor = layer.weight
        if self.factor != 1.0:
            weight = weight * self.factor
        tokens = self(activations).flatten(2)  # all heads of a token side by side
        return functional.linear(tokens, weight, layer.bias)


@dataclass(frozen=True)
class Cut:
    """Full axes by name, and the width that a sub-model has of each."""

    axes: Mapping[str, Axis]
    sizes: Mapping[str, int]

    def __getitem__(self, name: str) -> int:
        """The width of an axis; ``ConfigError`` if it cannot be built."""
        axis = self.axes[name]
        return cut_width(self.sizes, name, axis.size, axis.unit)

    def has_layer(self, number: int) -> bool:
        """Whether a layer is in the sub-model; all are, where depth is not cut."""
        return self.sizes.get(gate(number), 1) > 0

    def reading(self, name: str, *, across: bool = False) -> Reading:
        """Marks where an axis of tokens is read by a sum that no norm follows."""
        return Reading(
            name,
            size=self[name],
            full_size=self.axes[name].size,
            scaled=True,
            dim=LAST,
            across=across,
        )

    def norm(
        self,
        name: str,
        *,
        group: int,
        scaled: bool = True,
        dim: int = 1,
        across: bool = False,
    ) -> AlignedNorm:
        """The norm through which an axis is read."""
        return AlignedNorm(
            self.axes[name],
            size=self[name],
            scaled=scaled,
            group=group,
            dim=dim,
            across=across,
        )


def along(axis: Axis, outer: int = 1) -> Dimension:
    """The dimension that follows an axis, so many times over."""
    return Dimension(outer * axis.size, axis.name, outer)


def norm_parameters(name: str, axis: Axis, layer: int) -> list[ParameterSpec]:
    """The parameters of an ``AlignedNorm``."""
    return [
        ParameterSpec(f"{name}.{what}", (along(axis),), Initial(kind), layer)
        for what, kind in (("weight", "ones"), ("bias", "zeros"))
    ]


def classifier_parameters(classes: int, axis: Axis, layer: int) -> list[ParameterSpec]:
    """The parameters of a linear classifier that reads an axis."""
    out, quiet = Dimension(classes), uniform(1 / (3 * axis.size))
    return [
        ParameterSpec("classifier.weight", (out, along(axis)), quiet, layer),
        ParameterSpec("classifier.bias", (out,), Initial("zeros"), layer),
    ]


def uniform(variance: float) -> Initial:
    """Uniform initial values of this variance."""
    return Initial("uniform", sqrt(3 * variance))
