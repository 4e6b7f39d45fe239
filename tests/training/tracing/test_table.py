"""Tracing the models of the table finds the widths that their layouts name by hand, and
not all that these say: what keeps the layouts by hand is counted."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
from torch import Tensor

from p2pfusion.split.layout import Axis, Dimension, Layout
from p2pfusion.split.segment import Split
from p2pfusion.training.models import MODELS, settle
from p2pfusion.training.tracing import trace

DECISION = Path(__file__).parents[3] / "docs" / "decisions" / "0017-traced-models.md"

SAME = ("cnn", "mlp", "resnet18", "transformer", "transformer-classifier", "vit")


def records(arguments: dict[str, object]) -> Tensor:
    if "vocabulary" in arguments:
        return torch.randint(int(str(arguments["vocabulary"])), (3, _of(arguments)))
    channels, size = arguments.get("in_channels", 1), arguments.get("image_size", 8)
    return torch.randn(3, int(str(channels)), int(str(size)), int(str(size)))


def _of(arguments: dict[str, object]) -> int:
    return int(str(arguments["length"]))


def made_of(layout: Layout) -> dict[str, list[tuple[int, int, int, str | None]]]:
    """What each dimension is made of: copies, units that can be told apart, what is
    never taken apart, and the axis."""
    axes = {axis.name: axis for axis in layout.axes}
    return {
        parameter.name: [_parts(each, axes) for each in parameter.dimensions]
        for parameter in layout.parameters
    }


def _parts(
    dimension: Dimension, axes: dict[str, Axis]
) -> tuple[int, int, int, str | None]:
    if dimension.axis is None:
        return 1, 1, dimension.size, None
    axis = axes[dimension.axis]
    units = axis.size // axis.unit
    return dimension.outer, units, dimension.inner * axis.unit, dimension.axis


def both(name: str) -> tuple[Layout, Layout]:
    """The layout of a model with its usual arguments, by hand and traced."""
    model = MODELS[name]
    arguments = settle(model, {})
    layout = model.layout(arguments)
    module = model.build(arguments, Split.full(layout).sizes())
    return layout, trace(module, records(arguments)).layout


@pytest.mark.parametrize("name", SAME)
def test_both_cut_the_same(name: str) -> None:
    by_hand, traced = map(made_of, both(name))
    assert list(traced) == list(by_hand)
    names: dict[str | None, str | None] = {}
    for parameter, dimensions in by_hand.items():
        for mine, found in zip(dimensions, traced[parameter], strict=True):
            assert mine[:3] == found[:3], parameter
            assert names.setdefault(mine[3], found[3]) == found[3], parameter
    assert len(set(names.values())) == len(names), "axes are not mixed up"


def _told(name: str) -> tuple[str, str, str, str]:
    """What the decision says of a model: order, units, initial values, digest."""
    row = re.search(rf"^\| `{name}` \| (.*) \|$", DECISION.read_text(), re.M)
    assert row is not None, name
    order, units, initial, digest, *_ = row[1].split(" | ")
    return order, units, initial, digest


def _said(same: bool) -> str:
    return "same" if same else "other"


@pytest.mark.parametrize("name", SAME)
def test_what_tracing_does_not_find_is_what_the_decision_says(name: str) -> None:
    """Whoever makes it find more learns here that a layout by hand can go."""
    by_hand, traced = both(name)
    pairs = list(zip(by_hand.parameters, traced.parameters, strict=True))
    agree = sum(mine.initial == found.initial for mine, found in pairs)
    assert _told(name) == (
        _said(all(mine.name == found.name for mine, found in pairs)),
        _said(_widths(by_hand) == _widths(traced)),
        f"{agree} of {len(pairs)}",
        _said(by_hand.digest == traced.digest),
    )


def _widths(layout: Layout) -> list[tuple[int, int]]:
    return sorted((axis.size, axis.unit) for axis in layout.axes)
