"""The contrastive loss against a slow one, and which sub-models it compares."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from p2pfusion.errors import ConfigError
from p2pfusion.split.layout import Layout
from p2pfusion.split.segment import Split
from p2pfusion.training.models import MODELS
from p2pfusion.training.models.projection import Projecting
from p2pfusion.training.objectives import create_objective
from p2pfusion.training.objectives.contrastive import ContrastiveObjective, contrast
from p2pfusion.training.objectives.task import TaskObjective
from tests.training.samples import change, window

CPU = torch.device("cpu")
ARGUMENTS: dict[str, object] = {"inputs": 6, "hidden": [8, 8], "classes": 3}
PROJECTED = {**ARGUMENTS, "projection": 5}
MODEL = MODELS["mlp"]
LAYOUT = MODEL.layout(PROJECTED)
COUNTS = [2, 2, 2]
FIRST, SECOND = (window(LAYOUT, start=n, cells=4) for n in (0, 3))
LABELS = torch.tensor([0, 1, 2, 0])
IMAGES = torch.randn(4, 1, 2, 3, generator=torch.Generator().manual_seed(3)).double()


def slow_contrast(own: Tensor, others: Sequence[Tensor], temperature: float) -> float:
    """Record by record and number by number."""

    def cosine(a: Sequence[float], b: Sequence[float]) -> float:
        length = math.sqrt(sum(x * x for x in a)) * math.sqrt(sum(x * x for x in b))
        return sum(x * y for x, y in zip(a, b, strict=True)) / length

    total = 0.0
    for row, record in enumerate(own.tolist()):
        terms = [
            math.exp(cosine(record, z.tolist()[row]) / temperature) for z in others
        ]
        total -= math.log(terms[0] / sum(terms))
    return total / len(own)


@st.composite
def features(draw: st.DrawFn) -> list[Tensor]:
    """Some sub-models' projected features of the same records, none of them zero."""
    records, size = draw(st.integers(1, 4)), draw(st.integers(1, 5))
    models = draw(st.integers(2, 5))
    random = torch.Generator().manual_seed(draw(st.integers(0, 1 << 30)))
    scale = draw(st.sampled_from([1e-2, 1.0, 1e3]))
    shape = (models, records, size)
    drawn = torch.randn(shape, generator=random, dtype=torch.float64)
    return list((drawn + 0.01 * drawn.sign()) * scale)


@given(features(), st.sampled_from([0.05, 0.5, 1.0, 7.0]))
def test_the_loss_is_the_slow_one(drawn: list[Tensor], temperature: float) -> None:
    own, *others = drawn
    found = contrast(own, others, temperature)
    assert found.item() == pytest.approx(slow_contrast(own, others, temperature))
    assert found.item() >= 0


@settings(max_examples=20)
@given(features())
def test_the_gradient_is_that_of_the_loss(drawn: list[Tensor]) -> None:
    own, *others = (z / z.abs().max() for z in drawn)
    own.requires_grad_()
    assert torch.autograd.gradcheck(lambda z: contrast(z, others, 0.5), (own,))


def test_features_of_zero_are_like_nothing() -> None:
    """A record at which every unit is silent: no similarity, and no gradient of NaN."""
    own = torch.zeros(2, 3, requires_grad=True)
    loss = contrast(own, [torch.ones(2, 3), -torch.ones(2, 3)], 0.5)
    assert loss.item() == pytest.approx(math.log(2))
    loss.backward()
    assert own.grad is not None and torch.isfinite(own.grad).all()


def module(split: Split, seed: int) -> Projecting:
    """A sub-model in float64 with random values."""
    built = MODEL.build(PROJECTED, split.sizes()).double()
    assert isinstance(built, Projecting)
    change(built, seed)
    return built


def objective(**options: object) -> ContrastiveObjective:
    told = {"name": "contrastive", **options}
    made = create_objective(told, COUNTS, CPU, LAYOUT)
    assert isinstance(made, ContrastiveObjective)
    return made


def features_of(split: Split, seed: int) -> Tensor:
    built = module(split, seed)
    return built.project(built.last(IMAGES)).detach()


def trained_round(made: ContrastiveObjective, split: Split, seeds: int) -> float:
    """A round that begins with the values of one seed and ends with the next one's;
    the loss just before its end."""
    built = module(split, seeds)
    made.begin(built, split, torch.Generator())
    change(built, seeds + 1)
    loss = made.loss(built, IMAGES, LABELS).item()
    made.end(built, split)
    change(built, 99)  # what becomes of the module later, such as outer momentum
    return loss


