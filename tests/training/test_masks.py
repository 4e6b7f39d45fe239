"""Masks that are learned: what is frozen, what a gate does, which cells are found."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from p2pfusion.errors import LocalProtocolError, NonFiniteError
from p2pfusion.methods import announcing, build_method
from p2pfusion.split.depth import cut_in_depth
from p2pfusion.split.indices import IndexSet
from p2pfusion.split.layout import Axis, Layout
from p2pfusion.split.masks import decode_mask
from p2pfusion.split.segment import Split
from p2pfusion.training.data.examples import Examples
from p2pfusion.training.descent import Optimiser
from p2pfusion.training.loop import Schedule, mask_generator
from p2pfusion.training.masks import Gates, Question, freeze, gated, learn_mask
from p2pfusion.training.models import MODELS, Model
from p2pfusion.training.models.base import Width
from p2pfusion.training.submodel import build

CPU = torch.device("cpu")
UNITS: dict[str, object] = {
    **{"in_channels": 1, "image_size": 4, "patch": 2, "width": 8, "heads": 2},
    **{"layers": 2, "inner": 6, "exits": 2, "classes": 3},
}
VIT: dict[str, object] = {
    **{k: v for k, v in UNITS.items() if k != "exits"},
    "group": 4,
}
CASES = [("vit-units", UNITS), ("vit", VIT)]
both = pytest.mark.parametrize(("name", "arguments"), CASES)


def question(layout: Layout, fraction: str = "1/2", **changes: object) -> Question:
    rule = announcing(build_method("co-s2p", {}))
    assert rule is not None
    asked = rule.asks(layout, Fraction(fraction))
    return replace(Question.from_data(asked, layout), **changes)  # type: ignore[arg-type]


def layout_of(name: str, arguments: dict[str, object]) -> Layout:
    return cut_in_depth(MODELS[name].layout(arguments))


def module_of(
    model: Model, arguments: dict[str, object], layout: Layout, split: Split
) -> nn.Module:
    module = build(model, arguments, layout, split)
    random = torch.Generator().manual_seed(0)
    for parameter in module.parameters():
        parameter.data.normal_(0.0, 0.3, generator=random)
    return module


@both
def test_only_norms_positions_and_the_deepest_exit_are_trained(
    name: str, arguments: dict[str, object]
) -> None:
    layout = layout_of(name, arguments)
    module = module_of(MODELS[name], arguments, layout, Split.full(layout))
    freeze(module)
    trained = {n for n, p in module.named_parameters() if p.requires_grad}
    expected = {
        parameter.name
        for parameter in layout.parameters
        if "norm" in parameter.name
        or parameter.name.startswith(("positions", "classifier", "exits.1"))
    }
    assert trained == expected


@both
def test_open_gates_are_the_sub_model(name: str, arguments: dict[str, object]) -> None:
    """The full-width model with gates is the sub-model of the cells that are open."""
    layout, model = layout_of(name, arguments), MODELS[name]
    asked = question(layout, "1")
    asked = replace(asked, cells={a.name: 2 for a in asked.axes})
    full = module_of(model, arguments, layout, Split.full(layout)).double()
    mask = {a.name: IndexSet.cyclic(1, 2, a.cell_count) for a in asked.axes}
    sets = {
        name: layout.axis(name).cells(mask[name]) if name in mask else indices
        for name, indices in Split.full(layout).sets
    }
    split = Split.of(sets)
    small = build(model, arguments, layout, split).double()
    values = dict(full.named_parameters())
    segments = zip(layout.parameters, split.segments(layout), strict=True)
    for parameter, segment in segments:
        whole = values[parameter.name].detach().numpy()[None]
        part = torch.from_numpy(whole[np.ix_(*map(list, segment.sets))][0])
        small.get_parameter(parameter.name).data.copy_(part)
    images = torch.randn(
        5, 1, 4, 4, generator=torch.Generator().manual_seed(1)
    ).double()
    gates = {
        a.name: torch.tensor([float(c in mask[a.name]) for c in range(a.cell_count)])
        for a in asked.axes
    }
    with gated(full, asked, gates):
        found = full(images)
    torch.testing.assert_close(found, small(images))
    assert not torch.allclose(full(images), found)  # the gates are gone


def test_the_gradient_of_a_draw_is_its_chance_times_that_of_the_gate() -> None:
    axis = Axis("a", 4)
    asked = Question(Split(()), (axis,), {"a": 2}, 0.5, 1, sampled=False)
    gates = Gates(asked, torch.Generator().manual_seed(0), CPU)
    weights = torch.tensor([1.0, -2.0, 0.5, 0.0])
    drawn = gates.draw()["a"]
    assert set(drawn.tolist()) <= {0.0, 1.0}
    (drawn * weights).sum().backward()  # type: ignore[no-untyped-call]
    scores = gates.scores["a"]
    p = scores.detach().sigmoid()
    assert scores.grad is not None
    torch.testing.assert_close(scores.grad, p * weights * p * (1 - p))


def test_draws_have_their_chances() -> None:
    axis = Axis("a", 3)
    asked = Question(Split(()), (axis,), {"a": 1}, 0.5, 1, sampled=True)
    gates = Gates(asked, torch.Generator().manual_seed(0), CPU)
    chances = torch.tensor([0.9, 0.5, 0.1])
    gates.scores["a"].data.copy_(chances.logit())
    mean = torch.stack([gates.draw()["a"].detach() for _ in range(2000)]).mean(0)
    torch.testing.assert_close(mean, chances, atol=0.04, rtol=0)
    gates.scores["a"].data.fill_(-3.0)
    found = [gates.mask()["a"] for _ in range(50)]
    assert all(found) and len(set(found)) > 1


def test_the_highest_scores_are_the_mask_and_of_equals_the_first() -> None:
    axis = Axis("a", 5)
    asked = Question(Split(()), (axis,), {"a": 3}, 0.5, 1, sampled=False)
    gates = Gates(asked, torch.Generator(), CPU)
    gates.scores["a"].data.copy_(torch.tensor([0.5, 2.0, 0.5, 0.5, -1.0]))
    assert list(gates.mask()["a"]) == [0, 1, 2]


def records() -> Examples:
    """Dark and bright images, a class each."""
    images = np.zeros((60, 1, 4, 4), np.float32)
    images[::2] = 1.0
    return Examples(torch.from_numpy(images), torch.arange(60) % 2)


def learn(
    asked: Question, layout: Layout, *, rate: float = 0.01
) -> dict[str, IndexSet]:
    return learn_mask(
        module_of(MODELS["vit-units"], UNITS, layout, asked.split),
        records(),
        asked,
        **settings(asked, rate),
    )


def settings(asked: Question, rate: float = 0.01) -> dict[str, Any]:
    return {
        "optimiser": Optimiser(rule="adamw"),
        "schedule": Schedule(10, epochs=asked.epochs),
        "learning_rate": rate,
        "generator": mask_generator(3, 0),
        "device": CPU,
    }


class Votes(nn.Module):
    """Eight units that say what the brightness is; some of them the opposite."""

    def __init__(self, right: list[int]) -> None:
        super().__init__()
        self.reading = Width("a", size=8, full_size=8, scaled=False)
        self.bias = nn.Parameter(torch.zeros(2))
        self.signs = [1.0 if unit in right else -1.0 for unit in range(8)]

    def forward(self, images: Tensor) -> Tensor:
        bright = 2 * images.mean((1, 2, 3), keepdim=True).flatten(1) - 1  # (B, 1)
        votes = self.reading(bright * torch.tensor(self.signs)).sum(1, keepdim=True)
        return torch.cat([votes, -votes], 1) + self.bias


@pytest.mark.parametrize("right", [[0, 1, 2, 3], [1, 4, 6, 7]])
@pytest.mark.parametrize("sampled", [False, True])
def test_units_that_are_right_are_found(right: list[int], sampled: bool) -> None:
    axis = Axis("a", 8)
    asked = Question(Split(()), (axis,), {"a": 4}, 0.5, 30, sampled)
    found = learn_mask(Votes(right), records(), asked, **settings(asked))["a"]
    missed = len(set(right) ^ set(found))
    assert missed <= 2 if sampled else not missed


@pytest.mark.parametrize("part", [0.25, 0.75])
def test_so_many_gates_are_open_as_shall_be(part: float) -> None:
    """With nothing to learn, the second term of the loss decides."""
    axis = Axis("a", 8)
    asked = Question(Split(()), (axis,), {"a": 4}, part, 60, sampled=True)
    module = Votes([])
    module.signs = [0.0] * 8
    sizes = []
    for seed in range(8):
        how = {**settings(asked), "generator": mask_generator(seed, 0)}
        sizes.append(len(learn_mask(module, records(), asked, **how)["a"]))
    assert sum(sizes) / len(sizes) == pytest.approx(8 * part, abs=1)


def test_learning_is_the_same_in_every_run_and_keeps_the_budget() -> None:
    layout = layout_of("vit-units", UNITS)
    asked = question(layout, "1/2", epochs=4)
    first, again = learn(asked, layout), learn(asked, layout)
    assert first == again
    assert {name: len(cells) for name, cells in first.items()} == asked.cells
    assert decode_mask(asked.axes, asked.encode(first)) == first


def test_training_that_diverges_is_told() -> None:
    layout = layout_of("vit-units", UNITS)
    asked = question(layout, "1/2", epochs=30)
    with pytest.raises(NonFiniteError, match="learning a mask diverged"):
        learn(asked, layout, rate=1e30)


@pytest.mark.parametrize("lacking", ["split", "cells", "part", "epochs", "sampled"])
def test_a_question_has_all_its_parts(lacking: str) -> None:
    layout = layout_of("vit-units", UNITS)
    rule = announcing(build_method("co-s2p", {}))
    assert rule is not None
    asked = rule.asks(layout, Fraction(1, 2))
    del asked[lacking]
    with pytest.raises(LocalProtocolError, match="a mask was asked for"):
        Question.from_data(asked, layout)
