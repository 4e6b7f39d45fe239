"""Our descent steps equal those of torch's optimiser."""

from __future__ import annotations

from dataclasses import replace
from math import sqrt

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from p2pfusion.errors import ConfigError
from p2pfusion.training.descent import RULES, SQUARES_DECAY, Descent, Optimiser


def network() -> nn.Module:
    torch.manual_seed(3)
    return nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 2))


@given(
    rule=st.sampled_from(RULES),
    momentum=st.sampled_from([0.0, 0.5, 0.9]),
    weight_decay=st.sampled_from([0.0, 0.01]),
    clip=st.sampled_from([None, 0.0, 0.1, 100.0]),
)
def test_steps_equal_those_of_torch(
    rule: str, momentum: float, weight_decay: float, clip: float | None
) -> None:
    ours, theirs = network(), network()
    settings = Optimiser(momentum, weight_decay, clip, rule)
    descent = Descent(list(ours.parameters()), settings)
    reference = reference_of(rule, theirs, momentum, weight_decay)
    for step in range(4):
        rate = 0.1 / (step + 1)
        images = torch.randn(3, 4, generator=torch.Generator().manual_seed(step))
        for module in (ours, theirs):
            module(images).square().sum().backward()
        descent.step(rate)
        if clip:
            nn.utils.clip_grad_norm_(theirs.parameters(), clip)
        reference.param_groups[0]["lr"] = rate
        reference.step()
        reference.zero_grad()
    for one, other in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(one, other)


def reference_of(
    rule: str, module: nn.Module, momentum: float, weight_decay: float
) -> torch.optim.Optimizer:
    """Torch's own."""
    parameters = module.parameters()
    if rule == "adamw":
        betas = (momentum, SQUARES_DECAY)
        return torch.optim.AdamW(parameters, betas=betas, weight_decay=weight_decay)
    return torch.optim.SGD(
        parameters, lr=1.0, momentum=momentum, weight_decay=weight_decay
    )


@given(
    rule=st.sampled_from(RULES),
    proximal=st.sampled_from([0.01, 0.5, 2.0]),
    clip=st.sampled_from([None, 0.1, 100.0]),
)
def test_the_proximal_term_is_part_of_the_loss(
    rule: str, proximal: float, clip: float | None
) -> None:
    """Against one that is written out, and left to autograd."""
    ours, theirs = network(), network()
    begun = [each.detach().clone() for each in theirs.parameters()]
    settings = Optimiser(0.9, 0.01, clip, rule)
    descent = Descent(list(ours.parameters()), replace(settings, proximal=proximal))
    reference = Descent(list(theirs.parameters()), settings)
    for step in range(4):
        images = torch.randn(3, 4, generator=torch.Generator().manual_seed(step))
        ours(images).square().sum().backward()
        pairs = zip(theirs.parameters(), begun, strict=True)
        distance = sum((w - w0).square().sum() for w, w0 in pairs)
        (theirs(images).square().sum() + proximal / 2 * distance).backward()
        descent.step(0.1)
        reference.step(0.1)
    for one, other in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize("rule", RULES)
def test_a_strong_proximal_term_holds_everything_where_it_began(rule: str) -> None:
    """With mu times the rate at 1, a step undoes what the steps before it did."""
    rate, steps = 0.001, 50

    def moved(proximal: float) -> float:
        module = network()
        begun = [each.detach().clone() for each in module.parameters()]
        settings = Optimiser(0.0, 0.0, None, rule, proximal)
        descent = Descent(list(module.parameters()), settings)
        for _ in range(steps):
            module(torch.ones(3, 4)).square().sum().backward()
            descent.step(rate)
        pairs = zip(module.parameters(), begun, strict=True)
        return max(float((w - w0).abs().max().detach()) for w, w0 in pairs)

    assert moved(1 / rate) < 0.1 * moved(0.0)


@given(
    rule=st.sampled_from(RULES),
    relative=st.sampled_from([0.001, 0.1, 10.0]),
    clip=st.sampled_from([None, 0.1]),
)
def test_each_gradient_is_bounded_by_its_parameter(
    rule: str, relative: float, clip: float | None
) -> None:
    """Against gradients that were scaled one by one, as the paper's equation says."""
    ours, theirs = network(), network()
    settings = Optimiser(0.9, 0.01, clip, rule)
    descent = Descent(
        list(ours.parameters()), replace(settings, clip_relative=relative)
    )
    reference = Descent(list(theirs.parameters()), settings)
    with torch.no_grad():
        for module in (ours, theirs):
            next(module.parameters()).zero_()  # must move all the same
    for step in range(4):
        images = torch.randn(3, 4, generator=torch.Generator().manual_seed(step))
        for module in (ours, theirs):
            module(images).square().sum().backward()
        for parameter in theirs.parameters():
            assert parameter.grad is not None
            size = sqrt(float(parameter.detach().square().sum()))
            size = max(size, 1e-3 * sqrt(parameter.numel()))
            length = sqrt(float(parameter.grad.square().sum()))
            if length > relative * size:
                parameter.grad *= relative * size / length
        descent.step(0.1)
        reference.step(0.1)
    for one, other in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)
    assert bool(next(ours.parameters()).any())


def test_a_parameter_without_gradient_only_decays() -> None:
    parameter = nn.Parameter(torch.ones(2))
    Descent([parameter], Optimiser(0.0, 0.5, None)).step(0.1)
    assert parameter.tolist() == pytest.approx([0.95, 0.95])


def test_gradients_are_forgotten() -> None:
    module = network()
    descent = Descent(list(module.parameters()), Optimiser())
    module(torch.ones(1, 4)).sum().backward()
    descent.step(0.1)
    assert all(parameter.grad is None for parameter in module.parameters())


@pytest.mark.parametrize(
    ("data", "key"),
    [
        ({"momentum": 1.0}, "momentum"),
        ({"momentum": -0.1}, "momentum"),
        ({"weight_decay": "none"}, "weight_decay"),
        ({"clip": float("nan")}, "clip"),
        ({"rule": "lion"}, "rule"),
        ({"proximal": -1}, "proximal"),
        ({"proximal": "near"}, "proximal"),
        ({"nesterov": True}, "nesterov"),
    ],
)
def test_wrong_settings_name_their_key(data: dict[str, object], key: str) -> None:
    with pytest.raises(ConfigError, match=rf"^optimiser\.{key}: "):
        Optimiser.from_data(data)


def test_settings_from_plain_data() -> None:
    data = {"momentum": 0.5, "weight_decay": 1e-4, "clip": None}
    assert Optimiser.from_data(data) == Optimiser(0.5, 1e-4, None)
    assert Optimiser.from_data({}) == Optimiser()
