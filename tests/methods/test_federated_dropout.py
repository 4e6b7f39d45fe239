"""Federated Dropout: a draw depends on seed, round, peer and axis alone."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pfusion.methods.base import Member, PlanContext
from p2pfusion.methods.federated_dropout import FederatedDropout
from p2pfusion.split.layout import Axis, Layout
from tests.strategies import contexts

AXES = (Axis("a", 32), Axis("b", 32))
HALF = Fraction(1, 2)
PINNED = (
    (1, 3),
    (4, 5),
    (7, 8),
    (11, 13),
    (14, 16),
    (17, 18),
    (20, 21),
    (22, 25),
    (26, 27),
    (28, 30),
)
PAIR = PlanContext(7, 10, Layout(AXES, ()), (Member("p", HALF), Member("q", HALF)))


@given(contexts(min_peers=2), st.integers(0, 50))
def test_other_peers_do_not_matter(context: PlanContext, round_index: int) -> None:
    method = FederatedDropout()
    alone = replace(context, roster=context.roster[1:2])
    assert method.split(context, round_index, 1) == method.split(alone, round_index, 0)


@pytest.mark.parametrize(
    ("context", "round_index", "rank"),
    [(replace(PAIR, seed=8), 3, 0), (PAIR, 4, 0), (PAIR, 3, 1)],
    ids=["seed", "round", "peer"],
)
def test_each_part_of_the_key_matters(
    context: PlanContext, round_index: int, rank: int
) -> None:
    method = FederatedDropout()
    assert method.split(context, round_index, rank) != method.split(PAIR, 3, 0)


def test_axes_draw_on_their_own() -> None:
    split = FederatedDropout().split(PAIR, 3, 0)
    assert split["a"] != split["b"]


def test_the_draw_is_pinned() -> None:
    """Peers of different versions must draw alike: a change here is a new protocol."""
    split = FederatedDropout().split(PAIR, 3, 0)
    assert split["a"].ranges == PINNED


def test_every_cell_is_drawn_about_equally_often() -> None:
    counts = [0] * 32
    for round_index in range(1_000):
        for cell in FederatedDropout().split(PAIR, round_index, 0)["a"]:
            counts[cell] += 1
    assert 420 < min(counts) <= max(counts) < 580  # five standard deviations: 79
