"""What the engine expects of every registered method, over any layout and roster."""

from __future__ import annotations

import math
import os
import subprocess
import sys
from dataclasses import replace
from fractions import Fraction
from itertools import pairwise, product

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from p2pfusion.errors import ConfigError
from p2pfusion.methods import (
    METHODS,
    Member,
    Method,
    PlanContext,
    build_method,
    initial_layout,
)
from p2pfusion.methods.msfusion import MSfusion
from p2pfusion.split.depth import cut_in_depth
from p2pfusion.split.layout import Axis, Dimension, Initial, Layout, ParameterSpec
from p2pfusion.split.segment import Split
from tests.strategies import contexts

VARIANTS: list[tuple[str, dict[str, object]]] = [
    *((name, {}) for name in METHODS),
    ("msfusion", {"shift": "tied", "start": "dense"}),
    ("msfusion", {"shift": "tied", "overlap": "cosine 0.25 full", "step": "half"}),
    (
        "msfusion",
        {"shift": "tied", "overlap": {"linear": [0.5, 0]}, "step": 8, "dwell": 4},
    ),
    ("msfusion", {"shift": "skewed"}),
    ("msfusion", {"shift": "skewed", "dwell": 3}),
    ("msfusion", {"shift": "tied", "dwell": 0, "start": "silent", "blocks": 2}),
    ("msfusion", {"shift": "blocks", "dwell": 3, "blocks": 5}),
    ("lw-fedssl", {"layers_per_stage": 1}),
    ("lw-fedssl", {"layers_per_stage": 1, "calibration": "elected"}),
    ("lw-fedssl", {"layers_per_stage": 1, "depth_dropout": 0.3}),
    ("prog-fedssl", {"layers_per_stage": 256}),
    ("layer-finetune", {"limit": "upload"}),
    ("layer-finetune", {"limit": "flops"}),
    ("co-s2p", {"depth": "rolling"}),
    ("co-s2p", {"mask": "static", "merge": "mean"}),
]
STAGED = {"lw-fedssl", "prog-fedssl"}
"""Methods that cut the model in depth, stage by stage."""

DEEP = {"co-s2p", "layer-finetune", *STAGED}
"""Methods that cut the model in depth."""

WITHOUT_WINDOWS = {"fedavg", "layer-finetune", *STAGED}

every_method = pytest.mark.parametrize(("name", "arguments"), VARIANTS)
round_indices = st.integers(0, 60)


def begun(name: str, method: Method, context: PlanContext) -> PlanContext:
    """The context of a swarm that was founded with such a method."""
    if name not in DEEP:
        return context  # others only change how values begin
    try:
        layout = initial_layout(method, context.layout)
    except ConfigError:  # too flat for an option; splits hold for it all the same
        layout = cut_in_depth(context.layout)
    return replace(context, layout=layout)


def all_splits(method: Method, context: PlanContext, round_index: int) -> list[Split]:
    ranks = range(len(context.roster))
    return [method.split(context, round_index, rank) for rank in ranks]


def check_split(
    name: str,
    arguments: dict[str, object],
    context: PlanContext,
    rank: int,
    split: Split,
) -> None:
    """The split fits the layout, lies on the grid and is as wide as it must be.

    Whoever trains whole blocks may train less than it could, and never more.
    """
    assert Split.from_data(split.to_data(), context.layout) == split
    fraction = context.roster[rank].split_fraction
    whole_blocks = name == "msfusion" and arguments.get("shift", "blocks") == "blocks"
    layers = sum(len(split[a.name]) for a in context.layout.axes if a.is_gate)
    assert layers >= 1 or not any(axis.is_gate for axis in context.layout.axes)
    for axis in context.layout.widths:
        cells = axis.cells_in(split[axis.name])
        full = name in WITHOUT_WINDOWS
        expected = axis.cell_count if full else math.ceil(fraction * axis.cell_count)
        if name == "co-s2p" and len(cells) == axis.cell_count:
            continue  # of several blocks, or of one that is not there
        assert 1 <= len(cells) <= expected
        assert whole_blocks or len(cells) == expected


