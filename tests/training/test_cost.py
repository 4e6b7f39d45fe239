"""What a step costs, against counting by hand."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from p2pfusion.split.segment import Split
from p2pfusion.training.cost import training_flops
from p2pfusion.training.models import MODELS

BATCH, TOKENS, VOCABULARY, LAYERS, HEADS = 2, 6, 9, 2, 2
STREAM, HEAD, INNER = 8, 4, 12
ARGUMENTS: dict[str, object] = {
    "vocabulary": VOCABULARY,
    "length": TOKENS,
    "width": STREAM,
    "heads": HEADS,
    "layers": LAYERS,
    "inner": INNER,
    "group": 4,
}


def block_flops(stream: int, head: int, inner: int) -> int:
    """Forward, of one block and one text: four products, and attention's two."""
    projections = TOKENS * stream * (3 + 1) * HEADS * head
    feed_forward = TOKENS * 2 * stream * inner
    attention = 2 * HEADS * TOKENS * TOKENS * head
    return 2 * (projections + feed_forward + attention)


@pytest.mark.parametrize("part", [1, 2])
def test_a_language_model(part: int) -> None:
    """The whole one, and half of every width."""
    arguments = {**ARGUMENTS, "classes": VOCABULARY}
    sizes = Split.full(MODELS["transformer"].layout(arguments)).sizes()
    cut = {name: size // part for name, size in sizes.items()}
    module = MODELS["transformer"].build(arguments, cut)
    stream = STREAM // part
    forward = LAYERS * block_flops(stream, HEAD // part, INNER // part)
    forward += 2 * TOKENS * stream * VOCABULARY
    assert training_flops(module, tokens()) == 3 * BATCH * forward


def test_a_classifier_with_padding() -> None:
    """A mask changes nothing about the count."""
    arguments = {**ARGUMENTS, "classes": 3}
    model = MODELS["transformer-classifier"]
    module = model.build(arguments, Split.full(model.layout(arguments)).sizes())
    forward = LAYERS * block_flops(STREAM, HEAD, INNER)
    forward += 2 * STREAM * (TOKENS + 3)
    assert training_flops(module, tokens()) == 3 * BATCH * forward


def tokens() -> Tensor:
    random = torch.Generator().manual_seed(0)
    return torch.randint(VOCABULARY, (BATCH, TOKENS), generator=random)
