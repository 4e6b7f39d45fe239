"""Prog-FedSSL: what is there grows, and all of it is trained."""

from __future__ import annotations

from p2pfusion.methods.prog_fedssl import ProgFedSSL
from p2pfusion.split.depth import depth_split
from p2pfusion.split.segment import Split
from tests.methods.test_stages import deep_context


def test_blocks_are_added_below_the_head() -> None:
    context = deep_context(4, 4)
    splits = [ProgFedSSL().split(context, t, 0) for t in range(5)]
    two = depth_split(context.layout, [0, 1, 2, 5])
    assert splits == [two, two] + [Split.full(context.layout)] * 3


def test_one_stage_is_end_to_end_training() -> None:
    context = deep_context(4, 4)
    method = ProgFedSSL(layers_per_stage=4)
    for rank in range(2):
        assert method.split(context, 0, rank) == Split.full(context.layout)
