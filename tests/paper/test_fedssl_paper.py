"""What LW-FedSSL and Prog-FedSSL cost: closed forms of arXiv 2401.11647, version 4.

The paper counts one unit of FLOPs for a block's forward pass and three for its
training, and as traffic the values of what is trained. All published ratios (its tables
2 and 3) are reproduced from a ViT-Tiny's shapes. The first layer and the head are in no
closed form of FLOPs; here they are measured and taken into account exactly.
"""

from __future__ import annotations

from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest
import torch

from p2pfusion.methods import Member, Method, PlanContext, build_method, skipping
from p2pfusion.split.depth import cut_in_depth, depth_split
from p2pfusion.split.homes import Homes
from p2pfusion.split.layout import Layout
from p2pfusion.split.plan import plan_round
from p2pfusion.split.segment import Split
from p2pfusion.training.cost import step_cost, training_flops
from p2pfusion.training.data.examples import examples
from p2pfusion.training.models import MODELS
from p2pfusion.training.submodel import build

CASES = [(12, 1), (12, 2), (12, 3), (12, 6), (6, 1), (6, 2)]
VIT = MODELS["vit"]
SMALL: dict[str, object] = {
    **{"in_channels": 1, "image_size": 8, "patch": 4, "width": 16, "heads": 4},
    **{"inner": 16, "group": 4},
}
TINY: dict[str, object] = {
    **{"image_size": 32, "patch": 4, "width": 192, "heads": 8, "inner": 768},
    **{"layers": 12, "head_hidden": 512, "head_output": 256},
}

every_case = pytest.mark.parametrize(("blocks", "per_stage"), CASES)


def context(layout: Layout, rounds: int) -> PlanContext:
    roster = tuple(Member(name, Fraction(1)) for name in ("ash", "birch", "cedar"))
    return PlanContext(0, rounds, layout, roster)


def staged(name: str, per_stage: int) -> Method:
    return build_method(name, {"layers_per_stage": per_stage})


def lw_flops(blocks: int, per_stage: int) -> Fraction:
    """Of end-to-end training's."""
    stages = Fraction(blocks, per_stage)
    return ((stages - 1) * per_stage / 2 + 3 * per_stage) / (3 * blocks)


def prog_flops(blocks: int, per_stage: int) -> Fraction:
    """Of end-to-end training's."""
    return per_stage * (Fraction(blocks, per_stage) + 1) / (2 * blocks)


def measured(arguments: dict[str, object], split: Split) -> int:
    """FLOPs of one image's training step."""
    layout = cut_in_depth(VIT.layout(arguments))
    module = build(VIT, arguments, layout, split)
    return training_flops(module, torch.zeros(1, 1, 8, 8))


@every_case
def test_flops_are_the_closed_forms(blocks: int, per_stage: int) -> None:
    arguments = {**SMALL, "layers": blocks}
    layout = cut_in_depth(VIT.layout(arguments))
    head = blocks + 1
    # Forward passes: of the head and one block more or less, of all but the input.
    two, one = (
        measured(arguments, depth_split(layout, [*range(n + 1), head])) // 3
        for n in (2, 1)
    )
    block = two - one
    alone = measured(
        arguments, depth_split(layout, [0, 1, head], frozen=[0, 1])
    )  # the input and a block forward, the head trained
    last = (alone - one) // 2
    first = one - block - last
    swarm, stages = context(layout, blocks), blocks // per_stage
    totals = {"lw-fedssl": 0, "prog-fedssl": 0}
    for name in totals:
        method = staged(name, per_stage)
        for number in range(stages):
            split = method.split(swarm, number * per_stage, 0)
            totals[name] += measured(arguments, split)
    whole = stages * 3 * (first + blocks * block + last)
    assert whole == stages * measured(arguments, Split.full(layout))
    lw, prog = lw_flops(blocks, per_stage), prog_flops(blocks, per_stage)
    blocks_of_all = 3 * blocks * block * stages
    # The input layer is trained in the first stage, and only passed in the others.
    beside = 3 * last * stages + first * (3 + stages - 1)
    assert totals["lw-fedssl"] == lw * blocks_of_all + beside
    assert totals["prog-fedssl"] == prog * blocks_of_all + 3 * (first + last) * stages


