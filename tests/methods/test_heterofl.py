"""HeteroFL: prefixes, in every round the same."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from p2pfusion.methods.base import PlanContext
from p2pfusion.methods.fedrolex import FedRolex
from p2pfusion.methods.heterofl import HeteroFL
from p2pfusion.split.windows import prefix_window, window_cells
from tests.strategies import contexts


@given(contexts(), st.integers(0, 200))
def test_every_peer_has_a_prefix_of_its_width(
    context: PlanContext, round_index: int
) -> None:
    for rank, member in enumerate(context.roster):
        split = HeteroFL().split(context, round_index, rank)
        for axis in context.layout.axes:
            width_cells = window_cells(axis, member.split_fraction)
            assert split[axis.name] == prefix_window(axis, width_cells)
        assert split == FedRolex().split(context, 0, rank)


def test_it_is_not_the_method_that_it_derives_from() -> None:
    assert HeteroFL() != FedRolex()
