"""Which part of each axis every peer trains, in the last rounds, for people who watch.

An axis is shown by its grid cells, at most 32 of them, so what a peer trains of an axis
is one number: bit ``i`` stands for cell ``i``. A gate has a single cell. Reading only:
nothing here decides anything.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping

from p2pfusion.limits import MAX_WINDOW_MASKS, WINDOW_HISTORY
from p2pfusion.split.indices import IndexSet
from p2pfusion.split.layout import Axis, Layout
from p2pfusion.split.segment import Split

Row = dict[str, object]


class Windows:
    """The rounds that this peer has entered, and who trains what in them."""

    def __init__(self) -> None:
        self._rounds: deque[tuple[int, dict[str, list[int]]]] = deque(
            maxlen=WINDOW_HISTORY
        )

    def enter(self, number: int, layout: Layout, splits: Mapping[str, Split]) -> None:
        """A round begins; where that is much, only the first axes are kept."""
        kept = layout.axes[: max(1, MAX_WINDOW_MASKS // max(1, len(splits)))]
        masks = {
            peer: [mask(axis, split.trained[axis.name]) for axis in kept]
            for peer, split in splits.items()
        }
        self._rounds.append((number, masks))

    def after(self, number: int, count: int) -> list[Row]:
        """The rounds after this one, oldest first, at most so many."""
        rows = [row for row in self._rounds if row[0] > number][:count]
        return [{"number": number, "masks": masks} for number, masks in rows]


def mask(axis: Axis, indices: IndexSet) -> int:
    """The grid cells of the axis in which some of the indices lie, as bits."""
    size, found = axis.cell_size, 0
    for start, stop in indices.ranges:
        found |= (1 << -(-stop // size)) - (1 << start // size)
    return found


def axes_told(layout: Layout) -> list[Row]:
    """What a mask of each axis means."""
    return [
        {"name": axis.name, "size": axis.size, "cell_size": axis.cell_size}
        for axis in layout.axes
    ]
