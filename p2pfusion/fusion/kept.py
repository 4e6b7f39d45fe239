"""Contributions that are kept, and looked at side by side.

Robust rules need all values of an element at once, so each contribution stays as it
came, in float32: a reducer has as many values more in memory as holders send it, and
four bytes each. What is computed of them is computed block by block.

Where windows move, every range has its own few holders. A *group* is all ranges of a
reducer that came whole from the very same holders: within it there is one number of
holders, and lengths can be compared. A range of which only a part came from a holder is
left out of that holder's contribution: otherwise its elements would have other holders
than each other, and whoever breaks off chooses where.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from p2pfusion.fusion.sums import Cursor, Floats

Counts = NDArray[np.int64]
Doubles = NDArray[np.float64]

BLOCK_ELEMENTS = 1 << 14
"""Elements of which all holders' changes are widened to float64 at a time."""


class Kept(Cursor):
    """A contribution that is not summed but kept."""

    _values: Floats | None = None

    def _take(self, values: Floats) -> None:
        if self._values is None:
            self._values = np.empty(self.expected_count, np.float32)
        start = self.received_count
        self._values[start : start + values.size] = values

    @property
    def values(self) -> Floats:
        """What has come, in the stream's order."""
        if self._values is None:
            return np.empty(0, np.float32)
        return self._values[: self.received_count]

    def offsets(self, sizes: Counts) -> Counts:
        """Of each range of the sum, where its values begin here; -1 where they did not
        come whole."""
        ends = np.cumsum(sizes[self.positions])
        whole = (ends <= self.received_count) & ~self.absent
        found = np.full(len(sizes), -1, np.int64)
        starts = ends - sizes[self.positions]
        found[self.positions[whole]] = starts[whole]
        return found

    def at(self, elements: Counts, starts: Counts) -> Floats:
        """What it says of some elements of the sum, NaN where nothing came whole;
        ``starts`` of its ranges, and its end."""
        ranges = np.searchsorted(starts, elements, side="right") - 1
        firsts = self.offsets(np.diff(starts))[ranges]
        found = np.full(len(elements), np.nan, np.float32)
        whole = firsts >= 0
        found[whole] = self.values[(firsts + elements - starts[ranges])[whole]]
        return found

    def free(self) -> None:
        """Its memory is given back."""
        self._values = None


Run = tuple[int, int, Counts]
"""Elements that lie side by side in the result and in each contribution: where in the
result, how many, and where in each."""


@dataclass(frozen=True)
class Group:
    """Ranges that the same contributions have."""

    members: Counts
    """Which contributions, ascending."""
    runs: Sequence[Run]

    @property
    def size(self) -> int:
        """Its elements."""
        return sum(count for _, count, _ in self.runs)

    def blocks(self) -> Iterator[list[Run]]:
        """Its runs, cut so that no block has more than ``BLOCK_ELEMENTS``."""
        block: list[Run] = []
        room = BLOCK_ELEMENTS
        for start, count, offsets in self.runs:
            done = 0
            while done < count:
                taken = min(count - done, room)
                block.append((start + done, taken, offsets + done))
                done, room = done + taken, room - taken
                if not room:
                    yield block
                    block, room = [], BLOCK_ELEMENTS
        if block:
            yield block

    def stack(self, block: list[Run], kept: Sequence[Kept]) -> Doubles:
        """(members, elements): what the members say of a block's elements."""
        count = sum(size for _, size, _ in block)
        found = np.empty((len(self.members), count))
        for row, member in enumerate(self.members.tolist()):
            values, at = kept[member].values, 0
            for _, size, offsets in block:
                first = int(offsets[row])
                found[row, at : at + size] = values[first : first + size]
                at += size
        return found


def gather(block: list[Run], values: Floats) -> Doubles:
    """A block's elements of the result."""
    parts = [values[start : start + count] for start, count, _ in block]
    return np.concatenate(parts).astype(np.float64)


def scatter(block: list[Run], values: Doubles, out: Floats) -> None:
    """A block's elements, put where they belong in the result."""
    at = 0
    for start, count, _ in block:
        out[start : start + count] = values[at : at + count]
        at += count


def groups(kept: Sequence[Kept], sizes: Counts) -> list[Group]:
    """All ranges that came whole from somebody, by who has them."""
    if not kept or not len(sizes):
        return []
    offsets = np.stack([each.offsets(sizes) for each in kept])  # (kept, ranges)
    by_holders: dict[bytes, list[int]] = {}
    for number, column in enumerate((offsets >= 0).T):
        if column.any():
            by_holders.setdefault(column.tobytes(), []).append(number)
    starts = np.cumsum(sizes) - sizes
    found = []
    for ranges in by_holders.values():
        numbers = np.array(ranges, np.int64)
        members = np.flatnonzero(offsets[:, numbers[0]] >= 0)
        where = offsets[np.ix_(members, numbers)]
        found.append(Group(members, _runs(numbers, where, starts, sizes)))
    return found


def _runs(ranges: Counts, where: Counts, starts: Counts, sizes: Counts) -> list[Run]:
    """Ranges that follow each other in the result and everywhere, joined."""
    lengths = sizes[ranges]
    follows = (np.diff(starts[ranges]) == lengths[:-1]) & (
        np.diff(where, axis=1) == lengths[:-1]
    ).all(axis=0)
    firsts = np.flatnonzero(np.concatenate([[True], ~follows]))
    counts = np.add.reduceat(lengths, firsts)
    return [
        (int(starts[ranges[first]]), int(count), where[:, first])
        for first, count in zip(firsts.tolist(), counts.tolist(), strict=True)
    ]
