"""Rounds that cannot be trained now, and sub-models that memory does not suffice for.

The node and its trainer process are real, and so is what refuses memory.
"""

from __future__ import annotations

import os
import signal
from fractions import Fraction
from pathlib import Path

import pytest

from p2pfusion.daemon.config import parse_profile
from p2pfusion.daemon.training import (
    first_fraction,
    memory_of,
    smallest_fraction,
    step_of,
)
from p2pfusion.protocol.manifest import Manifest
from p2pfusion.split.depth import cut_in_depth
from p2pfusion.split.layout import Axis, Initial, Layout, ParameterSpec
from tests.daemon.running import ALONE, Running, running

pytestmark = pytest.mark.slow

WIDE = {
    **ALONE,
    "model_arguments": {"hidden": [2048, 2048]},
    "rounds": 100_000,
    "local_steps": 1,
}
SMALL = {**WIDE, "model_arguments": {"hidden": [16]}}
HUNGRY = "tests.daemon.hungry:loss"


def number(alone: Running) -> int:
    """The round that the node is in."""
    return alone.node.peer.gossip.round_index


def trained(alone: Running) -> list[object]:
    """The rounds of this run that were trained."""
    rounds = alone.ask("rounds", count=1000)["rounds"]
    assert isinstance(rounds, list)
    return [row["number"] for row in rounds if row["contributors"]]


def counts(alone: Running) -> Fraction:
    """What the node trains in its present epoch."""
    gossip, manifest = alone.node.peer.gossip, alone.node.peer.manifest
    assert manifest is not None
    return gossip.facts.fraction(gossip.me, manifest.epoch(number(alone)))


def test_memory_that_does_not_suffice_twice_lowers_the_split_fraction(
    tmp_path: Path,
) -> None:
    greedy = tmp_path / "greedy"
    swarm = {
        **SMALL,
        "objective": HUNGRY,
        "objective_arguments": {"greedy": str(greedy)},
    }
    with running(swarm=swarm, peer={"objectives": [HUNGRY]}) as alone:
        alone.turn_until(lambda: number(alone) >= 1)
        greedy.touch()
        alone.turn_until(lambda: "split-fraction" in alone.node.troubles)
        trouble = alone.node.troubles["split-fraction"]
        assert "out of memory" in trouble.message and "1/4" in trouble.message
        assert "split_fraction = 0.25" in trouble.hint
        state = alone.node.state
        assert state.load_fraction("1/2") == Fraction(1, 4)
        assert state.load_fraction("1/3") is None, "another wish"
        alone.turn_until(lambda: alone.node.peer.gossip.record.split_fraction == "1/4")
        assert alone.node.peer.gossip.record.former_fraction == "1/2"
        # The daemon lives and answers, and trains again as soon as it can.
        health = alone.ask("status")["health"]
        assert isinstance(health, list)
        assert "split-fraction" in [each["code"] for each in health]
        before = trained(alone)
        greedy.unlink()
        alone.turn_until(lambda: len(trained(alone)) > len(before))


def test_a_lone_peer_whose_trainer_rests_stays_in_its_round() -> None:
    with running(swarm=SMALL) as alone:
        node = alone.node
        alone.turn_until(lambda: number(alone) >= 1)
        # It is killed before it can train: again and again, until it rests.
        while not node.apprentice.resting:
            killed = node.apprentice.pid
            os.kill(killed, signal.SIGKILL)
            alone.turn_until(
                lambda pid=killed: (
                    node.apprentice.pid != pid or bool(node.apprentice.resting)
                )
            )
        held = number(alone)
        for _ in range(20):
            assert "killed by SIGKILL" in str(alone.ask("status")["self"])
            if node.apprentice.resting:
                assert number(alone) <= held + 1
        alone.turn_until(lambda: number(alone) > held + 2)
        assert not node.apprentice.resting


CONTRASTING = {
    **WIDE,
    "model_arguments": {"hidden": [2048, 2048], "projection": 64},
    "objective": "contrastive",
    "proximal": 0.5,
}


def test_auto_follows_from_the_memory_before_anything_is_trained() -> None:
    """And from how many copies of the sub-model this swarm's training holds."""
    peer = {"split_fraction": "auto", "memory": "330 MiB"}
    fitting = []
    for swarm in (WIDE, CONTRASTING):
        with running(swarm=swarm, peer=peer) as alone:
            alone.turn_until(lambda alone=alone: number(alone) >= 1)
            found = Fraction(alone.node.peer.gossip.record.split_fraction)
            assert 0 < found < 1
            assert counts(alone) == found  # from the first round on
            assert alone.node.peer.gossip.record.former_fraction == ""
            assert first_fraction(alone.node.profile, alone.node.state) == found
            fitting.append(found)
            alone.node.training.too_slow()
            alone.turn_until(
                lambda alone=alone, half=found / 2: (
                    Fraction(alone.node.peer.gossip.record.split_fraction) == half
                )
            )
    plain, contrasting = fitting
    assert contrasting < plain


@pytest.mark.parametrize(
    ("stated", "memory", "batch", "copies"),
    [
        ("", 8 << 30, 32, 3),
        ("processes = 4\nbatch = 10", 2 << 30, 3, 4),
        ("processes = 4\ndevice = 'cuda'", 8 << 30, 8, 4),
    ],
    ids=["one", "on the processor", "on cards"],
)
def test_each_process_has_a_part_of_the_batch_and_all_of_the_sub_model(
    stated: str, memory: int, batch: int, copies: int
) -> None:
    profile = parse_profile(f"[peer]\nmemory = '8 GiB'\n{stated}", "x")
    manifest = Manifest(name="t", model="mlp", layout=Layout((), ()), batch=32)
    assert memory_of(profile) == memory
    assert step_of(profile, manifest) == (batch, copies)


def test_the_smallest_fraction_is_one_cell_of_the_shortest_axis() -> None:
    layout = Layout((Axis("a", 64), Axis("b", 5)), ())
    assert smallest_fraction(layout) == Fraction(1, 5)


def test_where_depth_is_cut_it_is_one_layer() -> None:
    layers = (ParameterSpec(f"p{n}", (), Initial("zeros"), n) for n in range(8))
    layout = cut_in_depth(Layout((Axis("a", 64),), tuple(layers)))
    assert smallest_fraction(layout) == Fraction(1, 8)
