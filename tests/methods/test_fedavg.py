"""FedAvg trains everything."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from p2pfusion.methods.base import PlanContext
from p2pfusion.methods.fedavg import FedAvg
from p2pfusion.split.segment import Split
from tests.strategies import contexts


@given(contexts(), st.integers(0, 60))
def test_every_peer_has_the_whole_model(context: PlanContext, round_index: int) -> None:
    for rank in range(len(context.roster)):
        split = FedAvg().split(context, round_index, rank)
        assert split == Split.full(context.layout)
