"""Blocks of transformers, and what every stack of them shares.

Pre-norm blocks (Xiong et al., On layer normalization in the transformer architecture,
ICML 2020): attention, then two layers with GELU between them, each added to the
residual stream. Axes: ``stream``, the residual stream, which is one for the whole
model; ``head1``, ``head2``, ...: the channels of one head of each block, the same for
all its heads and for queries, keys and values; ``inner1``, ...: the inside of each
block's feed-forward layers.

All heads are kept, and each is cut alike, inside itself: a channel of the sub-model
belongs to the head to which it belongs in the full model (Differs from FedRolex, which
rolls all heads as one width). One axis serves queries, keys and values, so that they
are one matrix product. docs/methods.md has the places of the scaler.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import sqrt

from torch import Tensor, nn
from torch.nn import functional

from p2pfusion.errors import ConfigError
from p2pfusion.split.layout import Axis, Initial, ParameterSpec
from p2pfusion.training.models.base import MAX_LAYERS, check_group, whole
from p2pfusion.training.models.cut import (
    LAST,
    AlignedNorm,
    Cut,
    along,
    norm_parameters,
    uniform,
)

STREAM = "stream"

MAX_HEADS = 1_024
"""A dimension may repeat an axis 4,096 times, and here it is repeated three times for
each head."""

QKV = 3
"""Queries, keys and values, in this order."""


class Attention(nn.Module):
    """Every token looks at tokens: at those before it only, if ``causal``."""

    def __init__(self, axis: str, cut: Cut, *, heads: int, causal: bool) -> None:
        super().__init__()
        self.heads, self.causal = heads, causal
        self.qkv = nn.Linear(cut[STREAM], QKV * heads * cut[axis])
        self.queries = cut.reading(axis, across=True)  # a score is of whole heads
        self.found = cut.reading(axis)
        # The full model's, also in a sub-model: what a sum lacks, the scaler makes up.
        self.temperature = self.queries.factor / sqrt(cut.axes[axis].size)
        self.out = nn.Linear(heads * cut[axis], cut[STREAM])

    def forward(self, tokens: Tensor, seen: Tensor | None = None) -> Tensor:
        """(B, T, stream) to the same. ``seen``: which tokens may be looked at."""
        queries, keys, values = (
            part.unflatten(LAST, (self.heads, -1)).transpose(1, 2)
            for part in self.qkv(tokens).chunk(QKV, LAST)
        )
        found = functional.scaled_dot_product_attention(
            self.queries(queries),  # (B, heads, T, head)
            keys,
            values,
            attn_mask=seen,
            is_causal=self.causal,
            scale=self.temperature,
        )
        return self.found.into(self.out, found.transpose(1, 2))


class Block(nn.Module):
    """Attention and feed-forward, each behind a norm and added to the stream."""

    def __init__(self, number: int, cut: Cut, stack: Stack, *, causal: bool) -> None:
        super().__init__()
        inner, stream = f"inner{number}", cut[STREAM]
        self.norm1 = stack.norm(cut)
        self.attention = Attention(
            f"head{number}", cut, heads=stack.heads, causal=causal
        )
        self.norm2 = stack.norm(cut)
        self.up = nn.Linear(stream, cut[inner])
        self.inner = cut.reading(inner)
        self.down = nn.Linear(cut[inner], stream)

    def forward(self, stream: Tensor, seen: Tensor | None = None) -> Tensor:
        """The stream behind the block: (B, T, stream)."""
        stream = stream + self.attention(self.norm1(stream), seen)
        values = functional.gelu(self.up(self.norm2(stream)))
        return stream + self.inner.into(self.down, values)


@dataclass(frozen=True)
class Stack:
    """The sizes of a stack of blocks with a norm behind it."""

    width: int
    heads: int
    layers: int
    inner: int
    group: int

    @classmethod
    def of(cls, settled: Mapping[str, object]) -> Stack:
        """From a model's arguments, checked; ``ConfigError`` names the argument."""
        stack = cls(
            width=whole(settled, "width"),
            heads=whole(settled, "heads", MAX_HEADS),
            layers=whole(settled, "layers", MAX_LAYERS),
            inner=whole(settled, "inner"),
            group=whole(settled, "group"),
        )
        check_group(stack.width, stack.group, "width")
        if stack.width % stack.heads:
            raise ConfigError(
                f"model argument 'width': {stack.width} is not a multiple of the "
                f"number of heads, {stack.heads}"
            )
        return stack

    def axes(self) -> dict[str, Axis]:
        """All axes, by name."""
        axes = [Axis(STREAM, self.width, self.group)]
        for n in range(1, self.layers + 1):
            axes.append(Axis(f"head{n}", self.width // self.heads))
            axes.append(Axis(f"inner{n}", self.inner))
        return {axis.name: axis for axis in axes}

    def norm(self, cut: Cut, *, across: bool = False) -> AlignedNorm:
        """A norm through which the stream is read."""
        return cut.norm(STREAM, group=self.group, dim=LAST, across=across)

    def blocks(self, cut: Cut, *, causal: bool) -> nn.ModuleList:
        """The blocks' modules."""
        numbers = range(1, self.layers + 1)
        return nn.ModuleList(Block(n, cut, self, causal=causal) for n in numbers)

    def parameters(self) -> list[ParameterSpec]:
        """The blocks' parameters, layers 1 to L, and those of the norm behind them."""
        axes = self.axes()
        found: list[ParameterSpec] = []
        for layer in range(1, self.layers + 1):
            found += self._block(layer, axes)
        return [*found, *norm_parameters("norm", axes[STREAM], self.layers + 1)]

    def _block(self, layer: int, axes: Mapping[str, Axis]) -> list[ParameterSpec]:
        head, inner = axes[f"head{layer}"], axes[f"inner{layer}"]
        stream, name = axes[STREAM], f"blocks.{layer - 1}"
        # Every block adds to the stream twice: each begins with its part of it.
        part = 1 / (2 * self.layers)
        wide = along(stream)
        shapes = {
            "attention.qkv": (along(head, QKV * self.heads), wide, 1.0),
            "attention.out": (wide, along(head, self.heads), part),
            "up": (along(inner), wide, 2.0),
            "down": (wide, along(inner), part),
        }
        layers = {
            what: [
                ParameterSpec(
                    f"{name}.{what}.weight",
                    (outputs, inputs),
                    uniform(gain / inputs.size),
                    layer,
                ),
                ParameterSpec(
                    f"{name}.{what}.bias", (outputs,), Initial("zeros"), layer
                ),
            ]
            for what, (outputs, inputs, gain) in shapes.items()
        }
        return [
            *norm_parameters(f"{name}.norm1", stream, layer),
            *layers["attention.qkv"],
            *layers["attention.out"],
            *norm_parameters(f"{name}.norm2", stream, layer),
            *layers["up"],
            *layers["down"],
        ]
