"""Federated averaging: every peer trains the whole model.

The full-width reference that the other methods equal at split fraction 1. Source:
McMahan et al., AISTATS 2017.
"""

from __future__ import annotations

from dataclasses import dataclass

from p2pfusion.methods.base import PlanContext
from p2pfusion.split.segment import Split


@dataclass(frozen=True)
class FedAvg:
    """Everything, always. Split fractions are ignored."""

    def split(self, context: PlanContext, round_index: int, rank: int) -> Split:
        """The whole model."""
        return Split.full(context.layout)
