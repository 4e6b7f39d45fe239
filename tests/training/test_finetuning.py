"""What finetuning the last layers saves, counted on the modules, and LoRA beside it."""

from __future__ import annotations

from fractions import Fraction

import pytest
import torch

from benchmarks.finetuning import (
    ARGUMENTS,
    BLOCKS,
    LAST_AT_MOST,
    LORA_AT_LEAST,
    Way,
    holds,
    measured,
    with_lora,
)
from benchmarks.lora.lora_models import TRANSFORMER_LORA
from p2pfusion.methods import Member, PlanContext, build_method
from p2pfusion.methods.layer_finetune import costs
from p2pfusion.split.depth import cut_in_depth
from p2pfusion.split.segment import Split
from p2pfusion.training.models import MODELS
from p2pfusion.training.submodel import build

LAYOUT = cut_in_depth(MODELS["vit"].layout(ARGUMENTS))


@pytest.fixture(scope="module")
def ways() -> dict[str, Way]:
    """All of them, by name."""
    return {way.name: way for way in measured(64)}


def test_the_last_block_keeps_a_quarter_and_lora_nearly_all(
    ways: dict[str, Way],
) -> None:
    assert (LAST_AT_MOST, LORA_AT_LEAST) == (0.25, 0.9)
    assert holds(list(ways.values()))
    last, lora = ways["last 1 of 6"], ways["LoRA, rank 8"]
    # They send about as much, and both hold all weights.
    assert abs(last.upload - lora.upload) < 0.05
    assert last.memory < lora.memory / 4
    assert lora.flops > 2 / 3 > last.flops


def test_the_table_of_costs_is_what_is_counted(ways: dict[str, Way]) -> None:
    for blocks in range(BLOCKS):
        way, told = ways[f"last {blocks} of {BLOCKS}"], costs(LAYOUT, blocks)
        assert way.upload == pytest.approx(float(told.upload), rel=1e-9)
        assert way.flops == pytest.approx(float(told.flops), rel=0.01)
        assert way.activations == pytest.approx(float(told.layers), abs=0.03)


def test_lora_begins_as_the_network_and_trains_its_additions() -> None:
    network = build(MODELS["vit"], ARGUMENTS, LAYOUT, Split.full(LAYOUT))
    images = torch.rand(2, 1, 28, 28)
    plain = network(images)
    lora = with_lora(network, 2)
    assert torch.equal(lora(images), plain)
    assert len(lora.additions) == 4 * BLOCKS
    lora(images).sum().backward()
    trained = {name for name, p in lora.named_parameters() if p.grad is not None}
    own = {"norm.", "classifier.", "additions."}
    assert all(any(name.startswith(each) for each in own) for name in trained)
    assert len(trained) == 2 * 4 * BLOCKS + 4
    with torch.no_grad():
        for parameter in lora.additions.parameters():
            parameter.normal_()
    assert not torch.allclose(lora(images), plain)


def test_lora_as_a_model_is_what_finetuning_without_a_block_trains() -> None:
    sizes = {"layers": 2, "width": 16, "inner": 32, "heads": 4, "group": 16}
    arguments = {"vocabulary": 20, "classes": 20, "length": 8, "rank": 3, **sizes}
    layout = cut_in_depth(TRANSFORMER_LORA.layout(arguments))
    method = build_method("layer-finetune", {})
    context = PlanContext(0, 1, layout, (Member("peer", Fraction(1, 100)),))
    split = method.split(context, 0, 0)
    module = build(TRANSFORMER_LORA, arguments, layout, split)
    tokens = torch.randint(0, 20, (2, 8))
    assert module(tokens).shape == (2, 8, 20)
    trained = {name for name, p in module.named_parameters() if p.requires_grad}
    additions = {name for name, _ in module.named_parameters() if "additions" in name}
    assert len(additions) == 2 * 4 * 2
    assert trained == {"norm.weight", "norm.bias", *additions}
