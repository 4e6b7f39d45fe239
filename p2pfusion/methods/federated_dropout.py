"""Federated Dropout: random cells of every width, drawn anew for every peer and round.

Source: Caldas et al., 2018, in the form of FedRolex's baseline.

Differs: one draw per axis instead of one per layer, so that layers joined by a residual
sum keep the same channels; and whole grid cells are drawn.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass

from p2pfusion.methods.base import PlanContext
from p2pfusion.split.indices import IndexSet
from p2pfusion.split.segment import Split
from p2pfusion.split.windows import window_cells

_BYTES_PER_CELL = 8
"""Two cells draw the same number about once in 10^16 axes; the lower cell then wins."""


@dataclass(frozen=True)
class FederatedDropout:
    """Cells in the order of a hash of (seed, round, peer, axis); the first ones win."""

    def split(self, context: PlanContext, round_index: int, rank: int) -> Split:
        """The cells that the hash draws for this peer: other peers do not matter."""
        member = context.roster[rank]
        sets: list[tuple[str, IndexSet]] = []
        for axis in context.layout.axes:
            order = _order(
                [context.seed, round_index, member.peer, axis.name], axis.cell_count
            )
            width_cells = window_cells(axis, member.split_fraction)
            sets.append(
                (axis.name, axis.cells(IndexSet.from_indices(order[:width_cells])))
            )
        return Split(tuple(sets))


def _order(key: list[int | str], count: int) -> list[int]:
    """The numbers below ``count``, in an order that only the key decides."""
    text = json.dumps(key, separators=(",", ":")).encode()
    stream = hashlib.shake_256(text).digest(count * _BYTES_PER_CELL)

    def drawn(number: int) -> bytes:
        return stream[number * _BYTES_PER_CELL : (number + 1) * _BYTES_PER_CELL]

    return sorted(range(count), key=drawn)
