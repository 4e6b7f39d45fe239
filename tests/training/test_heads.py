"""Projector and predictor: their layout, and what they compute."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from p2pfusion.errors import ConfigError
from p2pfusion.split.segment import Split
from p2pfusion.training.models import MODELS
from p2pfusion.training.models.heads import Embedding
from tests.training.samples import VIT_BODY

MODEL = MODELS["vit"]
HIDDEN, OUTPUT = 5, 3
HEADS: Mapping[str, object] = {**VIT_BODY, "head_hidden": HIDDEN, "head_output": OUTPUT}


def test_without_heads_the_layout_is_what_it_was() -> None:
    plain = MODEL.layout(VIT_BODY)
    none = MODEL.layout({**VIT_BODY, "head_hidden": 0, "head_output": 0})
    alone = MODEL.layout({**VIT_BODY, "predictor": False})
    assert plain.digest == none.digest == alone.digest
    assert not any(p.name.startswith("heads.") for p in plain.parameters)


def test_only_the_first_matrix_is_cut() -> None:
    layout = MODEL.layout({**HEADS, "projection": 2})
    plain = MODEL.layout({**VIT_BODY, "projection": 2})
    count = len(plain.parameters)
    assert layout.parameters[:count] == plain.parameters
    heads = layout.parameters[count:]
    assert [(p.name.removeprefix("heads."), p.shape) for p in heads] == [
        ("projector.layers.0.weight", (HIDDEN, 8)),
        ("projector.layers.1.weight", (HIDDEN, HIDDEN)),
        ("projector.layers.2.weight", (OUTPUT, HIDDEN)),
        ("projector.norms.0.weight", (HIDDEN,)),
        ("projector.norms.0.bias", (HIDDEN,)),
        ("projector.norms.1.weight", (HIDDEN,)),
        ("projector.norms.1.bias", (HIDDEN,)),
        ("predictor.layers.0.weight", (HIDDEN, OUTPUT)),
        ("predictor.layers.1.weight", (OUTPUT, HIDDEN)),
        ("predictor.norms.0.weight", (HIDDEN,)),
        ("predictor.norms.0.bias", (HIDDEN,)),
    ]
    axes = [[d.axis for d in p.dimensions if d.axis is not None] for p in heads]
    assert axes == [["stream"], *[[]] * (len(heads) - 1)]
    assert {p.layer for p in heads} == {plain.parameters[-1].layer} == {3}


def module(arguments: Mapping[str, object]) -> Embedding:
    built = MODEL.build(arguments, Split.full(MODEL.layout(arguments)).sizes())
    assert isinstance(built, Embedding)
    random = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for parameter in built.double().parameters():
            parameter.normal_(0.0, 0.5, generator=random)
    return built


def test_values_are_those_of_layers_written_out() -> None:
    built = module(HEADS)
    last = torch.randn(6, 8, generator=torch.Generator().manual_seed(3)).double()

    def inner(values: Tensor, head: str, number: int) -> Tensor:
        weight = built.get_parameter(f"heads.{head}.layers.{number}.weight")
        values = values @ weight.T
        means = values.mean(1, keepdim=True)
        variances = values.var(1, correction=0, keepdim=True)
        normal = (values - means) / (variances + 1e-5).sqrt()
        scale, shift = (
            built.get_parameter(f"heads.{head}.norms.{number}.{what}")
            for what in ("weight", "bias")
        )
        return functional.relu(normal * scale + shift)

    values = inner(inner(last, "projector", 0), "projector", 1)
    embedded = values @ built.get_parameter("heads.projector.layers.2.weight").T
    torch.testing.assert_close(built.embed(last), embedded)
    foretold = inner(embedded, "predictor", 0)
    foretold = foretold @ built.get_parameter("heads.predictor.layers.1.weight").T
    torch.testing.assert_close(built.predict(embedded), foretold)


def test_a_model_with_heads_answers_as_without() -> None:
    images = torch.randn(3, 1, 4, 4, generator=torch.Generator().manual_seed(4))
    torch.testing.assert_close(
        module(HEADS)(images.double()), module(VIT_BODY)(images.double())
    )


def test_the_predictor_can_be_left_out() -> None:
    built = module({**HEADS, "predictor": False})
    assert built.heads is not None and not built.predicts
    assert module(HEADS).predicts and not module(VIT_BODY).predicts


@pytest.mark.parametrize(
    ("arguments", "key"),
    [
        ({"head_hidden": 4}, "head_output"),
        ({"head_output": 4}, "head_hidden"),
        ({"head_hidden": -1, "head_output": 4}, "head_hidden"),
        ({"head_hidden": 4, "head_output": True}, "head_output"),
        ({"head_hidden": 1 << 20, "head_output": 4}, "head_hidden"),
        ({"predictor": 1}, "predictor"),
    ],
)
def test_wrong_arguments_are_named(arguments: dict[str, object], key: str) -> None:
    with pytest.raises(ConfigError, match=f"'{key}'"):
        MODEL.layout({**VIT_BODY, **arguments})
