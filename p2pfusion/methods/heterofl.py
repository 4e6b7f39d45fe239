"""HeteroFL: every peer trains the first part of every width.

Source: Diao et al., ICLR 2021. It is FedRolex with a window that never rolls. Without a
peer that trains the full width, everything beyond the widest prefix stays untrained.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from p2pfusion.methods.fedrolex import FedRolex


@dataclass(frozen=True)
class HeteroFL(FedRolex):
    """Prefix windows: the rolling window stands still."""

    cells_per_round: ClassVar[int] = 0
