"""What a network has made of a record, in dimensions that all sub-models share.

The features of two sub-models lie on different channels, so nothing is learned from
comparing them entry by entry. A *projection* is a linear layer without a bias that
reads the window of the last width, scaler included, and has all its outputs in every
sub-model, like a classifier: its rows are averaged over whoever holds them. The model
argument ``projection`` is the number of its outputs, and 0 leaves it out, which changes
nothing about the model.
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

from p2pfusion.split.layout import Axis, Dimension, ParameterSpec
from p2pfusion.training.models.base import whole
from p2pfusion.training.models.cut import along, uniform

NAME = "projection"


class Projecting(nn.Module):
    """A network in two steps: the last values, and the logits that a head reads off.

    A network of the table says what both steps are; ``projection`` is the last module
    that it makes, if it has one.
    """

    projection: nn.Linear | None

    def last(self, inputs: Tensor) -> Tensor:  # (B, w), or (B, T, w) with T positions
        """What the head reads, the scaler included."""
        raise NotImplementedError

    def logits(self, last: Tensor) -> Tensor:
        """What the head makes of it."""
        raise NotImplementedError

    def forward(self, inputs: Tensor) -> Tensor:
        """Logits."""
        return self.logits(self.last(inputs))

    def features(self, last: Tensor) -> Tensor:  # (B, w)
        """What the projection reads: the last values, in their mean over positions."""
        return last if last.dim() == 2 else last.mean(1)

    def project(self, last: Tensor) -> Tensor:  # (B, projection)
        """The projected features; only for a network with a projection."""
        assert self.projection is not None
        projected: Tensor = self.projection(self.features(last))
        return projected


def projection_layer(settled: Mapping[str, object], width: int) -> nn.Linear | None:
    """The layer that a model's arguments ask for, on a last width of a sub-model."""
    size = _size(settled)
    return nn.Linear(width, size, bias=False) if size else None


def projection_parameters(
    settled: Mapping[str, object], axis: Axis, layer: int
) -> list[ParameterSpec]:
    """Its parameter in the layout, behind those of the head; none without one."""
    size = _size(settled)
    if not size:
        return []
    shape = (Dimension(size), along(axis))
    return [ParameterSpec(f"{NAME}.weight", shape, uniform(1 / axis.size), layer)]


def _size(settled: Mapping[str, object]) -> int:
    return whole(settled, NAME, least=0)
