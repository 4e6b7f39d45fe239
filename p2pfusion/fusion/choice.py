"""Which sum a swarm's contributions go into."""

from __future__ import annotations

from numpy.typing import ArrayLike

from p2pfusion.fusion.average import MeanChange, StreamingMean
from p2pfusion.fusion.delta import DeltaSum
from p2pfusion.fusion.robust import RobustChange
from p2pfusion.fusion.sums import StreamingSum


def new_sum(
    range_sizes: ArrayLike, *, fusion: str, adds_changes: bool, sends_changes: bool
) -> StreamingSum:
    """For ranges of these sizes, as the manifest has it."""
    if adds_changes:
        return DeltaSum(range_sizes)
    if fusion != "mean":
        return RobustChange(range_sizes, fusion)
    return MeanChange(range_sizes) if sends_changes else StreamingMean(range_sizes)