@every_method
@settings(max_examples=20, deadline=None)
@given(context=contexts(), round_index=round_indices)
def test_splits_fit_the_layout(
    name: str, arguments: dict[str, object], context: PlanContext, round_index: int
) -> None:
    method = build_method(name, arguments)
    context = begun(name, method, context)
    for rank, split in enumerate(all_splits(method, context, round_index)):
        check_split(name, arguments, context, rank, split)


@every_method
@settings(max_examples=20, deadline=None)
@given(context=contexts(), round_index=round_indices)
def test_every_peer_computes_the_same_splits(
    name: str, arguments: dict[str, object], context: PlanContext, round_index: int
) -> None:
    """One peer received the layout, asks in another order and planned other rounds."""
    context = begun(name, build_method(name, arguments), context)
    mine = all_splits(build_method(name, arguments), context, round_index)
    layout = Layout.from_data(context.layout.to_data())
    roster = tuple(Member(m.peer, m.split_fraction) for m in context.roster)
    theirs = PlanContext(context.seed, context.rounds, layout, roster)
    method = build_method(name, dict(reversed(arguments.items())))
    method.split(theirs, round_index + 3, 0)
    for rank in reversed(range(len(roster))):
        found = method.split(theirs, round_index, rank)
        assert found.to_data() == mine[rank].to_data()
        assert found.digest == mine[rank].digest


@every_method
@settings(max_examples=20, deadline=None)
@given(context=contexts(), round_index=round_indices, data=st.data())
def test_with_split_fraction_one_a_peer_has_everything(
    name: str,
    arguments: dict[str, object],
    context: PlanContext,
    round_index: int,
    data: st.DataObject,
) -> None:
    if name in STAGED:
        arguments = {"layers_per_stage": 256}  # one stage, which has all layers
    context = begun(name, build_method(name, arguments), context)
    rank = data.draw(st.integers(0, len(context.roster) - 1))
    roster = list(context.roster)
    roster[rank] = replace(roster[rank], split_fraction=Fraction(1))
    context = replace(context, roster=tuple(roster))
    split = build_method(name, arguments).split(context, round_index, rank)
    assert split == Split.full(context.layout)


@every_method
@settings(max_examples=15, deadline=None)
@given(context=contexts(min_peers=2), round_index=round_indices)
def test_any_peer_can_be_missing(
    name: str, arguments: dict[str, object], context: PlanContext, round_index: int
) -> None:
    method = build_method(name, arguments)
    context = begun(name, method, context)
    for missing in range(len(context.roster)):
        rest = context.roster[:missing] + context.roster[missing + 1 :]
        smaller = replace(context, roster=rest)
        for rank, split in enumerate(all_splits(method, smaller, round_index)):
            check_split(name, arguments, smaller, rank, split)


BLOCKS = MSfusion(shift="blocks", blocks=3, dwell=2)


@settings(max_examples=30, deadline=None)
@given(context=contexts(), round_index=round_indices)
def test_blocks_are_no_wider_than_a_peer_may_train(
    context: PlanContext, round_index: int
) -> None:
    assume(all(axis.cell_count >= BLOCKS.blocks for axis in context.layout.axes))
    for rank, split in enumerate(all_splits(BLOCKS, context, round_index)):
        assert Split.from_data(split.to_data(), context.layout) == split
        fraction = context.roster[rank].split_fraction
        for axis in context.layout.axes:
            cells = axis.cells_in(split[axis.name])
            assert 1 <= len(cells) <= math.ceil(fraction * axis.cell_count)
            if fraction == 1:
                assert len(cells) == axis.cell_count