@pytest.mark.parametrize("weight", [0.1, 1.0, 5])
def test_a_round_compares_what_was_received_with_what_was_trained(
    weight: float,
) -> None:
    """On the windows of each: those of the round before were others."""
    made = objective(weight=weight, temperature=0.7)
    trained_round(made, FIRST, 10)
    found = trained_round(made, SECOND, 20)
    others = [features_of(SECOND, 20), features_of(FIRST, 11)]
    term = slow_contrast(features_of(SECOND, 21), others, 0.7)
    task = TaskObjective().loss(module(SECOND, 21), IMAGES, LABELS).item()
    assert term > 0.05
    assert found == pytest.approx(task + weight * term)


def test_the_first_round_is_the_task_alone() -> None:
    made = objective()
    built = module(FIRST, 1)
    assert made.begin(built, FIRST, torch.Generator()) == ()
    expected = TaskObjective().loss(built, IMAGES, LABELS)
    assert torch.equal(made.loss(built, IMAGES, LABELS), expected)


def test_several_past_rounds_repel() -> None:
    made = objective(previous=2)
    for number, split in enumerate((FIRST, SECOND, FIRST)):
        trained_round(made, split, 10 * number)
    built = module(SECOND, 40)
    assert made.begin(built, SECOND, torch.Generator()) == (SECOND, SECOND, FIRST)
    others = [features_of(SECOND, 40), features_of(SECOND, 11), features_of(FIRST, 21)]
    term = slow_contrast(features_of(SECOND, 40), others, 0.5)
    task = TaskObjective().loss(built, IMAGES, LABELS).item()
    assert made.loss(built, IMAGES, LABELS).item() == pytest.approx(task + term)


def test_a_round_that_failed_leaves_nothing() -> None:
    made, other = objective(), objective()
    for each in (made, other):
        trained_round(each, FIRST, 10)
    made.begin(module(FIRST, 50), FIRST, torch.Generator())  # and no end
    assert trained_round(made, SECOND, 20) == trained_round(other, SECOND, 20)


def test_without_weight_it_is_the_task() -> None:
    made = objective(weight=0)
    trained_round(made, FIRST, 10)
    built = module(SECOND, 20)
    assert made.begin(built, SECOND, torch.Generator()) == ()
    expected = TaskObjective().loss(built, IMAGES, LABELS)
    assert torch.equal(made.loss(built, IMAGES, LABELS), expected)


def test_only_the_trained_module_gets_gradients_and_absent_classes_get_none() -> None:
    told = {"name": "contrastive", "label_mask": True}
    made = create_objective(told, [2, 2, 0], CPU, LAYOUT)
    built = module(FIRST, 1)
    made.begin(built, FIRST, torch.Generator())
    made.end(built, FIRST)
    change(built, 2)
    made.begin(built, FIRST, torch.Generator())
    change(built, 3)
    made.loss(built, IMAGES, torch.tensor([0, 1, 1, 0])).backward()
    assert isinstance(made, ContrastiveObjective)
    for other in made._others:
        assert not any(p.requires_grad for p in other.module.parameters())
    assert made.absent is not None and made.absent.tolist() == [False, False, True]
    head = built.get_parameter("layers.2.weight").grad
    assert head is not None
    assert (head.abs().sum(1) > 0).tolist() == [True, True, False]
    projection = built.get_parameter("projection.weight").grad
    assert projection is not None and (projection.abs().sum(1) > 0).all()


@pytest.mark.parametrize(
    ("options", "key"),
    [
        ({"weight": -1}, "objective.weight"),
        ({"weight": "1"}, "objective.weight"),
        ({"weight": float("nan")}, "objective.weight"),
        ({"temperature": 0}, "objective.temperature"),
        ({"previous": 0}, "objective.previous"),
        ({"previous": 1.0}, "objective.previous"),
        ({"label_mask": 1}, "objective.label_mask"),
        ({"tau": 1}, "objective.tau"),
    ],
)
def test_wrong_options_name_their_key(options: dict[str, object], key: str) -> None:
    with pytest.raises(ConfigError) as caught:
        objective(**options)
    assert caught.value.message.startswith(f"{key}: ")


@pytest.mark.parametrize("layout", [Layout((), ()), MODEL.layout(ARGUMENTS)])
def test_a_model_without_a_projection_is_refused(layout: Layout) -> None:
    with pytest.raises(ConfigError, match="needs a model with a projection") as caught:
        create_objective({"name": "contrastive"}, COUNTS, CPU, layout)
    assert "argument projection" in caught.value.hint
    with pytest.raises(ConfigError, match="needs a model with a projection"):
        objective().begin(nn.Linear(2, 2), FIRST, torch.Generator())
