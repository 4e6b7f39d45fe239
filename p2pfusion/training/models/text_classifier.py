"""A classifier of texts: a transformer that looks both ways.

Token 0 is padding: nobody looks at it, and it is not part of the mean over the tokens
behind the last norm, which a linear classifier reads. The first place always counts, so
that a text without any token has a meaning as well.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar

from torch import Tensor, nn

from p2pfusion.split.layout import Layout
from p2pfusion.training.models.base import check_task, settle, whole
from p2pfusion.training.models.blocks import STREAM, Stack
from p2pfusion.training.models.cut import Cut, classifier_parameters
from p2pfusion.training.models.projection import (
    Projecting,
    projection_layer,
    projection_parameters,
)
from p2pfusion.training.models.transformer import MAX_TOKENS, look_up, tables
from p2pfusion.training.traits import Traits

PADDING = 0


class TextClassifierNetwork(Projecting):
    """Tables, blocks, norm, mean, classifier, perhaps a projection."""

    def __init__(
        self,
        cut: Cut,
        stack: Stack,
        *,
        vocabulary: int,
        length: int,
        classes: int,
        projection: nn.Linear | None,
    ) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, cut[STREAM])
        self.positions = nn.Embedding(length, cut[STREAM])
        self.blocks = stack.blocks(cut, causal=False)
        self.norm = stack.norm(cut, across=True)
        self.classifier = nn.Linear(cut[STREAM], classes)
        self.width = stack.width
        self.projection = projection

    def last(self, inputs: Tensor) -> Tensor:  # (B, T) -> (B, w)
        """The normalised stream, in its mean over the tokens."""
        present = inputs != PADDING
        present[:, 0] = True
        stream = look_up(inputs, self.embedding, self.positions, self.width)
        for block in self.blocks:
            stream = block(stream, present[:, None, None, :])
        weights = present / present.sum(1, keepdim=True)  # (B, T)
        return (weights.to(stream.dtype)[:, None] @ self.norm(stream)).squeeze(1)

    def logits(self, last: Tensor) -> Tensor:  # (B, w) -> (B, classes)
        """The classifier's."""
        logits: Tensor = self.classifier(last)
        return logits


@dataclass(frozen=True)
class TextClassifier:
    """The ``transformer-classifier`` of the table.

    Arguments: vocabulary, length, width, heads, layers, inner, group, head_cut,
    classes, projection.
    """

    is_deep: ClassVar[bool] = True

    defaults: Mapping[str, object] = field(
        default_factory=lambda: {
            "vocabulary": 8192,
            "length": 64,
            "width": 128,
            "heads": 8,
            "layers": 2,
            "inner": 256,
            "group": 8,
            "head_cut": "whole",
            "classes": 2,
            "projection": 0,
        }
    )

    def suited(self, traits: Traits) -> dict[str, object]:
        """A row for every token, and for every position of a record."""
        check_task(traits, "text", "transformer-classifier")
        return {
            "vocabulary": traits.vocabulary,
            "length": traits.shape[0],
            "classes": traits.classes,
        }

    def layout(self, arguments: Mapping[str, object]) -> Layout:
        """The tables, blocks and norm, the classifier."""
        settled = settle(self, arguments)
        stack, (vocabulary, length, classes) = Stack.of(settled), _counts(settled)
        axes = stack.axes()
        parameters = [
            *tables(vocabulary, length, axes[STREAM]),
            *stack.parameters(),
            *classifier_parameters(classes, axes[STREAM], stack.layers + 1),
            *projection_parameters(settled, axes[STREAM], stack.layers + 1),
        ]
        return Layout(tuple(axes.values()), tuple(parameters))

    def build(
        self, arguments: Mapping[str, object], sizes: Mapping[str, int]
    ) -> nn.Module:
        """The dense network with these widths."""
        settled = settle(self, arguments)
        stack, (vocabulary, length, classes) = Stack.of(settled), _counts(settled)
        cut = Cut(stack.axes(), sizes)
        return TextClassifierNetwork(
            cut,
            stack,
            vocabulary=vocabulary,
            length=length,
            classes=classes,
            projection=projection_layer(settled, cut[STREAM]),
        )


def _counts(settled: Mapping[str, object]) -> tuple[int, int, int]:
    vocabulary = whole(settled, "vocabulary", MAX_TOKENS)
    return vocabulary, whole(settled, "length"), whole(settled, "classes", 1 << 20)
