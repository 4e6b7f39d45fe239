"""Ranges: the pieces of the model that a plan deals with, and who holds them.

Every axis is cut into atoms, the largest sets of cells that each peer's current and
following split contain wholly or not at all, and these into smaller ones until there
are enough pieces to share out. A **range** is a product of atoms of one signature's
axes. Ranges are numbered by signature, then in C order of the atoms.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np

from p2pfusion.split.atoms import Atom, atoms, refine
from p2pfusion.split.grid import (
    Counts,
    Mask,
    elements_per_position,
    outer_and,
    outer_product,
)
from p2pfusion.split.indices import IndexSet
from p2pfusion.split.layout import Axis, Dimension, Layout, Signature
from p2pfusion.split.segment import Segment, Split

RANGES_PER_PEER = 4
"""Ranges of one signature for each peer: with fewer, equal splits (one atom an axis)
could not be shared out evenly; with more, segments only get smaller."""

REMEMBERED_GRIDS = 32
"""Most methods move windows in a circle, after which the same splits come again: no
axis has more cells than so many, so a window that moves by one is round by then."""

REMEMBERED_LARGE = 4
"""The same in a swarm of many, whose splits take memory. With blocks of half of every
width there are four pairs of rounds."""

LARGE_SWARM = 64
"""Peers."""


@dataclass(frozen=True, eq=False)
class AxisAtoms:
    """One axis cut into atoms. ``current`` and ``following`` are (peers, atoms)."""

    axis: Axis
    atoms: tuple[Atom, ...]
    current: Mask
    following: Mask

    @cached_property
    def indices(self) -> tuple[IndexSet, ...]:
        """The axis' indices in each atom."""
        return tuple(self.axis.cells(atom.cells) for atom in self.atoms)

    def expand(self, dimension: Dimension) -> list[IndexSet]:
        """The positions of each atom in a tensor's dimension that follows this axis."""
        return [dimension.expand(each, self.axis.size) for each in self.indices]

    @cached_property
    def lengths(self) -> Counts:
        """Number of indices in each atom."""
        return np.array([len(each) for each in self.indices], np.int64)

    @cached_property
    def labels(self) -> Counts:
        """The atom of each cell."""
        labels = np.zeros(self.axis.cell_count, np.int64)
        for number, atom in enumerate(self.atoms):
            for start, stop in atom.cells.ranges:
                labels[start:stop] = number
        return labels


@dataclass(frozen=True, eq=False)
class RangeGrid:
    """The ranges of one signature; ``first`` is the number of the first of them."""

    layout: Layout
    signature: Signature
    axes: tuple[AxisAtoms, ...]
    first: int
    sizes: Counts  # elements of each range, over all parameters
    there: Mask  # (peers,): who has a current split
    next_there: Mask  # (peers,): who has a following split

    @cached_property
    def cells(self) -> Counts:
        """The number of each cell's range, shaped as the grid of cells."""
        numbers = np.zeros((), np.int64)
        for axis in self.axes:
            numbers = numbers[..., None] * len(axis.atoms) + axis.labels
        return numbers + self.first

    def holders(self) -> Mask:
        """(peers, ranges): who has the range in its current split."""
        return self._members([axis.current for axis in self.axes], self.there)

    def next_holders(self) -> Mask:
        """(peers, ranges): who has the range in its following split."""
        return self._members([axis.following for axis in self.axes], self.next_there)

    def _members(self, masks: Sequence[Mask], there: Mask) -> Mask:
        # Without axes there is nothing to cut: everybody holds it who has a split.
        held = outer_and(masks, len(there)).reshape(len(there), len(self.sizes))
        return held & there[:, None]

    def own_elements(self) -> Counts:
        """Per peer, the elements of its current and of its following split."""
        now, then = self.there.astype(np.int64), self.next_there.astype(np.int64)
        for axis in self.axes:
            now = now * (axis.current @ axis.lengths)
            then = then * (axis.following @ axis.lengths)
        return (now + then) * elements_per_position(self.layout, self.signature)

    @cached_property
    def _sets(self) -> list[list[list[IndexSet]]]:
        """Per parameter and dimension, the positions of each atom (uncut: of all)."""
        found = []
        for parameter in self.signature.parameters:
            axes = iter(self.axes)
            found.append(
                [
                    [d.expand(None, 0)] if d.axis is None else next(axes).expand(d)
                    for d in self.layout.parameters[parameter].dimensions
                ]
            )
        return found

    def segments(self, number: int) -> tuple[Segment, ...]:
        """The range with this number, parameter by parameter."""
        if number not in self._segments:
            self._segments[number] = tuple(self._found(number))
        return self._segments[number]

    @cached_property
    def _segments(self) -> dict[int, tuple[Segment, ...]]:
        return {}

    def _found(self, number: int) -> Iterator[Segment]:
        position = number - self.first
        atoms_backwards: list[int] = []
        for axis in reversed(self.axes):
            position, atom = divmod(position, len(axis.atoms))
            atoms_backwards.append(atom)
        for parameter, sets in zip(self.signature.parameters, self._sets, strict=True):
            dimensions = self.layout.parameters[parameter].dimensions
            rest = reversed(atoms_backwards)
            yield Segment(
                parameter,
                tuple(
                    each[0] if d.axis is None else each[next(rest)]
                    for d, each in zip(dimensions, sets, strict=True)
                ),
            )


