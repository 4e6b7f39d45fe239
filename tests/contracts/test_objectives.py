"""What the engine expects of every objective, on every model; and that both wings, of
which one has no torch, know the same objectives with the same options."""

from __future__ import annotations

from dataclasses import asdict

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from p2pfusion.errors import ConfigError
from p2pfusion.protocol import objectives as pure
from p2pfusion.split.segment import Split
from p2pfusion.training.data.records import NO_ANSWER
from p2pfusion.training.models import MODELS, Model
from p2pfusion.training.objectives import OBJECTIVES, create_objective
from p2pfusion.training.objectives.contrastive import Contrast
from tests.contracts.test_models import (
    CLASSES,
    COUNT,
    LENGTH,
    PROJECTION,
    arguments,
    full_module,
    inputs,
    models,
    traits,
)
from tests.strategies import plain_data

CPU = torch.device("cpu")
COUNTS = [1] * CLASSES
LAYOUT = MODELS["mlp"].layout({"hidden": [4], "projection": 3})

named = pytest.mark.parametrize("name", sorted(OBJECTIVES))


@models
@named
def test_every_parameter_learns_in_some_round(name: str, model: Model) -> None:
    """Two rounds on two batches; and nothing but gradients is left in the module."""
    layout = model.layout(arguments(model, PROJECTION))
    module, full = full_module(model, layout).float(), Split.full(layout)
    objective = create_objective({"name": name}, COUNTS, CPU, layout)
    random = torch.Generator().manual_seed(6)
    shape = (COUNT, LENGTH) if traits(model).task == "language" else (COUNT,)
    targets = torch.randint(CLASSES, shape, generator=random)
    if len(shape) > 1:
        targets[:, -1] = NO_ANSWER
    learned: set[str] = set()
    for round_index in range(2):
        before = {key: p.clone() for key, p in module.named_parameters()}
        frozen = objective.begin(module, full)
        assert frozen == ((full, full) if round_index and name != "task" else ())
        loss = objective.loss(module, inputs(model), targets)
        assert loss.shape == () and torch.isfinite(loss)
        loss.backward()
        for key, parameter in module.named_parameters():
            assert torch.equal(parameter, before[key])
            if parameter.grad is not None and parameter.grad.abs().sum() > 0:
                learned.add(key)
            parameter.grad = None
        move(module, random)  # as training does
        objective.end(module, full)
        move(module, random)  # as the others do
    missing = {key for key, _ in module.named_parameters()} - learned
    assert missing == (set() if name != "task" else {"projection.weight"})


def move(module: nn.Module, random: torch.Generator) -> None:
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=random), alpha=0.1)


def test_both_wings_have_the_same_table() -> None:
    assert set(pure.OBJECTIVES) == set(OBJECTIVES)
    assert pure.OBJECTIVES["contrastive"] == asdict(Contrast())
    assert pure.OBJECTIVES["task"] == {}


VALUES = plain_data | st.sampled_from(
    [0, 0.0, 1, 1.0, -1, 16, 17, 0.001, 0.0009, 1e3, 1001, 10**400, True, "1"]
) | st.just(float("nan"))  # fmt: skip


@named
@given(key=st.sampled_from(["weight", "temperature", "previous", "name", "other"]),
       value=VALUES)  # fmt: skip
def test_both_wings_refuse_the_same_options(name: str, key: str, value: object) -> None:
    """The daemon founds no swarm that its trainer cannot train."""
    if key == "name":
        key, value = "previus", 1
    said = [
        refusal(lambda: pure.check_objective(name, {key: value}, LAYOUT)),
        refusal(
            lambda: create_objective({"name": name, key: value}, COUNTS, CPU, LAYOUT)
        ),
    ]
    assert bool(said[0]) == bool(said[1]), said
    for text in filter(None, said):
        assert key in text


def refusal(check: object) -> str:
    try:
        check()  # type: ignore[operator]
    except ConfigError as error:
        return error.message
    return ""
