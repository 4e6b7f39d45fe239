"""Depth dropout: which blocks are left out, and what a network is without them."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from itertools import product

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from p2pfusion.split.segment import Split
from p2pfusion.training.cost import Meter, step_cost
from p2pfusion.training.models import MODELS
from p2pfusion.training.models.skipping import DepthDropout, Skippable
from tests.training.samples import VIT_BODY, change
from tests.training.test_cost import images

TEXT: Mapping[str, object] = {
    **{"width": 8, "heads": 2, "layers": 3, "inner": 6, "group": 4},
    **{"vocabulary": 11, "length": 5},
}
DEEP: Mapping[str, Mapping[str, object]] = {
    "vit": {**VIT_BODY, "layers": 3},
    "vit-units": {
        **{k: v for k, v in VIT_BODY.items() if k != "group"},
        **{"layers": 3, "exits": 1},
    },
    "transformer": {**TEXT, "classes": 11},
    "transformer-classifier": {**TEXT, "classes": 3},
}
FROZEN = (0, 2)


def network(name: str = "vit") -> nn.Module:
    """Three blocks, of which the first and the last are not trained."""
    model = MODELS[name]
    sizes = Split.full(model.layout(DEEP[name])).sizes()
    module = model.build(DEEP[name], sizes)
    change(module, 1)
    for number in FROZEN:
        block(module, number).requires_grad_(False)
    return module


def block(module: nn.Module, number: int) -> Skippable:
    found = module.get_submodule(f"blocks.{number}")
    assert isinstance(found, Skippable)
    return found


def inputs(name: str) -> Tensor:
    random = torch.Generator().manual_seed(3)
    if name.startswith("vit"):
        return torch.rand(4, 1, 4, 4, generator=random)
    return torch.randint(1, 11, (4, 5), generator=random)


def stream(seed: int = 7) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def silenced(module: nn.Module, numbers: tuple[int, ...]) -> nn.Module:
    """The same network, in which these blocks add nothing to the stream."""
    other = copy.deepcopy(module)
    for number in numbers:
        for key, parameter in block(other, number).named_parameters():
            if "out." in key or "down." in key:
                parameter.data.zero_()
    return other


@pytest.mark.parametrize("name", DEEP)
def test_a_network_without_blocks_is_one_whose_blocks_add_nothing(name: str) -> None:
    module, given = network(name), inputs(name)
    whole = module(given)
    without = silenced(module, FROZEN)(given)
    dropout = DepthDropout(module, 0.5, stream())
    assert dropout.count == 2
    assert torch.equal(module(given), whole)  # nothing is drawn yet
    dropout.leave_out_all()
    left = module(given)
    torch.testing.assert_close(left, without)
    assert not torch.allclose(left, whole)
    module.eval()
    assert torch.equal(module(given), whole)
    module.train()
    dropout.end()
    assert torch.equal(module(given), whole)


def test_each_block_is_left_out_with_its_chance_and_by_itself() -> None:
    module, steps = network(), 2000
    dropout = DepthDropout(module, 0.3, stream())
    counts = {both: 0 for both in product((False, True), repeat=2)}
    for _ in range(steps):
        dropout.draw()
        counts[tuple(block(module, n).is_skipped for n in FROZEN)] += 1  # type: ignore[index]
        assert not block(module, 1).is_skipped
    for (first, second), count in counts.items():
        expected = (0.3 if first else 0.7) * (0.3 if second else 0.7)
        assert count / steps == pytest.approx(expected, abs=0.03)


def test_draws_are_the_generators() -> None:
    def drawn(seed: int) -> list[bool]:
        module = network()
        dropout, found = DepthDropout(module, 0.5, stream(seed)), []
        for _ in range(20):
            dropout.draw()
            found += [block(module, n).is_skipped for n in FROZEN]
        return found

    assert drawn(7) == drawn(7) != drawn(8)


@pytest.mark.parametrize("chance", [0.0, 0.5])
def test_where_nothing_can_be_left_out_nothing_is_drawn(chance: float) -> None:
    module, generator = network(), stream()
    if chance:
        module.requires_grad_(True)
    dropout, before = DepthDropout(module, chance, generator), generator.get_state()
    for _ in range(5):
        dropout.draw()
    assert dropout.count == 0 and torch.equal(generator.get_state(), before)
    dropout.leave_out_all()
    assert not any(block(module, n).is_skipped for n in range(3))


def test_a_block_of_which_something_is_trained_stays() -> None:
    module = network()
    block(module, 0).get_parameter("norm1.bias").requires_grad_(True)
    dropout = DepthDropout(module, 0.5, stream())
    dropout.leave_out_all()
    assert [block(module, n).is_skipped for n in range(3)] == [False, False, True]


def test_copies_leave_out_the_same_blocks() -> None:
    module, given = network(), inputs("vit")
    dropout = DepthDropout(module, 0.5, stream())
    copied = copy.deepcopy(module)
    seen = set()
    for _ in range(20):
        dropout.draw()
        assert torch.equal(copied(given), module(given))
        seen.add(tuple(block(copied, n).is_skipped for n in FROZEN))
    assert len(seen) == 4
    other = DepthDropout(network(), 0.5, stream())
    other.leave_out_all()
    dropout.end()
    assert not any(block(copied, n).is_skipped for n in FROZEN)


# --- What it costs -------------------------------------------------------------------

ARGUMENTS = {**DEEP["vit"], "head_hidden": 12, "head_output": 10, "classes": 6}


@pytest.mark.parametrize("objective", ["task", "moco", "simclr"])
def test_flops_are_expected_values(
    objective: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Against the mean over all ways to leave out blocks, weighted by their chances."""
    layout = MODELS["vit"].layout(ARGUMENTS)
    full = Split.full(layout)

    def built(*_: object) -> nn.Module:
        module = MODELS["vit"].build(ARGUMENTS, full.sizes())
        for number in FROZEN:
            block(module, number).requires_grad_(False)
        return module

    monkeypatch.setattr("p2pfusion.training.cost.build", built)
    given = ("vit", ARGUMENTS, layout, full, images(6), 4)
    options = {"alignment": 1.0} if objective != "task" else None
    found = step_cost(*given, objective=objective, options=options, depth_dropout=0.25)
    whole = step_cost(*given, objective=objective, options=options)
    expected = []
    for left_out in product((False, True), repeat=2):

        def some(*_: object, left_out: tuple[bool, ...] = left_out) -> nn.Module:
            module = built()
            for number, is_out in zip(FROZEN, left_out, strict=True):
                if is_out:
                    block(module, number).switch = _Off()  # type: ignore[assignment]
            return module

        monkeypatch.setattr("p2pfusion.training.cost.build", some)
        cost = step_cost(*given, objective=objective, options=options)
        chance = np.prod([0.25 if is_out else 0.75 for is_out in left_out])
        expected.append((chance * cost.flops_per_example, chance * cost.one_view_flops))
    flops, one_view = map(sum, zip(*expected, strict=True))
    assert found.flops_per_example == pytest.approx(flops, abs=1)
    assert found.one_view_flops == pytest.approx(one_view, abs=1)
    assert found.flops_per_example < whole.flops_per_example
    assert found.activation_bytes == whole.activation_bytes


class _Off:
    """A switch that nobody turns on again."""

    is_off = True


def test_a_meter_counts_what_is_left_out() -> None:
    layout = MODELS["vit"].layout(ARGUMENTS)
    given = ("vit", ARGUMENTS, layout, images(6))
    meters = [
        Meter(*given, batch=4, objective="task", depth_dropout=chance)
        for chance in (0.0, 0.5)
    ]
    for meter in meters:
        meter.count(Split.full(layout), (), 10)
    assert meters[0].flops == meters[1].flops  # nothing is frozen in it