@dataclass(frozen=True, eq=False)
class Ranges:
    """The ranges of all signatures, for the splits of so many peers. The arrays are
    shared: do not change them."""

    grids: tuple[RangeGrid, ...]
    peer_count: int

    @cached_property
    def holders(self) -> Mask:
        """(peers, ranges): who has a range in its current split."""
        return self._members([grid.holders() for grid in self.grids])

    @cached_property
    def next_holders(self) -> Mask:
        """(peers, ranges): who has a range in its following split."""
        return self._members([grid.next_holders() for grid in self.grids])

    def _members(self, masks: Sequence[Mask]) -> Mask:
        none = np.zeros((self.peer_count, 0), np.bool_)
        return np.concatenate([none, *masks], axis=1)

    @cached_property
    def sizes(self) -> Counts:
        """Elements of each range."""
        return np.concatenate([np.zeros(0, np.int64), *(g.sizes for g in self.grids)])

    @cached_property
    def cells(self) -> tuple[Counts, ...]:
        """Per signature, the number of each cell's range."""
        return tuple(grid.cells for grid in self.grids)

    def trained(self) -> list[Mask]:
        """Per signature, over the grid, what anybody trains."""
        held: Mask = np.any(self.holders, axis=0)
        return [held[cells] for cells in self.cells]

    def wanted(self) -> list[Mask]:
        """Per signature (peers, cells...): what each needs next."""
        return [self.next_holders[:, cells] for cells in self.cells]

    @cached_property
    def own_elements(self) -> Counts:
        """Per peer, the elements of its current and of its following split."""
        none = np.zeros(self.peer_count, np.int64)
        return sum((grid.own_elements() for grid in self.grids), none)

    @cached_property
    def _firsts(self) -> list[Counts]:
        """Per signature, the first cell of each range."""
        return [np.unique(cells, return_index=True)[1] for cells in self.cells]

    def first_homes(self, homes: Sequence[Counts]) -> Counts:
        """For every range the home of its first cell."""
        pairs = zip(self._firsts, homes, strict=True)
        found = (home.ravel()[first] for first, home in pairs)
        return np.concatenate([np.zeros(0, np.int64), *found])


def ranges_of(
    layout: Layout,
    current: tuple[Split | None, ...],
    following: tuple[Split | None, ...],
) -> Ranges:
    """The ranges of every signature, for the splits of the same peers in order."""
    find = _ranges if len(current) <= LARGE_SWARM else _ranges_of_many
    return find(layout, current, following)


@lru_cache(maxsize=REMEMBERED_GRIDS)
def _ranges(
    layout: Layout,
    current: tuple[Split | None, ...],
    following: tuple[Split | None, ...],
) -> Ranges:
    return Ranges(tuple(_range_grids(layout, current, following)), len(current))


_ranges_of_many = lru_cache(maxsize=REMEMBERED_LARGE)(_ranges.__wrapped__)


def _range_grids(
    layout: Layout,
    current: Sequence[Split | None],
    following: Sequence[Split | None],
) -> Iterator[RangeGrid]:
    peer_count = len(current)
    there, next_there = _given(current), _given(following)
    whole: dict[str, tuple[Atom, ...]] = {}
    cut: dict[tuple[str, int], AxisAtoms] = {}
    first = 0
    for signature in layout.signatures:
        widths = [name for name in signature.axes if not layout.axis(name).is_gate]
        wanted = _root(RANGES_PER_PEER * peer_count, len(widths))
        for name in signature.axes:
            axis = layout.axis(name)
            if name not in whole:
                splits = (*current, *following)
                sets = [IndexSet() if s is None else s[name] for s in splits]
                whole[name] = atoms(axis, sets)
            if (name, wanted) not in cut:
                pieces = refine(whole[name], wanted)
                cut[name, wanted] = _axis_atoms(axis, pieces, peer_count)
        axes = tuple(cut[name, wanted] for name in signature.axes)
        sizes = outer_product([axis.lengths for axis in axes]).ravel()
        sizes = sizes * elements_per_position(layout, signature)
        yield RangeGrid(layout, signature, axes, first, sizes, there, next_there)
        first += len(sizes)


def _given(splits: Sequence[Split | None]) -> Mask:
    given: Mask = np.array([split is not None for split in splits], np.bool_)
    return given


def _root(number: int, degree: int) -> int:
    """The smallest integer whose power of this degree is at least ``number``."""
    root = 1
    while degree and root**degree < number:
        root += 1
    return root


def _axis_atoms(axis: Axis, pieces: tuple[Atom, ...], peer_count: int) -> AxisAtoms:
    width = max(1, -(-2 * peer_count // 8))
    packed = b"".join(piece.members.to_bytes(width, "little") for piece in pieces)
    rows = np.frombuffer(packed, np.uint8).reshape(len(pieces), width)
    bits = np.unpackbits(rows, axis=1, bitorder="little").astype(np.bool_).T
    return AxisAtoms(axis, pieces, bits[:peer_count], bits[peer_count : 2 * peer_count])
