"""The objective of exits: its terms, by hand; which exits learn in which round."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from p2pfusion.errors import ConfigError
from p2pfusion.protocol import objectives as pure
from p2pfusion.split.segment import Split
from p2pfusion.training.cost import step_cost, training_flops
from p2pfusion.training.models import MODELS
from p2pfusion.training.models.units import FIRST_EXIT, Exiting
from p2pfusion.training.objectives import OBJECTIVES, Dated, create_objective
from p2pfusion.training.objectives.exits import (
    Distillation,
    ExitsObjective,
    distillation,
)
from tests.training.test_masks import CPU, UNITS, records

MODEL = MODELS["vit-units"]
LAYOUT = MODEL.layout(UNITS)
FULL = Split.full(LAYOUT)


class Given(Exiting):
    """Answers what it was given."""

    def __init__(self, *logits: Tensor) -> None:
        super().__init__()
        self.given = nn.ParameterList(nn.Parameter(each) for each in logits)

    def answers(self, inputs: Tensor) -> list[Tensor]:
        return list(self.given)


def softmax(values: np.ndarray) -> np.ndarray:
    powers = np.exp(values - values.max(1, keepdims=True))
    result: np.ndarray = powers / powers.sum(1, keepdims=True)
    return result


def by_hand(
    logits: list[np.ndarray], targets: np.ndarray, weight: float, *, per_sample: bool
) -> float:
    """The equation, with loops over exits, records and classes."""
    rows, classes = logits[0].shape
    total = 0.0
    for values in logits:
        chances = softmax(values)
        total += -sum(np.log(chances[n, targets[n]]) for n in range(rows)) / rows
    teacher = softmax(logits[-1] / 3)
    for values in logits[:-1]:
        student, divergence = softmax(values / 3), 0.0
        for n in range(rows):
            for c in range(classes):
                quotient = np.log(teacher[n, c] / student[n, c])
                divergence += teacher[n, c] * quotient
        divergence /= rows if per_sample else rows * classes
        total += weight * 9 * divergence
    return total


@pytest.mark.parametrize("per_sample", [False, True])
@pytest.mark.parametrize(("round_index", "weight"), [(9, 0.0), (10, 0.5), (11, 0.5)])
def test_the_loss_is_that_of_the_equation(
    round_index: int, weight: float, per_sample: bool
) -> None:
    random = np.random.default_rng(1)
    logits = [random.normal(size=(6, 4)) for _ in range(3)]
    targets = random.integers(0, 4, 6)
    module = Given(*map(torch.from_numpy, logits))
    options = {"name": "exits", "per_sample": per_sample}
    layout = MODEL.layout(UNITS)
    objective = create_objective(options, [1] * 4, CPU, layout)
    assert isinstance(objective, Dated)
    objective.at(round_index)
    assert objective.begin(module, FULL, torch.Generator()) == ()
    loss = objective.loss(module, torch.zeros(6, 1), torch.from_numpy(targets))
    expected = by_hand(logits, targets, weight, per_sample=per_sample)
    assert loss.item() == pytest.approx(expected, rel=1e-6)


def test_the_teacher_learns_nothing_from_its_pupils() -> None:
    random = torch.Generator().manual_seed(0)
    logits = [torch.randn(5, 3, generator=random) for _ in range(2)]
    gradients = []
    for distill_from in (0, 99):
        module = Given(*logits)
        objective = ExitsObjective.create(
            {"distill_from": distill_from}, [1] * 3, CPU, LAYOUT
        )
        loss = objective.loss(module, torch.zeros(5), torch.arange(5) % 3)
        loss.backward()  # type: ignore[no-untyped-call]
        gradients.append([each.grad for each in module.given])
    (shallow, deepest), (alone, deepest_alone) = gradients
    assert torch.equal(deepest, deepest_alone)
    assert not torch.allclose(shallow, alone)


def test_equal_answers_teach_nothing() -> None:
    logits = torch.tensor([[1.0, 2.0, 4.0]])
    assert distillation(logits, logits, Distillation()).item() == pytest.approx(
        0, abs=1e-6
    )


def test_a_model_without_exits_is_refused_by_both_wings() -> None:
    layout = MODELS["mlp"].layout({})
    with pytest.raises(ConfigError, match="needs a model with exits") as one:
        create_objective({"name": "exits"}, [1] * 3, CPU, layout)
    with pytest.raises(ConfigError, match="needs a model with exits") as other:
        pure.check_objective("exits", {}, layout)
    assert one.value.message == other.value.message
    pure.check_objective("exits", {}, LAYOUT)
    assert pure.FIRST_EXIT == FIRST_EXIT
    assert "exits" in OBJECTIVES


@pytest.mark.parametrize(
    "options",
    [
        {"per_sample": 1},
        {"distill_from": -1},
        {"distill_from": True},
        {"temperature": 0.0},
        {"weight": -1.0},
    ],
)
def test_wrong_options_are_refused_by_both_wings(options: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match=next(iter(options))):
        create_objective({"name": "exits", **options}, [1] * 3, CPU, LAYOUT)
    with pytest.raises(ConfigError, match=next(iter(options))):
        pure.check_objective("exits", options, LAYOUT)


def test_every_exit_is_counted() -> None:
    """An exit costs its classifier, forwards and twice that backwards."""
    found = records()
    images, _ = found.batch(torch.arange(10), CPU)
    module = MODEL.build(UNITS, FULL.sizes())
    task = step_cost("vit-units", UNITS, LAYOUT, FULL, found, 10)
    exits = step_cost("vit-units", UNITS, LAYOUT, FULL, found, 10, objective="exits")
    assert task.flops_per_example == training_flops(module, images) // 10
    assert exits.flops_per_example - task.flops_per_example == 3 * 2 * 8 * 3
    assert exits.activation_bytes > task.activation_bytes
