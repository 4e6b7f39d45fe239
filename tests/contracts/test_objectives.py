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
from p2pfusion.training.models.heads import PREDICTOR, PROJECTOR
from p2pfusion.training.models.units import Exiting
from p2pfusion.training.objectives import (
    OBJECTIVES,
    SELF_SUPERVISED,
    create_objective,
)
from p2pfusion.training.objectives.contrastive import Contrast
from p2pfusion.training.objectives.exits import Distillation
from p2pfusion.training.objectives.self_supervised import DEFAULTS
from tests.contracts.test_models import (
    CLASSES,
    COUNT,
    HEADS,
    LENGTH,
    PROJECTION,
    SMALL,
    STACK,
    arguments,
    full_module,
    has_heads,
    inputs,
    models,
    traits,
)
from tests.strategies import plain_data

CPU = torch.device("cpu")
COUNTS = [1] * CLASSES
LAYOUT = MODELS["vit"].layout({**STACK, **HEADS, "projection": PROJECTION})
WITH_EXITS = MODELS["vit-units"].layout(SMALL["vit-units"])

SHALLOW = "exits.0."
"""An exit that is not the last one of its model: only the objective of exits asks."""

IDLE: dict[str, tuple[str, ...]] = {
    "byol": ("projection.", "classifier."),
    "contrastive": ("heads.", SHALLOW),
    "exits": ("projection.",),
    "moco": ("projection.", "classifier."),
    "simclr": ("projection.", "classifier.", "heads.predictor."),
    "task": ("projection.", "heads.", SHALLOW),
}
"""What an objective has no use for."""

named = pytest.mark.parametrize("name", sorted(OBJECTIVES))


@models
@named
def test_every_parameter_learns_in_some_round(name: str, model: Model) -> None:
    """Two rounds on two batches; and nothing but gradients is left in the module."""
    layout = model.layout(arguments(model, PROJECTION))
    module, full = full_module(model, layout).float(), Split.full(layout)
    if name in SELF_SUPERVISED and not has_heads(module):
        with pytest.raises(ConfigError, match="needs a model with heads"):
            create_objective({"name": name}, COUNTS, CPU, layout)
        return
    if name == "exits" and not isinstance(module, Exiting):
        with pytest.raises(ConfigError, match="needs a model with exits"):
            create_objective({"name": name}, COUNTS, CPU, layout)
        return
    objective = create_objective({"name": name}, COUNTS, CPU, layout)
    beside = {"moco": 1, "byol": 1}.get(name, 0)
    random = torch.Generator().manual_seed(6)
    shape = (COUNT, LENGTH) if traits(model).task == "language" else (COUNT,)
    targets = torch.randint(CLASSES, shape, generator=random)
    if len(shape) > 1:
        targets[:, -1] = NO_ANSWER
    learned: set[str] = set()
    for round_index in range(2):
        before = {key: p.clone() for key, p in module.named_parameters()}
        frozen = objective.begin(module, full, torch.Generator())
        if name == "contrastive" and round_index:
            beside = 2
        assert frozen == (full,) * beside
        loss = objective.loss(module, inputs(model), targets)
        assert loss.shape == () and torch.isfinite(loss)
        loss.backward()
        for key, parameter in module.named_parameters():
            assert torch.equal(parameter, before[key])
            if parameter.grad is not None and parameter.grad.abs().sum() > 0:
                learned.add(key)
            parameter.grad = None
        objective.after_step(module)
        move(module, random)  # as training does
        objective.end(module, full)
        move(module, random)  # as the others do
    everything = {key for key, _ in module.named_parameters()}
    assert everything - learned == {
        key for key in everything if key.startswith(IDLE[name])
    }
    assert objective.labelled == (name not in SELF_SUPERVISED)


def move(module: nn.Module, random: torch.Generator) -> None:
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=random), alpha=0.1)


def test_both_wings_have_the_same_table() -> None:
    assert set(pure.OBJECTIVES) == set(OBJECTIVES)
    assert pure.OBJECTIVES["contrastive"] == asdict(Contrast())
    assert pure.OBJECTIVES["task"] == {}
    assert pure.OBJECTIVES["exits"] == asdict(Distillation())
    assert set(pure.SELF_SUPERVISED) == set(SELF_SUPERVISED) == set(DEFAULTS)
    for name, defaults in DEFAULTS.items():
        assert pure.OBJECTIVES[name] == defaults
    assert (pure.PROJECTOR, pure.PREDICTOR) == (PROJECTOR, PREDICTOR)


@pytest.mark.parametrize("name", SELF_SUPERVISED)
@pytest.mark.parametrize("heads", [{}, {**HEADS, "predictor": False}, HEADS])
def test_both_wings_ask_the_same_of_a_layout(
    name: str, heads: dict[str, object]
) -> None:
    layout = MODELS["vit"].layout({**STACK, **heads})
    said = [
        refusal(lambda: pure.check_objective(name, {}, layout)),
        refusal(lambda: create_objective({"name": name}, COUNTS, CPU, layout)),
    ]
    assert said[0] == said[1]
    assert bool(said[0]) == (not heads or ("predictor" in heads and name != "simclr"))


VALUES = plain_data | st.sampled_from(
    [0, 0.0, 1, 1.0, -1, 16, 17, 0.001, 0.0009, 1e3, 1001, 10**400, True, "1"]
) | st.just(float("nan"))  # fmt: skip


@named
@given(key=st.sampled_from(["weight", "temperature", "previous", "momentum", "crop",
                            "solarize", "distill_from", "per_sample", "name", "other"]),
       value=VALUES)  # fmt: skip
def test_both_wings_refuse_the_same_options(name: str, key: str, value: object) -> None:
    """The daemon founds no swarm that its trainer cannot train."""
    if key == "name":
        key, value = "previus", 1
    layout = WITH_EXITS if name == "exits" else LAYOUT
    said = [
        refusal(lambda: pure.check_objective(name, {key: value}, layout)),
        refusal(
            lambda: create_objective({"name": name, key: value}, COUNTS, CPU, layout)
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
