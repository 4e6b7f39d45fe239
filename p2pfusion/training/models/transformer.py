"""A causal language model: a transformer that only looks back.

Tokens and positions are looked up in learned tables and added; then blocks
(``blocks.py``), a norm, and as logits the products with every token's row of the same
table. Table and head are one tensor with one index set: all rows, and the columns of
the axis ``stream``, which positions have, too.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import sqrt
from typing import ClassVar

from torch import Tensor, nn
from torch.nn import functional

from p2pfusion.errors import ConfigError
from p2pfusion.split.layout import Axis, Dimension, Layout, ParameterSpec
from p2pfusion.training.models.base import check_task, settle, whole
from p2pfusion.training.models.blocks import STREAM, Stack
from p2pfusion.training.models.cut import Cut, along, uniform
from p2pfusion.training.models.projection import (
    Projecting,
    projection_layer,
    projection_parameters,
)
from p2pfusion.training.traits import Traits

MAX_TOKENS = 1 << 20
"""Rows of a table, from a manifest that somebody else may have written."""

_LOUDNESS = 0.1
"""Standard deviation of what a token, and its position, put into the fresh stream. If
it is near 1, the fresh model is sure that each token is followed by itself, because
head and table are the same."""


class TransformerNetwork(Projecting):
    """Table, positions, blocks, norm; the table is the head. Perhaps a projection."""

    def __init__(
        self,
        cut: Cut,
        stack: Stack,
        *,
        vocabulary: int,
        length: int,
        projection: nn.Linear | None,
    ) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, cut[STREAM])
        self.positions = nn.Embedding(length, cut[STREAM])
        self.blocks = stack.blocks(cut, causal=True)
        self.norm = stack.norm(cut, across=True)
        self.width = stack.width
        self.projection = projection

    def last(self, inputs: Tensor) -> Tensor:  # (B, T) -> (B, T, w)
        """The normalised stream."""
        stream = look_up(inputs, self.embedding, self.positions, self.width)
        for block in self.blocks:
            stream = block(stream)
        normal: Tensor = self.norm(stream)
        return normal

    def logits(self, last: Tensor) -> Tensor:  # (B, T, w) -> (B, T, vocabulary)
        """Logits of the token after each."""
        return functional.linear(last, self.embedding.weight)


def look_up(
    tokens: Tensor, embedding: nn.Embedding, positions: nn.Embedding, width: int
) -> Tensor:  # (B, T) -> (B, T, stream)
    """What tokens and positions put into the stream.

    Times the root of the full width (Vaswani et al., Attention is all you need, 2017,
    Sec. 3.4): a table that is also the head has small values.
    """
    places = positions.weight[: tokens.shape[1]]
    return embedding(tokens) * sqrt(width) + places


def tables(vocabulary: int, length: int, stream: Axis) -> list[ParameterSpec]:
    """The tables of tokens and of positions, layer 0."""
    quiet, loud = uniform(_LOUDNESS**2 / stream.size), uniform(_LOUDNESS**2)
    return [
        ParameterSpec(f"{name}.weight", (Dimension(rows), along(stream)), initial)
        for name, rows, initial in (
            ("embedding", vocabulary, quiet),
            ("positions", length, loud),
        )
    ]


@dataclass(frozen=True)
class Transformer:
    """The ``transformer`` of the table.

    Arguments: vocabulary, classes (the same number: every token can be the next),
    length, width, heads, layers, inner, group, head_cut, projection.
    """

    is_deep: ClassVar[bool] = True

    defaults: Mapping[str, object] = field(
        default_factory=lambda: {
            "vocabulary": 8192,
            "classes": 8192,
            "length": 64,
            "width": 256,
            "heads": 8,
            "layers": 4,
            "inner": 1024,
            "group": 16,
            "head_cut": "whole",
            "projection": 0,
        }
    )

    def suited(self, traits: Traits) -> dict[str, object]:
        """A row for every token, and for every position of a record."""
        check_task(traits, "language", "transformer")
        return {
            "vocabulary": traits.vocabulary,
            "classes": traits.classes,
            "length": traits.shape[0],
        }

    def layout(self, arguments: Mapping[str, object]) -> Layout:
        """The tables, blocks and norm, the projection."""
        settled = settle(self, arguments)
        stack, vocabulary, length = self._numbers(settled)
        axes = stack.axes()
        parameters = [
            *tables(vocabulary, length, axes[STREAM]),
            *stack.parameters(),
            *projection_parameters(settled, axes[STREAM], stack.layers + 1),
        ]
        return Layout(tuple(axes.values()), tuple(parameters))

    def build(
        self, arguments: Mapping[str, object], sizes: Mapping[str, int]
    ) -> nn.Module:
        """The dense network with these widths."""
        settled = settle(self, arguments)
        stack, vocabulary, length = self._numbers(settled)
        cut = Cut(stack.axes(), sizes)
        return TransformerNetwork(
            cut,
            stack,
            vocabulary=vocabulary,
            length=length,
            projection=projection_layer(settled, cut[STREAM]),
        )

    def _numbers(self, settled: Mapping[str, object]) -> tuple[Stack, int, int]:
        vocabulary = whole(settled, "vocabulary", MAX_TOKENS)
        if settled["classes"] != vocabulary:
            raise ConfigError(
                f"model argument 'classes': {settled['classes']!r} is not vocabulary, "
                f"{vocabulary}, though every token can be the next",
                hint="give both the same value, or neither: the data says it",
            )
        return Stack.of(settled), vocabulary, whole(settled, "length")
