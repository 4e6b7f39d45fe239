"""Modules of torch alone: axes, sub-models, what is held, what is refused."""

from __future__ import annotations

from functools import cache

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from p2pfusion.errors import ConfigError
from p2pfusion.split.indices import IndexSet
from p2pfusion.split.layout import Layout
from p2pfusion.split.segment import Split
from p2pfusion.training.models.base import place
from p2pfusion.training.tracing import Trace, trace
from p2pfusion.training.tracing.checking import filled
from tests.training.tracing.modules import CASES, CLASSES, Attention, images, tokens
from tests.training.tracing.silence import (
    assert_silenced,
    cut,
    factors,
    randomise,
    values_of,
)

every_case = pytest.mark.parametrize("name", CASES)


@cache
def traced(name: str) -> tuple[nn.Module, Tensor, Trace]:
    """Traced once: it is what takes time."""
    torch.manual_seed(1)
    module, records = CASES[name].make(), CASES[name].records()
    randomise(module)
    return module, records, trace(module, records)


@st.composite
def splits(draw: st.DrawFn, layout: Layout) -> Split:
    """Any non-empty set of cells on every axis."""
    sets = {}
    for axis in layout.axes:
        cells = draw(st.sets(st.integers(0, axis.cell_count - 1), min_size=1))
        sets[axis.name] = axis.cells(IndexSet.from_indices(cells))
    return Split.of(sets)


@every_case
def test_every_width_is_found(name: str) -> None:
    module, _, found = traced(name)
    assert tuple(sorted(axis.size for axis in found.layout.axes)) == CASES[name].axes
    assert {p.name for p in found.layout.parameters} >= {
        name for name, _ in module.named_parameters()
    }
    assert Layout.from_data(found.layout.to_data()) == found.layout


@every_case
def test_layers_count_from_the_input(name: str) -> None:
    layers = traced(name)[2].layout.layers
    assert layers == tuple(range(len(layers)))


@every_case
@settings(max_examples=15, deadline=None)
@given(data=st.data(), training=st.booleans())
def test_a_sub_model_computes_the_silenced_module(
    name: str, data: st.DataObject, training: bool
) -> None:
    module, records, found = traced(name)
    split = data.draw(splits(found.layout))
    assert_silenced(module, found, split, records, training=training)


@every_case
def test_the_sub_modules_parameters_are_those_of_the_layout(name: str) -> None:
    found = traced(name)[2]
    full = found.build(Split.full(found.layout).sizes())
    assert [(n, tuple(p.shape)) for n, p in full.named_parameters()] == [
        (p.name, p.shape) for p in found.layout.parameters
    ]
    assert not factors(full), "nothing lacks in the whole model"
    assert not full.state_dict().keys() - {p.name for p in found.layout.parameters}


