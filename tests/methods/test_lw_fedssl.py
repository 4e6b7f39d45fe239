"""LW-FedSSL: what an earlier stage has trained is held and left alone."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pfusion.errors import ConfigError
from p2pfusion.methods import build_method, initial_layout, skipping
from p2pfusion.methods.base import Member, PlanContext
from p2pfusion.methods.lw_fedssl import LwFedSSL
from p2pfusion.methods.prog_fedssl import ProgFedSSL
from p2pfusion.split.depth import depth_split
from p2pfusion.split.layout import Layout
from p2pfusion.split.lots import by_lot
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


PEERS = ("a", "b", "c", "d", "e")
ELECTED = LwFedSSL(layers_per_stage=1, calibration="elected")


def swarm(peers: Collection[str], seed: int = 0) -> PlanContext:
    """With a model of four blocks, trained in four stages of three rounds."""
    roster = tuple(Member(peer, Fraction(1)) for peer in peers)
    return replace(deep_context(4, 12), seed=seed, roster=roster)


def calibrators(context: PlanContext, round_index: int) -> list[str]:
    """Who trains frozen layers; the others do what they do without calibration."""
    found = []
    for rank, member in enumerate(context.roster):
        split = ELECTED.split(context, round_index, rank)
        plain = LwFedSSL(layers_per_stage=1).split(context, round_index, rank)
        if split != plain:
            assert split == ProgFedSSL(layers_per_stage=1).split(
                context, round_index, 0
            )
            assert not split.frozen and split.sets == plain.sets
            found.append(member.peer)
    return found


@given(st.integers(0, 2**63 - 1), st.permutations(PEERS))
def test_one_peer_of_each_round_is_elected_to_train_all_layers(
    seed: int, peers: list[str]
) -> None:
    context = swarm(peers, seed)
    for t in range(13):
        first, *_ = by_lot("calibrator", seed, t, PEERS)
        # Nothing is frozen in the first stage.
        assert calibrators(context, t) == ([first] if t >= 3 else [])


def test_with_the_elected_peer_missing_the_next_in_order_is_elected() -> None:
    here, t = list(PEERS), 5
    for expected in by_lot("calibrator", 0, t, PEERS):
        assert calibrators(swarm(here), t) == [expected]
        here.remove(expected)


def test_everybody_is_elected_sooner_or_later() -> None:
    roster = swarm(PEERS).roster
    context = replace(deep_context(2, 60), roster=roster)
    assert {peer for t in range(30, 60) for peer in calibrators(context, t)} == set(
        PEERS
    )


def test_its_options_are_off_and_depth_dropout_changes_no_split() -> None:
    context = deep_context(4, 4)
    plain, dropping = LwFedSSL(), LwFedSSL(depth_dropout=0.3)
    assert plain == LwFedSSL(2, 0.0, "none")
    for t in range(5):
        assert plain.split(context, t, 0) == dropping.split(context, t, 0)
    assert skipping(plain) == 0.0 and skipping(dropping) == 0.3
    assert skipping(ProgFedSSL()) == 0.0


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ({"depth_dropout": 1}, "depth_dropout is 1: it must be a number from 0"),
        ({"depth_dropout": -0.1}, "depth_dropout is -0.1"),
        ({"depth_dropout": True}, "depth_dropout is True"),
        ({"depth_dropout": "some"}, "depth_dropout is 'some'"),
        ({"depth_dropout": float("nan")}, "depth_dropout is nan"),
        ({"calibration": "server"}, "calibration is 'server': it must be one of none"),
        ({"calibration": ["none"]}, "calibration is "),
    ],
)
def test_wrong_options_are_named(arguments: dict[str, object], told: str) -> None:
    with pytest.raises(ConfigError) as caught:
        build_method("lw-fedssl", arguments)
    assert told in caught.value.message


@pytest.mark.parametrize(
    "option", [{"depth_dropout": 0.3}, {"calibration": "elected"}], ids=str
)
def test_options_about_frozen_layers_are_refused_where_there_are_none(
    option: dict[str, object],
) -> None:
    name = next(iter(option))
    layouts = {blocks: deep_context(blocks, 4).layout for blocks in (0, 2, 3)}
    method = build_method("lw-fedssl", option)
    assert initial_layout(method, layouts[3]) == layouts[3]
    assert initial_layout(method, Layout((), ())) == Layout((), ())
    for blocks, hint in ((2, "set layers_per_stage below 2"), (0, "deeper model")):
        with pytest.raises(ConfigError, match=f"^{name} is about frozen") as caught:
            initial_layout(method, layouts[blocks])
        assert hint in caught.value.hint
    for other in ("prog-fedssl", "layer-finetune", "fedavg"):
        with pytest.raises(ConfigError, match=f"takes no argument '{name}'"):
            build_method(other, option)


def test_one_stage_is_end_to_end_training() -> None:
    context = deep_context(4, 4)
    assert not LwFedSSL(layers_per_stage=4).split(context, 3, 0).frozen
