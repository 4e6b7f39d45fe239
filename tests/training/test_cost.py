"""What a step costs, against counting by hand."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from torch import Tensor, nn

from p2pfusion.split.segment import Split
from p2pfusion.training.cost import saved_activation_bytes, training_flops
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


# --- With frozen sub-models beside it ------------------------------------------------

PROJECTION = 5
TEXT: dict[str, object] = {
    **ARGUMENTS,
    "classes": VOCABULARY,
    "projection": PROJECTION,
}


def language_models(parts: Sequence[int]) -> list[nn.Module]:
    """Sub-models of different widths, one for each part of the full one."""
    model = MODELS["transformer"]
    sizes = Split.full(model.layout(TEXT)).sizes()
    return [
        model.build(TEXT, {name: size // part for name, size in sizes.items()})
        for part in parts
    ]


@pytest.mark.parametrize("parts", [(1, 1, 1), (2, 2, 1), (1, 1, 2, 2)])
def test_frozen_sub_models_cost_their_way_to_the_projection(
    parts: tuple[int, ...],
) -> None:
    """The trained one thrice, each of the others once and without its head: of a
    language model that is a good part."""

    def body(part: int) -> int:
        blocks = block_flops(STREAM // part, HEAD // part, INNER // part)
        return LAYERS * blocks + 2 * (STREAM // part) * PROJECTION

    head = 2 * TOKENS * (STREAM // parts[0]) * VOCABULARY
    expected = 3 * (body(parts[0]) + head) + sum(body(part) for part in parts[1:])
    module, *frozen = language_models(parts)
    assert training_flops(module, tokens(), frozen) == BATCH * expected


@pytest.mark.parametrize("count", [2, 3])
def test_frozen_sub_models_leave_their_projected_features(count: int) -> None:
    """And the trained one its own; beside them some numbers for every record."""
    module, *frozen = language_models((2, *[2] * count))
    plain = saved_activation_bytes(module, tokens())
    found = saved_activation_bytes(module, tokens(), frozen)
    features = (1 + count) * BATCH * PROJECTION * 4
    mean = BATCH * (STREAM // 2) * 4  # over positions, which the projection reads
    rest = found - plain - features - mean
    assert 0 <= rest <= 16 * count * BATCH


def tokens() -> Tensor:
    random = torch.Generator().manual_seed(0)
    return torch.randint(VOCABULARY, (BATCH, TOKENS), generator=random)