def test_depth_dropout_saves_its_part_of_the_frozen_blocks_passes() -> None:
    """Table 6 has 111 GFLOPs of 586, and a chance of 0.3 comes near them."""
    arguments, chance = {**SMALL, "layers": 12}, 0.3
    layout = cut_in_depth(VIT.layout(arguments))
    pictures = examples(np.zeros((2, 8, 8), np.uint8), np.arange(2), "zeros")
    costs = []
    for told in ({}, {"depth_dropout": chance}):
        method = build_method("lw-fedssl", {"layers_per_stage": 1, **told})
        splits = [method.split(context(layout, 12), stage, 0) for stage in range(12)]
        given = [("vit", arguments, layout, split, pictures, 2) for split in splits]
        dropout = skipping(method)
        costs.append(
            [
                step_cost(*each, depth_dropout=dropout).flops_per_example
                for each in given
            ]
        )
    two, one = (
        measured(arguments, depth_split(layout, [*range(n + 1), 13])) // 3
        for n in (2, 1)
    )
    saved = [most - least for most, least in zip(*costs, strict=True)]
    assert saved == [round(chance * stage * (two - one)) for stage in range(12)]
    ours = float(lw_flops(12, 1)) - chance * 5.5 / 36
    assert abs(ours - 111 / 586) < 0.006


def moved(name: str, arguments: dict[str, object], layout: Layout, rounds: int) -> int:
    """Elements that all peers together send, as planned."""
    method, swarm = build_method(name, arguments), context(layout, rounds)
    splits = [
        {
            member.peer: method.split(swarm, t, rank)
            for rank, member in enumerate(swarm.roster)
        }
        for t in range(rounds + 1)
    ]
    homes, elements = Homes.initial(layout), 0
    for t, (now, then) in enumerate(pairwise(splits)):
        plan = plan_round(
            layout, seed=0, round_index=t, current=now, following=then, homes=homes
        )
        elements += sum(plan.elements_sent(peer) for peer in plan.peers)
        homes = plan.homes_after()
    return elements


@every_case
def test_traffic_is_the_closed_form(blocks: int, per_stage: int) -> None:
    layout = cut_in_depth(VIT.layout({**SMALL, "layers": blocks}))
    size = [depth_split(layout, [n]).size(layout) for n in (0, 1, blocks + 1)]
    first, block, head = size
    stages = blocks // per_stage
    rounds = 2 * stages
    whole = moved("fedavg", {}, layout, rounds)
    every = {"layers_per_stage": per_stage}
    lw = Fraction(per_stage * block + head, 1) + Fraction(first, stages)
    prog = Fraction(per_stage * (stages + 1) * block, 2) + head + first
    for name, share in (("lw-fedssl", lw), ("prog-fedssl", prog)):
        found = Fraction(moved(name, every, layout, rounds), whole)
        assert found == share / (blocks * block + head + first)


@pytest.mark.parametrize(
    ("per_stage", "published"),
    [
        (1, ("0.24", "0.54", "0.20", "0.60")),
        (2, ("0.31", "0.58", "0.27", "0.64")),
        (3, ("0.38", "0.63", "0.34", "0.67")),
        (4, ("0.45", "0.67", "0.42", "0.71")),
        (6, ("0.58", "0.75", "0.56", "0.78")),
    ],
)
def test_the_published_ratios_follow_from_the_shapes(
    per_stage: int, published: tuple[str, ...]
) -> None:
    layout = cut_in_depth(VIT.layout(TINY))
    block = depth_split(layout, [1]).size(layout)
    head = sum(
        p.size
        for p in layout.parameters
        if p.name.startswith("heads.") and "layers" in p.name
    )
    assert round(head / 1e6, 3) == 0.754 and round(block / 1e6, 3) == 0.445
    stages, whole = 12 // per_stage, 12 * block + head
    found = (
        lw_flops(12, per_stage),
        prog_flops(12, per_stage),
        Fraction(per_stage * block + head, whole),
        Fraction(per_stage * (stages + 1) * block + 2 * head, 2 * whole),
    )
    for ours, theirs in zip(found, published, strict=True):
        assert abs(float(ours) - float(theirs)) < 0.006
