"""Layouts of real models as plain data, and swarms that split them.

For tests and benchmarks that need the shapes of a real model but no values.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from fractions import Fraction

from p2pfusion.split.layout import Axis, Dimension, Initial, Layout, ParameterSpec
from p2pfusion.split.segment import Split
from p2pfusion.split.windows import rolling_window, window_cells

Windows = Callable[[Layout, int, Fraction, int], dict[str, Split]]
"""Everybody's split: of a layout, peer count, split fraction and round."""

GROUP = 4
"""Channels of one group of the normalisation: never separated."""


def resnet18(class_count: int = 10) -> Layout:
    """The pre-activation ResNet18 for images of 32 pixels: 11.17 million parameters.

    One axis for the residual stream of each stage, one for the inside of each block.
    """
    model = _Builder()
    model.axis("stream1", 64)
    model.convolution("stem", 3, "stream1", 3)
    before, width_before = "stream1", 64
    for stage, width in enumerate((64, 128, 256, 512), 1):
        stream = f"stream{stage}"
        if stage > 1:
            model.axis(stream, width)
        for block in (1, 2):
            name, inside = f"stage{stage}.{block}", f"inner{stage}.{block}"
            model.axis(inside, width)
            model.norm(f"{name}.norm1", before, width_before)
            model.convolution(f"{name}.conv1", before, inside, 3)
            model.norm(f"{name}.norm2", inside, width)
            model.convolution(f"{name}.conv2", inside, stream, 3)
            if before != stream:
                model.convolution(f"{name}.shortcut", before, stream, 1)
            before, width_before = stream, width
    model.norm("norm", before, width_before)
    model.add("classifier.weight", Dimension(class_count), model.along(before))
    model.add("classifier.bias", Dimension(class_count))
    return Layout(tuple(model.axes.values()), tuple(model.parameters))


def evenly(
    layout: Layout, peer_count: int, fraction: Fraction, round_index: int
) -> dict[str, Split]:
    """Evenly spaced windows that move by half a window per round."""
    found = {}
    for rank in range(peer_count):
        sets = {}
        for axis in layout.axes:
            width = window_cells(axis, fraction)
            start = rank * axis.cell_count // peer_count + round_index * (width // 2)
            sets[axis.name] = rolling_window(axis, width, start)
        found[f"peer{rank:03}"] = Split.of(sets)
    return found


def independently(
    layout: Layout, peer_count: int, fraction: Fraction, round_index: int
) -> dict[str, Split]:
    """Windows that start anywhere, on every axis, for every peer and round anew."""
    chance = random.Random(round_index)
    return {
        f"peer{rank:03}": Split.of(
            {
                axis.name: rolling_window(
                    axis,
                    window_cells(axis, fraction),
                    chance.randrange(axis.cell_count),
                )
                for axis in layout.axes
            }
        )
        for rank in range(peer_count)
    }


class _Builder:
    def __init__(self) -> None:
        self.axes: dict[str, Axis] = {}
        self.parameters: list[ParameterSpec] = []

    def axis(self, name: str, size: int) -> None:
        self.axes[name] = Axis(name, size, GROUP)

    def along(self, axis: str) -> Dimension:
        return Dimension(self.axes[axis].size, axis)

    def add(self, name: str, *dimensions: Dimension) -> None:
        rule = Initial("uniform", 0.05)
        layer = len(self.parameters)
        self.parameters.append(ParameterSpec(name, dimensions, rule, layer))

    def norm(self, name: str, axis: str, size: int) -> None:
        self.add(f"{name}.weight", Dimension(size, axis))
        self.add(f"{name}.bias", Dimension(size, axis))

    def convolution(
        self, name: str, source: str | int, target: str, kernel: int
    ) -> None:
        inputs = Dimension(source) if isinstance(source, int) else self.along(source)
        sides = (Dimension(kernel), Dimension(kernel))
        self.add(f"{name}.weight", self.along(target), inputs, *sides)
