"""A vision transformer: an image's patches are its tokens.

Every patch of ``patch`` x ``patch`` pixels becomes a token by one convolution; learned
positions are added; then blocks in which all tokens look at all, a norm, the mean over
the tokens and a linear classifier (Dosovitskiy et al., An image is worth 16x16 words,
ICLR 2021; Differs: mean instead of a class token, which has no place in a window of its
own).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar

from torch import Tensor, nn

from p2pfusion.errors import ConfigError, DataError
from p2pfusion.split.layout import Dimension, Initial, Layout, ParameterSpec
from p2pfusion.training.models.base import image_shape, settle, whole
from p2pfusion.training.models.blocks import STREAM, Stack
from p2pfusion.training.models.cut import Cut, along, classifier_parameters, uniform
from p2pfusion.training.models.heads import (
    HEAD_ARGUMENTS,
    Embedding,
    Heads,
    head_layers,
    head_parameters,
)
from p2pfusion.training.models.projection import projection_layer, projection_parameters
from p2pfusion.training.traits import Traits

LOUDNESS = 0.1
"""Standard deviation of a fresh position's values, beside patches' of about 1."""


@dataclass(frozen=True)
class Patches:
    """How images are cut into tokens."""

    in_channels: int
    side: int
    count: int

    @classmethod
    def of(cls, settled: Mapping[str, object]) -> Patches:
        """From a model's arguments; ``ConfigError`` names the argument."""
        image, side = whole(settled, "image_size"), whole(settled, "patch")
        if image % side:
            raise ConfigError(
                f"model argument 'patch': images of {image} pixels are not a whole "
                f"number of patches of {side}"
            )
        return cls(whole(settled, "in_channels"), side, (image // side) ** 2)


class VitNetwork(Embedding):
    """Patches, positions, blocks, norm, mean, classifier, perhaps what compares."""

    def __init__(
        self,
        cut: Cut,
        stack: Stack,
        patches: Patches,
        *,
        classes: int,
        projection: nn.Linear | None,
        heads: Heads | None,
    ) -> None:
        super().__init__()
        width, side = cut[STREAM], patches.side
        self.patches = nn.Conv2d(patches.in_channels, width, side, side)
        self.positions = nn.Embedding(patches.count, width)
        self.blocks = stack.blocks(cut, causal=False)
        self.norm = stack.norm(cut, across=True)
        self.classifier = nn.Linear(width, classes)
        self.projection = projection
        self.heads = heads

    def last(self, inputs: Tensor) -> Tensor:  # (B, C, H, W) -> (B, w)
        """The normalised stream, in its mean over the tokens."""
        tokens = self.patches(inputs).flatten(2).transpose(1, 2)  # (B, T, stream)
        stream = tokens + self.positions.weight
        for block in self.blocks:
            stream = block(stream)
        mean: Tensor = self.norm(stream).mean(1)
        return mean

    def logits(self, last: Tensor) -> Tensor:  # (B, w) -> (B, classes)
        """The classifier's."""
        logits: Tensor = self.classifier(last)
        return logits


@dataclass(frozen=True)
class Vit:
    """The ``vit`` of the table.

    Arguments: in_channels, image_size, patch, width, heads, layers, inner, group,
    head_cut, classes, projection, head_hidden, head_output, predictor.
    """

    is_deep: ClassVar[bool] = True

    defaults: Mapping[str, object] = field(
        default_factory=lambda: {
            "in_channels": 3,
            "image_size": 32,
            "patch": 4,
            "width": 192,
            "heads": 8,
            "layers": 6,
            "inner": 384,
            "group": 12,
            "head_cut": "whole",
            "classes": 10,
            "projection": 0,
            **HEAD_ARGUMENTS,
        }
    )

    def suited(self, traits: Traits) -> dict[str, object]:
        """Square images of one size; ``DataError`` for others."""
        return square_images(traits, "vit")

    def layout(self, arguments: Mapping[str, object]) -> Layout:
        """Patches and positions, blocks and norm, the classifier."""
        settled = settle(self, arguments)
        stack, patches = Stack.of(settled), Patches.of(settled)
        axes, classes = stack.axes(), whole(settled, "classes", 1 << 20)
        wide, side = along(axes[STREAM]), Dimension(patches.side)
        kernels = (wide, Dimension(patches.in_channels), side, side)
        pixels = patches.in_channels * patches.side**2
        places = (Dimension(patches.count), wide)
        parameters = [
            ParameterSpec("patches.weight", kernels, uniform(1 / pixels)),
            ParameterSpec("patches.bias", (wide,), Initial("zeros")),
            ParameterSpec("positions.weight", places, uniform(LOUDNESS**2)),
            *stack.parameters(),
            *classifier_parameters(classes, axes[STREAM], stack.layers + 1),
            *projection_parameters(settled, axes[STREAM], stack.layers + 1),
            *head_parameters(settled, axes[STREAM], stack.layers + 1),
        ]
        return Layout(tuple(axes.values()), tuple(parameters))

    def build(
        self, arguments: Mapping[str, object], sizes: Mapping[str, int]
    ) -> nn.Module:
        """The dense network with these widths."""
        settled = settle(self, arguments)
        stack = Stack.of(settled)
        cut = Cut(stack.axes(), sizes)
        return VitNetwork(
            cut,
            stack,
            Patches.of(settled),
            classes=whole(settled, "classes", 1 << 20),
            projection=projection_layer(settled, cut[STREAM]),
            heads=head_layers(settled, cut[STREAM]),
        )


def square_images(traits: Traits, model: str) -> dict[str, object]:
    """The arguments that square images of one size need; ``DataError`` for others."""
    channels, height, width = image_shape(traits, model)
    if height != width:
        raise DataError(
            f"model {model!r} is for square images, and these have {height} x {width} "
            "pixels",
            hint="choose resnet18 or cnn, or bring the images into another form",
        )
    return {"in_channels": channels, "image_size": height, "classes": traits.classes}
