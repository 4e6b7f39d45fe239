"""The report of ``split show``, and how it looks."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import pytest

from p2pfusion.cli.fields import rows
from p2pfusion.cli.splits import Swarm, exchanged_bytes, report
from p2pfusion.cli.windows import split_screen
from p2pfusion.methods import Member, PlanContext, build_method
from p2pfusion.split.depth import cut_in_depth
from p2pfusion.split.forms import WIRE
from p2pfusion.split.layout import Dimension, Initial, Layout, ParameterSpec
from tests.layouts import resnet18


def swarm(method: str, fractions: list[str], rounds: int = 8) -> Swarm:
    roster = tuple(
        Member(f"peer-{rank}", Fraction(text)) for rank, text in enumerate(fractions)
    )
    context = PlanContext(seed=0, rounds=rounds, layout=resnet18(), roster=roster)
    return Swarm(context, build_method(method, {}), {"peer-0": "ann"})


def test_whole_models_cost_what_the_theory_says() -> None:
    """Each element goes from 3 of 4 holders to its reducer and back to 3."""
    full = swarm("fedavg", ["1"] * 4)
    size = full.context.layout.size
    assert exchanged_bytes(full, 1) == 4 * 6 * size
    assert exchanged_bytes(full, 3) == 3 * exchanged_bytes(full, 1)
    data = report(full, 2)
    assert (data["coverage"], data["holders_mean"]) == (1.0, 4.0)
    assert data["ever_trained_fraction"] == data["ever_trained_fraction_at_end"] == 1.0
    assert data["warnings"] == []
    for peer in rows(data, "peers"):
        assert peer["parameters"] == size == data["full_model_parameters"]
        assert peer["sub_model_bytes"] == 4 * size


def test_bytes_of_the_report_are_those_of_the_plan() -> None:
    planned = swarm("msfusion", ["1/2"] * 4)
    *_, plan = planned.plans(3)
    assert plan.round_index == 2
    for peer in rows(report(planned, 2), "peers"):
        name = str(peer["peer"])
        assert peer["sent_bytes"] == 4 * plan.elements_sent(name)
        assert peer["received_bytes"] == 4 * plan.elements_received(name)


def deep(method: str, fractions: list[str]) -> Swarm:
    """A swarm with a model of six blocks, cut in depth."""
    layers = (
        ParameterSpec(f"p{n}", (Dimension(8),), Initial("zeros"), n) for n in range(8)
    )
    roster = tuple(
        Member(f"peer-{rank}", Fraction(text)) for rank, text in enumerate(fractions)
    )
    layout = cut_in_depth(Layout((), tuple(layers)))
    context = PlanContext(seed=0, rounds=4, layout=layout, roster=roster)
    return Swarm(context, build_method(method, {}), {})


def test_frozen_layers_are_shown_and_are_noise_unless_they_are_pretrained() -> None:
    planned = deep("layer-finetune", ["1/6", "1/2"])
    data = report(planned, 0)
    weak, strong = rows(data, "peers")
    assert weak["frozen"] == [f"layer {n}" for n in range(6)]
    assert strong["frozen"] == [f"layer {n}" for n in range(4)]
    assert data["ever_trained_fraction_at_end"] == 0.5
    (warning,) = data["warnings"]  # type: ignore[misc]
    assert "unless the swarm begins with a pretrained model" in warning
    screen = split_screen({**data, "method": "any", "model": "any"}, 80)
    assert screen.count("frozen") == 10
    pretrained = replace(planned, is_pretrained=True)
    assert report(pretrained, 0)["warnings"] == []


def test_half_precision_halves_the_bytes() -> None:
    planned = swarm("msfusion", ["1/2"] * 2)
    half = replace(planned, wire=WIRE["float16"])
    assert 2 * exchanged_bytes(half, 2) == exchanged_bytes(planned, 2)


@pytest.mark.parametrize(
    ("fractions", "warned"), [(["1/4"] * 3, True), (["1/4"] * 4, False)]
)
def test_windows_that_cannot_cover_an_axis_are_warned_about(
    fractions: list[str], warned: bool
) -> None:
    warnings = report(swarm("msfusion", fractions), 0)["warnings"]
    assert isinstance(warnings, list)
    axes = [text for text in warnings if text.startswith("axis ")]
    assert len(axes) == (len(resnet18().axes) if warned else 0)


def test_what_is_never_trained_is_warned_about() -> None:
    data = report(swarm("heterofl", ["1/2"] * 4), 0)
    (text,) = data["warnings"]  # type: ignore[misc]
    assert text.startswith("after all 8 rounds only ")
    at_end = data["ever_trained_fraction_at_end"]
    assert at_end == data["ever_trained_fraction"] == data["coverage"]


def test_names_are_shown_where_they_are_known() -> None:
    names = [p["name"] for p in rows(report(swarm("fedavg", ["1"] * 2), 0), "peers")]
    assert names == ["ann", "peer-1"]
