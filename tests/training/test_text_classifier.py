"""The classifier of texts: padding has no say, and torch's own layers agree."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from p2pfusion.split.segment import Split
from p2pfusion.training.models import MODELS
from tests.training.samples import torchs_layer

MODEL = MODELS["transformer-classifier"]
WIDTH, HEADS, INNER, LENGTH, VOCABULARY, CLASSES = 8, 2, 12, 6, 11, 3
ARGUMENTS: dict[str, object] = {
    "vocabulary": VOCABULARY,
    "length": LENGTH,
    "width": WIDTH,
    "heads": HEADS,
    "layers": 2,
    "inner": INNER,
    "group": WIDTH,
    "classes": CLASSES,
}


def network(**others: object) -> nn.Module:
    """The full model in float64, every parameter random."""
    arguments = {**ARGUMENTS, **others}
    sizes = Split.full(MODEL.layout(arguments)).sizes()
    module = MODEL.build(arguments, sizes).double()
    random = torch.Generator().manual_seed(0)
    for parameter in module.parameters():
        parameter.data.normal_(0.0, 0.3, generator=random)
    return module


def texts() -> Tensor:
    """Three texts, of four, six and one tokens."""
    random = torch.Generator().manual_seed(1)
    tokens = torch.randint(1, VOCABULARY, (3, LENGTH), generator=random)
    tokens[0, 4:] = 0
    tokens[2, 1:] = 0
    return tokens


def test_values_are_those_of_torchs_layers() -> None:
    """Text by text, without any padding."""
    module = network()
    value = module.get_parameter
    for text, logits in zip(texts(), module(texts()), strict=True):
        tokens = text[text != 0]
        stream = value("embedding.weight")[tokens] * WIDTH**0.5
        stream = (stream + value("positions.weight")[: len(tokens)])[None]
        for block in module.get_submodule("blocks").children():
            layer = torchs_layer(block, width=WIDTH, heads=HEADS, inner=INNER)
            stream = layer(stream)
        normal = functional.layer_norm(
            stream[0], (WIDTH,), value("norm.weight"), value("norm.bias")
        )
        expected = module.get_submodule("classifier")(normal.mean(0))
        torch.testing.assert_close(logits, expected)


def test_padding_changes_nothing() -> None:
    module = network(group=4)
    longer, shorter = texts()[:1], texts()[:1, :4]
    torch.testing.assert_close(module(longer), module(shorter))


def test_a_later_token_changes_the_answer() -> None:
    other = texts()
    other[1, -1] = 1 + other[1, -1] % (VOCABULARY - 1)
    before, after = network()(texts()), network()(other)
    assert (before[1] != after[1]).all()
    assert (before[[0, 2]] == after[[0, 2]]).all()


def test_a_text_without_tokens_has_an_answer_and_gradients() -> None:
    module = network()
    logits = module(torch.zeros(2, LENGTH, dtype=torch.int64))
    logits.square().sum().backward()
    assert logits.isfinite().all()
    for parameter in module.parameters():
        assert parameter.grad is not None
        assert parameter.grad.isfinite().all()
