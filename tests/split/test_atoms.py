"""Atoms against a comparison of every pair of cells."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pfusion.errors import LayoutError
from p2pfusion.split.atoms import Atom, atoms, refine
from p2pfusion.split.indices import IndexSet
from p2pfusion.split.layout import Axis
from tests.strategies import axes, index_sets


@st.composite
def axes_with_sets(draw: st.DrawFn) -> tuple[Axis, list[IndexSet]]:
    axis = draw(axes())
    chosen = draw(st.lists(index_sets(axis.cell_count), max_size=6))
    return axis, [axis.cells(cells) for cells in chosen]


@given(axes_with_sets())
def test_two_cells_share_an_atom_if_the_same_sets_hold_them(
    case: tuple[Axis, list[IndexSet]],
) -> None:
    axis, sets = case
    found = atoms(axis, sets)
    atom_of = {cell: atom for atom in found for cell in atom.cells}
    assert sorted(atom_of) == list(range(axis.cell_count))

    def holders(cell: int) -> list[bool]:
        first = cell * axis.cell_size
        return [first in indices for indices in sets]

    for one in atom_of:
        mask = sum(held << bit for bit, held in enumerate(holders(one)))
        assert atom_of[one].members == mask
        for other in atom_of:
            same = holders(one) == holders(other)
            assert (atom_of[one] is atom_of[other]) == same


@given(axes_with_sets())
def test_atoms_are_ordered_by_first_cell(case: tuple[Axis, list[IndexSet]]) -> None:
    firsts = [atom.cells.ranges[0][0] for atom in atoms(*case)]
    assert firsts == sorted(firsts)


def test_without_sets_the_axis_is_one_atom() -> None:
    assert atoms(Axis("a", 6), []) == (Atom(IndexSet.span(0, 6), 0),)


def test_a_set_that_cuts_a_cell_is_refused() -> None:
    with pytest.raises(LayoutError):
        atoms(Axis("a", 64), [IndexSet.span(0, 3)])


@given(axes_with_sets(), st.integers(0, 40))
def test_refining_keeps_cells_and_members(
    case: tuple[Axis, list[IndexSet]], minimum_count: int
) -> None:
    axis, sets = case
    before = atoms(axis, sets)
    after = refine(before, minimum_count)
    assert {cell: atom.members for atom in after for cell in atom.cells} == {
        cell: atom.members for atom in before for cell in atom.cells
    }
    assert sum(len(atom.cells) for atom in after) == axis.cell_count
    held = [atom for atom in after if atom.members]
    held_before = [atom for atom in before if atom.members]
    held_cells = sum(len(atom.cells) for atom in held)
    assert len(held) == max(len(held_before), min(minimum_count, held_cells))
    # What nobody holds is one atom, and stays one.
    assert len(after) - len(held) == len(before) - len(held_before)
    firsts = [atom.cells.ranges[0][0] for atom in after]
    assert firsts == sorted(firsts)


def test_the_largest_atom_is_cut_first() -> None:
    whole = (Atom(IndexSet.span(0, 3), 1), Atom(IndexSet.span(3, 8), 2))
    assert refine(whole, 3) == (
        Atom(IndexSet.span(0, 3), 1),
        Atom(IndexSet.span(3, 6), 2),
        Atom(IndexSet.span(6, 8), 2),
    )
