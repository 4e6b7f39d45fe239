"""Blocks of transformers, and what every stack of them shares.

Pre-norm blocks (Xiong et al., On layer normalization in the transformer architecture,
ICML 2020): attention, then two layers with GELU between them, each added to the
residual stream. Axes: ``stream``, the residual stream, which is one for the whole
model; ``head1``, ``head2``, ...: of each block's attention; ``inner1``, ...: the inside
of each block's feed-forward layers.

Attention is cut in one of two ways (``head_cut``). ``whole``: the axis are all heads
side by side, and a sub-model has some of them, each whole. A head of the sub-model then
looks exactly where it looks in the full model. ``inside``: the axis are the channels of
one head, the same for all, and every head is cut alike: a channel of the sub-model
belongs to the head to which it belongs in the full model (Differs from FedRolex, which
rolls all heads as one width), and scores are sums over what is there of a head. Either
way one axis serves queries, keys and values, so that they are one matrix product.
docs/methods.md has the places of the scaler.
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
from p2pfusion.training.models.skipping import Skippable

STREAM = "stream"

MAX_HEADS = 1_024
"""A dimension may repeat an axis 4,096 times, and here it is repeated three times for
each head."""

QKV = 3
"""Queries, keys and values, in this order."""

HEAD_CUTS = ("whole", "inside")


class Attention(nn.Module):
    """Every token looks at tokens: at those before it only, if ``causal``."""

    def __init__(self, axis: str, cut: Cut, stack: Stack, *, causal: bool) -> None:
        super().__init__()
        self.causal = causal
        size, factor = stack.head_size, 1.0
        self.whole = stack.head_cut == "whole"
        if self.whole:
            self.heads = cut[axis] // size
            channels = cut[axis]
            self.queries: nn.Module = nn.Identity()  # a head's score lacks nothing
        else:
            self.heads = stack.heads
            channels = self.heads * cut[axis]
            reading = cut.reading(axis, across=True)  # a score is of whole heads
            self.queries, factor = reading, reading.factor
        # The full model's, also in a sub-model: what a sum lacks, the scaler makes up.
        self.temperature = factor / sqrt(size)
        self.qkv = nn.Linear(cut[STREAM], QKV * channels)
        self.found = cut.reading(axis)
        self.out = nn.Linear(channels, cut[STREAM])

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
        found = found.transpose(1, 2)  # (B, T, heads, head)
        if self.whole:
            found = found.flatten(2)  # the axis are all heads
        return self.found.into(self.out, found)


class Block(Skippable):
    """Attention and feed-forward, each behind a norm and added to the stream."""

    def __init__(self, number: int, cut: Cut, stack: Stack, *, causal: bool) -> None:
        super().__init__()
        inner, stream = f"inner{number}", cut[STREAM]
        self.norm1 = stack.norm(cut)
        self.attention = Attention(f"head{number}", cut, stack, causal=causal)
        self.norm2 = stack.norm(cut)
        self.up = nn.Linear(stream, cut[inner])
        self.inner = cut.reading(inner)
        self.down = nn.Linear(cut[inner], stream)

    def forward(self, stream: Tensor, seen: Tensor | None = None) -> Tensor:
        """The stream behind the block: (B, T, stream)."""
        if self.is_skipped:
            return stream
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
    head_cut: str

    @property
    def head_size(self) -> int:
        """Channels of one head."""
        return self.width // self.heads

    @classmethod
    def of(cls, settled: Mapping[str, object]) -> Stack:
        """From a model's arguments, checked; ``ConfigError`` names the argument."""
        stack = cls(
            width=whole(settled, "width"),
            heads=whole(settled, "heads", MAX_HEADS),
            layers=whole(settled, "layers", MAX_LAYERS),
            inner=whole(settled, "inner"),
            group=whole(settled, "group"),
            head_cut=str(settled["head_cut"]),
        )
        if stack.head_cut not in HEAD_CUTS:
            raise ConfigError(
                f"model argument 'head_cut': {settled['head_cut']!r} is none of "
                + ", ".join(HEAD_CUTS)
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
            axes.append(self._heads(n))
            axes.append(Axis(f"inner{n}", self.inner))
        return {axis.name: axis for axis in axes}

    def _heads(self, number: int) -> Axis:
        if self.head_cut == "whole":
            return Axis(f"head{number}", self.width, self.head_size)
        return Axis(f"head{number}", self.head_size)

    def norm(self, cut: Cut, *, across: bool = False) -> AlignedNorm:
        """A norm through which the stream is read."""
        return cut.norm(STREAM, group=self.group, dim=LAST, across=across)

    def blocks(self, cut: Cut, *, causal: bool) -> nn.ModuleList:
        """The modules of those blocks that the sub-model has: the first ones."""
        numbers = filter(cut.has_layer, range(1, self.layers + 1))
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
        wide, times = along(stream), self.width // head.size
        shapes = {
            "attention.qkv": (along(head, QKV * times), wide, 1.0),
            "attention.out": (wide, along(head, times), part),
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
