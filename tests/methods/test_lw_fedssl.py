"""LW-FedSSL: what an earlier stage has trained is held and left alone."""

from __future__ import annotations

from p2pfusion.methods.lw_fedssl import LwFedSSL
from p2pfusion.methods.prog_fedssl import ProgFedSSL
from p2pfusion.split.depth import depth_split
from tests.methods.test_stages import deep_context


def test_everything_below_the_new_blocks_is_frozen() -> None:
    context = deep_context(4, 4)
    method = LwFedSSL(layers_per_stage=1)
    splits = [method.split(context, t, 1) for t in range(4)]
    assert splits == [
        depth_split(context.layout, [0, 1, 5]),
        depth_split(context.layout, [0, 1, 2, 5], frozen=[0, 1]),
        depth_split(context.layout, [0, 1, 2, 3, 5], frozen=[0, 1, 2]),
        depth_split(context.layout, [0, 1, 2, 3, 4, 5], frozen=[0, 1, 2, 3]),
    ]


def test_it_holds_what_prog_fedssl_holds_and_its_first_stage_is_the_same() -> None:
    context = deep_context(6, 6)
    for t in range(7):
        lw = LwFedSSL().split(context, t, 0)
        prog = ProgFedSSL().split(context, t, 0)
        assert lw.sets == prog.sets
        assert (lw == prog) == (t < 2)


def test_one_stage_is_end_to_end_training() -> None:
    context = deep_context(4, 4)
    assert not LwFedSSL(layers_per_stage=4).split(context, 3, 0).frozen