def test_blocks_go_around_the_peers_and_move_when_they_have_dwelt() -> None:
    layout = Layout((Axis("a", 12),), ())
    roster = tuple(Member(f"p{n}", Fraction(1, 3)) for n in range(4))
    context = PlanContext(0, 9, layout, roster)

    def starts(method: MSfusion, round_index: int) -> list[int]:
        splits = all_splits(method, context, round_index)
        return [split["a"].ranges[0][0] // 4 for split in splits]

    assert [starts(BLOCKS, t) for t in (0, 1, 2)] == [
        [0, 1, 2, 0],
        [0, 1, 2, 0],
        [1, 2, 0, 1],
    ]
    still = MSfusion(shift="blocks", blocks=3, dwell=0)
    assert starts(still, 8) == starts(still, 0) == [0, 1, 2, 0]


@pytest.mark.parametrize("arguments", [{"shift": "skewed"}, {"shift": "tied"}])
@settings(max_examples=20, deadline=None)
@given(context=contexts(), first_round=round_indices)
def test_msfusion_trains_every_index_of_every_axis_within_its_cycle(
    arguments: dict[str, str], context: PlanContext, first_round: int
) -> None:
    method = MSfusion(**arguments)
    seen: dict[str, set[int]] = {axis.name: set() for axis in context.layout.axes}
    for step in range(method.cycle_rounds(context)):
        for split in all_splits(method, context, first_round + step):
            for axis in context.layout.axes:
                seen[axis.name].update(axis.cells_in(split[axis.name]))
    for axis in context.layout.axes:
        assert seen[axis.name] == set(range(axis.cell_count))


def with_matrices(layout: Layout) -> Layout:
    """The layout, and a weight matrix between every two neighbouring axes."""
    matrices = (
        ParameterSpec(
            f"{out.name} to {into.name}",
            (Dimension(out.size, out.name), Dimension(into.size, into.name)),
            Initial("zeros"),
        )
        for out, into in pairwise(layout.axes)
    )
    return Layout(layout.axes, (*layout.parameters, *matrices))


@settings(max_examples=20, deadline=None)
@given(context=contexts(), first_round=round_indices, dwell=st.integers(1, 2))
def test_skewed_msfusion_trains_every_entry_within_its_cycle(
    context: PlanContext, first_round: int, dwell: int
) -> None:
    """Every entry of tensors that follow at most two axes, each of them once."""
    context = replace(context, layout=with_matrices(context.layout))
    signatures = [
        signature.axes
        for signature in context.layout.signatures
        if len(set(signature.axes)) == len(signature.axes) <= 2
    ]
    method = MSfusion(shift="skewed", dwell=dwell)
    seen: dict[tuple[str, ...], set[tuple[int, ...]]] = {s: set() for s in signatures}
    for step in range(method.cycle_rounds(context)):
        for split in all_splits(method, context, first_round + step):
            for names in signatures:
                held = (context.layout.axis(n).cells_in(split[n]) for n in names)
                seen[names].update(product(*held))
    for names in signatures:
        counts = (context.layout.axis(name).cell_count for name in names)
        assert len(seen[names]) == math.prod(counts)


PRINT_DIGESTS = """
from fractions import Fraction
from p2pfusion.methods import METHODS, Member, PlanContext, build_method
from p2pfusion.split.depth import cut_in_depth
from p2pfusion.split.layout import Axis, Dimension, Initial, Layout, ParameterSpec

axes = tuple(Axis(name, size) for name, size in
             (("a", 64), ("b", 10), ("c", 33), ("d", 64), ("e", 7)))
matrices = tuple(
    ParameterSpec(
        x.name + y.name,
        (Dimension(x.size, x.name), Dimension(y.size, y.name)),
        Initial("zeros"),
    )
    for x in axes for y in axes if x.name < y.name)
deep = tuple(
    ParameterSpec(f"block{n}", (Dimension(64, "a"),), Initial("zeros"), n)
    for n in range(8))
roster = tuple(Member(name, Fraction(mu)) for name, mu in
               (("p", "1/4"), ("q", "1/8"), ("r", "1/2"), ("s", "0.3")))
layout = cut_in_depth(Layout(axes, (*matrices, *deep)))
context = PlanContext(5, 20, layout, roster)
for name, arguments in {variants!r}:
    method = build_method(name, arguments)
    for round_index in (0, 1, 7, 20):
        for rank in range(4):
            print(name, method.split(context, round_index, rank).digest.hex())
"""


def test_splits_do_not_depend_on_the_hash_seed() -> None:
    """Sets and strings hash differently in every process; splits must not notice."""
    script = PRINT_DIGESTS.replace("{variants!r}", repr(VARIANTS))
    outputs = [
        subprocess.run(
            [sys.executable, "-c", script],
            env={**os.environ, "PYTHONHASHSEED": seed},
            check=True,
            capture_output=True,
            text=True,
            timeout=60,
        ).stdout
        for seed in ("0", "1", "4711")
    ]
    assert outputs[0].count("\n") == 16 * len(VARIANTS)
    assert outputs[1:] == outputs[:1] * 2
