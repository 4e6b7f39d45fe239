"""Atoms: the finest pieces of an axis that several index sets can tell apart.

Two cells belong to one atom if exactly the same sets contain them, so all that a plan
must decide it decides once per atom. Sets here are unions of grid cells; an axis has at
most 32 of these, whatever the number of sets.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from p2pfusion.split.indices import IndexSet
from p2pfusion.split.layout import Axis


@dataclass(frozen=True)
class Atom:
    """Cells, not necessarily adjacent, and the sets (bit i: set i) that hold them."""

    cells: IndexSet
    members: int


def atoms(axis: Axis, sets: Sequence[IndexSet]) -> tuple[Atom, ...]:
    """The partition of the axis' cells by membership, ordered by first cell.

    Cells that no set holds form an atom too. ``LayoutError`` if a set cuts a cell.
    """
    holders: dict[IndexSet, int] = {}  # of a thousand peers many have the same set
    for position, indices in enumerate(sets):
        holders[indices] = holders.get(indices, 0) | 1 << position
    members = [0] * axis.cell_count
    for indices, found in holders.items():
        for cell in axis.cells_in(indices):
            members[cell] |= found
    groups: dict[int, list[int]] = {}
    for cell, mask in enumerate(members):
        groups.setdefault(mask, []).append(cell)
    return tuple(Atom(IndexSet.from_indices(c), mask) for mask, c in groups.items())


def refine(atoms: Sequence[Atom], minimum_count: int) -> tuple[Atom, ...]:
    """At least so many atoms that some set holds, by halving the largest of these.

    Of equally large atoms the first is cut, at a cell border; single cells stay whole,
    and so does what nobody holds: nothing of it ever moves. The result is ordered by
    first cell again.
    """
    idle = [atom for atom in atoms if not atom.members]
    pieces = [atom for atom in atoms if atom.members]
    while pieces and len(pieces) < minimum_count:
        largest = max(pieces, key=lambda atom: len(atom.cells))
        cells = list(largest.cells)
        if len(cells) < 2:
            break
        middle = (len(cells) + 1) // 2
        halves = (cells[:middle], cells[middle:])
        at = pieces.index(largest)
        pieces[at : at + 1] = [
            Atom(IndexSet.from_indices(half), largest.members) for half in halves
        ]
    return tuple(sorted([*pieces, *idle], key=lambda atom: atom.cells.ranges))
