"""Blocks of transformers of which units are left out, beside a stream that is whole.

Pre-norm blocks like those of ``blocks.py``, in which a sub-model may lack units of four
kinds, independently of each other, of other blocks and of the residual stream: heads of
attention (``head1``, ...), outputs of the attention (``out1``, ...), units inside the
feed-forward layers (``inner1``, ...), and their outputs (``down1``, ...). Outputs are
rows of the matrix that adds to the stream; they are added where they belong, so that
the stream, norms and all that reads it are as wide as in the whole model. A stream to
which nothing is added at a place stays there as it was.

Source of the units: Co-S2P (arXiv 2410.08457). As there, no sum is scaled up for what
it lacks.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import sqrt

import torch
from torch import Tensor, nn
from torch.nn import functional

from p2pfusion.errors import ConfigError
from p2pfusion.split.indices import IndexSet
from p2pfusion.split.layout import Axis, Dimension, Initial, ParameterSpec
from p2pfusion.training.models.base import MAX_LAYERS, Width, whole
from p2pfusion.training.models.blocks import MAX_HEADS, QKV
from p2pfusion.training.models.cut import LAST, Cut, along, uniform
from p2pfusion.training.models.projection import Projecting
from p2pfusion.training.models.skipping import Skippable

FIRST_EXIT = "exits.0.classifier.weight"
"""By this parameter a layout shows that its model has exits."""


class Adding(Width):
    """Adds the outputs that a sub-model has to the stream, where they belong."""

    positions: Tensor | None
    """Where that is; None if the stream has no other places."""

    def __init__(self, axis: Axis, size: int) -> None:
        super().__init__(
            axis.name, size=size, full_size=axis.size, scaled=False, dim=LAST
        )
        self.register_buffer("positions", None, persistent=False)

    def place(self, indices: IndexSet) -> None:
        """The outputs that there are."""
        if len(indices) < self.full_size:
            self.positions = torch.tensor(list(indices))

    def onto(self, stream: Tensor, outputs: Tensor) -> Tensor:
        """The stream (B, T, D) with outputs (B, T, w) added."""
        outputs = self(outputs)
        if self.positions is None:
            return stream + outputs
        return stream.index_add(LAST, self.positions, outputs)


class UnitBlock(Skippable):
    """Attention and feed-forward, each behind a norm and added to the stream."""

    def __init__(self, number: int, cut: Cut, stack: UnitStack) -> None:
        super().__init__()
        width, heads = stack.width, cut[f"head{number}"]
        self.head_size = width // stack.heads
        self.norm1 = nn.LayerNorm(width)
        self.qkv = nn.Linear(width, QKV * heads)
        self.heads = _reading(f"head{number}", cut)
        self.out = nn.Linear(heads, cut[f"out{number}"])
        self.adding1 = _adding(f"out{number}", cut)
        self.norm2 = nn.LayerNorm(width)
        self.up = nn.Linear(width, cut[f"inner{number}"])
        self.inner = _reading(f"inner{number}", cut)
        self.down = nn.Linear(cut[f"inner{number}"], cut[f"down{number}"])
        self.adding2 = _adding(f"down{number}", cut)

    def forward(self, stream: Tensor) -> Tensor:
        """The stream behind the block: (B, T, D)."""
        if self.is_skipped:
            return stream
        found = self.heads(self._attention(self.norm1(stream)))
        stream = self.adding1.onto(stream, self.out(found))
        values = self.inner(functional.gelu(self.up(self.norm2(stream))))
        return self.adding2.onto(stream, self.down(values))

    def _attention(self, tokens: Tensor) -> Tensor:  # (B, T, D) -> (B, T, heads' width)
        queries, keys, values = (
            part.unflatten(LAST, (-1, self.head_size)).transpose(1, 2)
            for part in self.qkv(tokens).chunk(QKV, LAST)
        )
        found = functional.scaled_dot_product_attention(
            queries,  # (B, heads, T, head)
            keys,
            values,
            scale=1 / sqrt(self.head_size),
        )
        return found.transpose(1, 2).flatten(2)


class Exit(nn.Module):
    """A norm, the mean over tokens and a linear classifier."""

    def __init__(self, width: int, classes: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.classifier = nn.Linear(width, classes)

    def last(self, stream: Tensor) -> Tensor:  # (B, T, D) -> (B, D)
        """What the classifier reads."""
        mean: Tensor = self.norm(stream).mean(1)
        return mean

    def forward(self, stream: Tensor) -> Tensor:  # (B, T, D) -> (B, classes)
        """Logits."""
        logits: Tensor = self.classifier(self.last(stream))
        return logits


class Exiting(Projecting):
    """A network that can answer at several depths."""

    def answers(self, inputs: Tensor) -> list[Tensor]:
        """The logits (B, classes) of every exit, the deepest last."""
        raise NotImplementedError


@dataclass(frozen=True)
class UnitStack:
    """The sizes of such a stack, and behind which blocks it has exits.

    Layers count from the input's, 0: blocks in their order, and an exit directly
    behind the block that it reads.
    """

    width: int
    heads: int
    layers: int
    inner: int
    exits: int

    @classmethod
    def of(cls, settled: Mapping[str, object]) -> UnitStack:
        """From a model's arguments, checked; ``ConfigError`` names the argument."""
        layers = whole(settled, "layers", MAX_LAYERS)
        stack = cls(
            width=whole(settled, "width"),
            heads=whole(settled, "heads", MAX_HEADS),
            layers=layers,
            inner=whole(settled, "inner"),
            exits=whole(settled, "exits", layers),
        )
        if stack.width % stack.heads:
            raise ConfigError(
                f"model argument 'width': {stack.width} is not a multiple of the "
                f"number of heads, {stack.heads}"
            )
        return stack

    @property
    def depths(self) -> tuple[int, ...]:
        """Behind how many blocks each exit stands: at equal parts of the depth."""
        exits = range(1, self.exits + 1)
        return tuple(-(-number * self.layers // self.exits) for number in exits)

    def block_layer(self, number: int) -> int:
        """The layer of a block, counted from 1."""
        return number + sum(depth < number for depth in self.depths)

    def exit_layer(self, number: int) -> int:
        """The layer of an exit, counted from 0."""
        return self.depths[number] + number + 1

    def axes(self) -> dict[str, Axis]:
        """All axes, by name."""
        axes = [
            axis
            for n in range(1, self.layers + 1)
            for axis in (
                Axis(f"head{n}", self.width, self.width // self.heads),
                Axis(f"out{n}", self.width),
                Axis(f"inner{n}", self.inner),
                Axis(f"down{n}", self.width),
            )
        ]
        return {axis.name: axis for axis in axes}

    def blocks(self, cut: Cut) -> nn.ModuleList:
        """The modules of those blocks that the sub-model has: the first ones."""
        numbers = range(1, self.layers + 1)
        held = (n for n in numbers if cut.has_layer(self.block_layer(n)))
        return nn.ModuleList(UnitBlock(n, cut, self) for n in held)

    def readers(self, cut: Cut, classes: int) -> nn.ModuleList:
        """The modules of those exits that it has: the first ones."""
        held = (n for n in range(self.exits) if cut.has_layer(self.exit_layer(n)))
        return nn.ModuleList(Exit(self.width, classes) for _ in held)

    def parameters(self, classes: int) -> list[ParameterSpec]:
        """Those of the blocks, then those of the exits."""
        axes = self.axes()
        found: list[ParameterSpec] = []
        for number in range(1, self.layers + 1):
            found += self._block(number, axes)
        for number in range(self.exits):
            name, layer = f"exits.{number}", self.exit_layer(number)
            quiet = 1 / (3 * self.width)
            found += _norm(f"{name}.norm", self.width, layer)
            found += _linear(
                f"{name}.classifier",
                Dimension(classes),
                Dimension(self.width),
                quiet,
                layer,
            )
        return found

    def _block(self, number: int, axes: Mapping[str, Axis]) -> list[ParameterSpec]:
        layer, name = self.block_layer(number), f"blocks.{number - 1}"
        head, out, inner, down = (
            axes[f"{kind}{number}"] for kind in ("head", "out", "inner", "down")
        )
        # Every block adds to the stream twice: each begins with its part of it.
        part, stream = 1 / (2 * self.layers), Dimension(self.width)
        variances = (1 / self.width, part / self.width, 2 / self.width)
        reads, adds, grows = variances
        return [
            *_norm(f"{name}.norm1", self.width, layer),
            *_linear(f"{name}.qkv", along(head, QKV), stream, reads, layer),
            *_linear(f"{name}.out", along(out), along(head), adds, layer),
            *_norm(f"{name}.norm2", self.width, layer),
            *_linear(f"{name}.up", along(inner), stream, grows, layer),
            *_linear(
                f"{name}.down", along(down), along(inner), part / self.inner, layer
            ),
        ]


def _reading(name: str, cut: Cut) -> Width:
    return Width(
        name, size=cut[name], full_size=cut.axes[name].size, scaled=False, dim=LAST
    )


def _adding(name: str, cut: Cut) -> Adding:
    return Adding(cut.axes[name], cut[name])


def _norm(name: str, width: int, layer: int) -> list[ParameterSpec]:
    stream = (Dimension(width),)
    return [
        ParameterSpec(f"{name}.weight", stream, Initial("ones"), layer),
        ParameterSpec(f"{name}.bias", stream, Initial("zeros"), layer),
    ]


def _linear(
    name: str, outputs: Dimension, inputs: Dimension, variance: float, layer: int
) -> list[ParameterSpec]:
    return [
        ParameterSpec(f"{name}.weight", (outputs, inputs), uniform(variance), layer),
        ParameterSpec(f"{name}.bias", (outputs,), Initial("zeros"), layer),
    ]
