"""A vision transformer with exits, of whose blocks units can be left out.

Patches and positions are those of ``vit.py``; blocks are those of ``units.py``. Exits
after equal parts of the depth, the last one after all of it, are classifiers of their
own: a sub-model that lacks blocks answers by its last exit, and the objective ``exits``
trains all that it has. An exit behind blocks that are not there reads the last block
that is: missing blocks add nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar

from torch import Tensor, nn

from p2pfusion.split.layout import Dimension, Initial, Layout, ParameterSpec
from p2pfusion.training.models.base import settle, whole
from p2pfusion.training.models.cut import Cut, uniform
from p2pfusion.training.models.projection import NAME
from p2pfusion.training.models.units import Exit, Exiting, UnitStack
from p2pfusion.training.models.vit import LOUDNESS, Patches, square_images
from p2pfusion.training.traits import Traits


class UnitVitNetwork(Exiting):
    """Patches, positions, blocks, exits, perhaps a projection."""

    def __init__(
        self,
        cut: Cut,
        stack: UnitStack,
        patches: Patches,
        *,
        classes: int,
        projection: int,
    ) -> None:
        super().__init__()
        width, side = stack.width, patches.side
        self.patches = nn.Conv2d(patches.in_channels, width, side, side)
        self.positions = nn.Embedding(patches.count, width)
        self.blocks = stack.blocks(cut)
        self.exits = stack.readers(cut, classes)
        self.depths = stack.depths
        compares = projection and cut.has_layer(stack.exit_layer(stack.exits - 1))
        self.projection = nn.Linear(width, projection, bias=False) if compares else None

    def _streams(self, inputs: Tensor) -> list[Tensor]:
        """The stream (B, T, D) that each exit reads."""
        tokens = self.patches(inputs).flatten(2).transpose(1, 2)
        stream: Tensor = tokens + self.positions.weight
        found, done = [], 0
        for depth in self.depths[: len(self.exits)]:
            for block in self.blocks[done:depth]:
                stream = block(stream)
            done = depth
            found.append(stream)
        return found

    def last(self, inputs: Tensor) -> Tensor:  # (B, C, H, W) -> (B, D)
        """What the deepest exit reads."""
        return self._deepest().last(self._streams(inputs)[-1])

    def logits(self, last: Tensor) -> Tensor:  # (B, D) -> (B, classes)
        """What the deepest exit answers."""
        logits: Tensor = self._deepest().classifier(last)
        return logits

    def answers(self, inputs: Tensor) -> list[Tensor]:
        """The logits (B, classes) of every exit, the deepest last."""
        pairs = zip(self.exits, self._streams(inputs), strict=True)
        return [each(stream) for each, stream in pairs]

    def _deepest(self) -> Exit:
        deepest = self.exits[-1]
        assert isinstance(deepest, Exit)
        return deepest


@dataclass(frozen=True)
class UnitVit:
    """The ``vit-units`` of the table.

    Arguments: in_channels, image_size, patch, width, heads, layers, inner, exits,
    classes, projection.
    """

    is_deep: ClassVar[bool] = True

    defaults: Mapping[str, object] = field(
        default_factory=lambda: {
            "in_channels": 3,
            "image_size": 32,
            "patch": 4,
            "width": 192,
            "heads": 8,
            "layers": 8,
            "inner": 384,
            "exits": 4,
            "classes": 10,
            "projection": 0,
        }
    )

    def suited(self, traits: Traits) -> dict[str, object]:
        """Square images of one size; ``DataError`` for others."""
        return square_images(traits, "vit-units")

    def layout(self, arguments: Mapping[str, object]) -> Layout:
        """Patches and positions, blocks, exits."""
        settled = settle(self, arguments)
        stack, patches = UnitStack.of(settled), Patches.of(settled)
        wide, side = Dimension(stack.width), Dimension(patches.side)
        kernels = (wide, Dimension(patches.in_channels), side, side)
        pixels = patches.in_channels * patches.side**2
        places = (Dimension(patches.count), wide)
        parameters = [
            ParameterSpec("patches.weight", kernels, uniform(1 / pixels)),
            ParameterSpec("patches.bias", (wide,), Initial("zeros")),
            ParameterSpec("positions.weight", places, uniform(LOUDNESS**2)),
            *stack.parameters(whole(settled, "classes", 1 << 20)),
        ]
        if projection := whole(settled, NAME, least=0):
            shape, quiet = (Dimension(projection), wide), uniform(1 / stack.width)
            layer = stack.exit_layer(stack.exits - 1)
            parameters.append(ParameterSpec(f"{NAME}.weight", shape, quiet, layer))
        return Layout(tuple(stack.axes().values()), tuple(parameters))

    def build(
        self, arguments: Mapping[str, object], sizes: Mapping[str, int]
    ) -> nn.Module:
        """The dense network with these widths."""
        settled = settle(self, arguments)
        stack = UnitStack.of(settled)
        return UnitVitNetwork(
            Cut(stack.axes(), sizes),
            stack,
            Patches.of(settled),
            classes=whole(settled, "classes", 1 << 20),
            projection=whole(settled, NAME, least=0),
        )
