"""FedRolex: one window rolls over every width, at the same place for all peers.

Source: Alam et al., NeurIPS 2022, and its published code.

Differs: the published code advances one index per round, downwards; here a window
advances one grid cell, upwards, because windows stand on cells.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from p2pfusion.methods.base import PlanContext
from p2pfusion.split.segment import Split
from p2pfusion.split.windows import rolling_window, window_cells


@dataclass(frozen=True)
class FedRolex:
    """Windows of the peers' own widths that all start at the same rolling cell."""

    cells_per_round: ClassVar[int] = 1

    def split(self, context: PlanContext, round_index: int, rank: int) -> Split:
        """On every axis the cells from ``round_index * cells_per_round`` on."""
        fraction = context.roster[rank].split_fraction
        start_cell = round_index * self.cells_per_round

        def windows() -> Split:
            return Split.of(
                {
                    axis.name: rolling_window(
                        axis, window_cells(axis, fraction), start_cell
                    )
                    for axis in context.layout.axes
                }
            )

        return context.once((fraction, start_cell), windows)
