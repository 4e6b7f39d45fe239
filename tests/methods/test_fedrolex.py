"""FedRolex: one rolling start for all."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from p2pfusion.methods.base import PlanContext
from p2pfusion.methods.fedrolex import FedRolex
from tests.strategies import contexts


@given(contexts(), st.integers(0, 200))
def test_every_peer_starts_at_the_cell_of_the_round(
    context: PlanContext, round_index: int
) -> None:
    for rank in range(len(context.roster)):
        split = FedRolex().split(context, round_index, rank)
        for axis in context.layout.axes:
            cells = axis.cells_in(split[axis.name])
            start = round_index % axis.cell_count
            assert set(cells) == {
                (start + step) % axis.cell_count for step in range(len(cells))
            }
