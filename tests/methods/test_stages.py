"""Stages: which blocks are there in which round."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pfusion.errors import ConfigError
from p2pfusion.methods.base import Member, PlanContext
from p2pfusion.methods.stages import Stage, check_layers_per_stage, stage_of
from p2pfusion.split.depth import cut_in_depth
from p2pfusion.split.layout import Axis, Dimension, Initial, Layout, ParameterSpec


def deep_context(blocks: int, rounds: int) -> PlanContext:
    """A swarm of two with a model of so many blocks between input and head."""
    width = Dimension(4, "a")
    parameters = (
        ParameterSpec(f"p{n}", (width,), Initial("zeros"), n) for n in range(blocks + 2)
    )
    layout = cut_in_depth(Layout((Axis("a", 4),), tuple(parameters)))
    roster = tuple(Member(name, Fraction(1)) for name in ("p", "q"))
    return PlanContext(0, rounds, layout, roster)


@given(st.integers(1, 12), st.integers(1, 12), st.integers(1, 60))
def test_stages_follow_each_other_and_have_every_block_once(
    blocks: int, per_stage: int, rounds: int
) -> None:
    context = deep_context(blocks, rounds)
    found = [stage_of(context, t, per_stage) for t in range(rounds)]
    assert found == sorted(found, key=lambda stage: stage.first)
    assert all(stage.last - stage.first + 1 <= per_stage for stage in found)
    stages = -(-blocks // per_stage)
    if rounds >= stages:
        new = [n for s in dict.fromkeys(found) for n in range(s.first, s.last + 1)]
        assert new == list(range(1, blocks + 1))
    if rounds % stages == 0:
        assert {found.count(stage) for stage in found} == {rounds // stages}
    # The round after the last only places values.
    assert stage_of(context, rounds, per_stage).last == blocks


def test_the_last_stage_may_be_shorter() -> None:
    context = deep_context(5, 6)
    found = [stage_of(context, t, 2) for t in range(6)]
    assert found == [Stage(1, 2)] * 2 + [Stage(3, 4)] * 2 + [Stage(5, 5)] * 2


@pytest.mark.parametrize("value", [0, -1, 1.5, "2", True, None, 257])
def test_a_wrong_number_of_layers_is_refused(value: object) -> None:
    with pytest.raises(ConfigError, match="layers_per_stage: not a whole number"):
        check_layers_per_stage(value)