@pytest.mark.parametrize("name", ["perceptron", "encoder"])
def test_sums_of_a_part_keep_their_scale(name: str) -> None:
    """With the factors, half of a model whose two halves are the same computes what
    the whole one does: each sum lacks one of two equal parts."""
    module, records, found = traced(name)
    layout = found.layout
    split = Split.of({a.name: IndexSet.span(0, a.size // 2) for a in layout.axes})
    values = values_of(module, layout)
    small = found.build(split.sizes()).double().eval()
    place(small, split)
    parts = dict(small.named_parameters())
    full = found.build(Split.full(layout).sizes()).double().eval()
    with torch.no_grad():
        for index, (name_, whole) in enumerate(full.named_parameters()):
            spec = layout.parameters[index]
            twice = values[name_].double()
            for dim, d in enumerate(spec.dimensions):
                if d.axis is not None:
                    size = layout.axis(d.axis).size * d.inner
                    at = torch.arange(d.size)
                    first = at // size * size + at % size % (size // 2)
                    twice = twice.index_select(dim, first)
            whole.copy_(twice.reshape(whole.shape))
            parts[name_].copy_(cut(twice, layout, split, name_))
    exact = records.double() if records.is_floating_point() else records
    torch.testing.assert_close(small(exact), full(exact))


def test_running_statistics_travel_and_are_updated() -> None:
    module, records, found = traced("residual")
    assert found.statistics == {"norm.running_mean", "norm.running_var"}
    whole = Split.full(found.layout)
    values = values_of(module, found.layout)
    network = filled(found.build, found.layout, whole, values).train()
    before = network.get_parameter("norm.running_mean").clone()
    network(records)
    assert not torch.equal(network.get_parameter("norm.running_mean"), before)
    assert not network.get_parameter("norm.running_mean").requires_grad


def test_a_variance_below_zero_counts_as_zero() -> None:
    _, records, found = traced("residual")
    network = found.build(Split.full(found.layout).sizes()).eval()
    with torch.no_grad():
        network.get_parameter("norm.running_var").fill_(-1.0)
    assert torch.isfinite(network(records)).all()


def test_tied_weights_are_one_parameter() -> None:
    names = [p.name for p in traced("attention")[2].layout.parameters]
    assert "table.weight" in names and "head.weight" not in names


def test_dropout_works_in_training_and_not_elsewhere() -> None:
    module = nn.Sequential(nn.Flatten(), nn.Dropout(0.5), nn.Linear(64, CLASSES))
    network = trace(module, images()).build({})
    with torch.no_grad():
        network.get_parameter("2.weight").fill_(1.0)
    records = torch.ones(64, 1, 8, 8)
    assert network.train()(records).std() > 0
    assert network.eval()(records).std() == 0


def test_what_is_held_is_named_with_the_reason() -> None:
    held = {str(each) for each in traced("attention")[2].held}
    assert held == {"table.weight, dimension 0: its rows are looked up by number"}


class Unknown(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(64, 12)
        self.head = nn.Linear(12, CLASSES)

    def forward(self, images: Tensor) -> Tensor:
        return self.head(torch.sort(self.first(images.flatten(1)))[0])


def test_what_no_rule_knows_is_held_by_name() -> None:
    found = trace(Unknown(), images())
    assert not found.layout.axes
    reasons = {each.reason for each in found.held if each.parameter == "first.weight"}
    assert "the operator sort is not known to be one that can be cut" in reasons


class Hinted(Attention):
    layout_hints = {"whole": ["qkv.*"]}  # noqa: RUF012


def test_hints_hold_what_they_name() -> None:
    found = trace(Hinted(), tokens())
    assert not found.layout.axes or all(
        "qkv" not in axis.name for axis in found.layout.axes
    )
    assert any(each.reason == "layout_hints says so" for each in found.held)


@pytest.mark.parametrize("hints", [{"units": 2}, {"whole": ["none.*"]}, 3])
def test_hints_that_mean_nothing_are_refused(hints: object) -> None:
    module = Attention()
    module.layout_hints = hints  # type: ignore[assignment]
    with pytest.raises(ConfigError, match="layout_hints"):
        trace(module, tokens())


class Branching(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(64, CLASSES)

    def forward(self, images: Tensor) -> Tensor:
        flat = images.flatten(1)
        return self.head(flat) if flat.sum() > 0 else self.head(-flat)


class Filtering(Branching):
    def forward(self, images: Tensor) -> Tensor:
        flat = images.flatten(1)
        return self.head(flat)[flat.sum(1) > 0]


class Pair(Branching):
    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:  # type: ignore[override]
        return images, images


class Counting(Branching):
    def forward(self, images: Tensor) -> Tensor:
        return self.head(images.flatten(1)) / len(images)


class Mixing(Branching):
    def forward(self, images: Tensor) -> Tensor:
        return self.head(images.flatten(1)).reshape(CLASSES, -1).t()


class Remembering(Branching):
    seen: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("seen", torch.zeros(64))

    def forward(self, images: Tensor) -> Tensor:
        self.seen += images.flatten(1).mean(0)
        return self.head(images.flatten(1) - self.seen)


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (Branching, "cannot be traced"),
        (Filtering, "cannot be traced"),
        (Pair, "gives tuple, where a tensor"),
        (Counting, "batch of another size"),
        (Mixing, "mixes the batch"),
        (Remembering, "training changes seen"),
        (lambda: nn.Linear(3, 2), "fails on records of shape"),
        (lambda: Branching().double(), "float64"),
    ],
)
def test_what_cannot_be_traced_is_refused_in_one_line(make: object, text: str) -> None:
    assert callable(make)
    with pytest.raises(ConfigError, match=text) as caught:
        trace(make(), images())
    assert "\n" not in caught.value.message and caught.value.hint
