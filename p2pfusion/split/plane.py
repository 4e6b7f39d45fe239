"""Lines of a finite plane as windows: sets of cells that bring every pair together.

An axis is cut into q x q points of as many cells each, in the order q x + y of point
(x, y). Over a field of q elements these points are an affine plane. Its q^2 + q lines
of q points each come in q + 1 directions; the q lines of one direction share nothing
and hold every point, and two points lie together on exactly one line. So lines of one
direction cover an axis in one round, and all directions, one after the other, cover
every pair of points: of a matrix between two axes every entry, after q + 1 rounds.

Direction 0 has the lines x = c, which are the blocks of ``split/blocks.py``; direction
m + 1 has the lines y = m x + c.

Source: designs from affine planes are textbook (Bose, 1938); as windows of sub-models
they are ours.
"""

from __future__ import annotations

from functools import cache
from itertools import chain

from p2pfusion.errors import ConfigError
from p2pfusion.split.indices import IndexSet
from p2pfusion.split.layout import Axis, Layout

ORDERS = (2, 3, 4, 5)
"""Numbers q of elements of a field. An axis has at most 32 cells, so 5 x 5 points."""

_PRODUCTS_OF_FOUR = ((0, 0, 0, 0), (0, 1, 2, 3), (0, 2, 3, 1), (0, 3, 1, 2))
"""Of the field of four elements: 2 and 3 are the roots of x^2 + x + 1."""


@cache
def plane(order: int) -> tuple[tuple[tuple[int, ...], ...], ...]:
    """The points q x + y of every line, by direction and by its constant c."""
    numbers = range(order)
    blocks = tuple(tuple(order * c + y for y in numbers) for c in numbers)
    slopes = (
        tuple(
            tuple(order * x + _sum(_product(m, x, order), c, order) for x in numbers)
            for c in numbers
        )
        for m in numbers
    )
    return (blocks, *slopes)


def line_window(
    axis: Axis, direction: int, first: int, count: int, order: int
) -> IndexSet:
    """The indices of ``count`` lines of a direction from number ``first`` on, around
    all of its q lines."""
    if count >= order:
        return IndexSet.span(0, axis.size)
    lines = plane(order)[direction]
    numbers = ((first + step) % order for step in range(count))
    points = chain.from_iterable(lines[number] for number in numbers)
    cells = chain.from_iterable(_cells(axis, point, order) for point in points)
    return axis.cells(IndexSet.from_indices(cells))


def part_of_line(
    axis: Axis, direction: int, first: int, order: int, width_cells: int
) -> IndexSet:
    """The first cells of a line, for a peer that has no room for all of them."""
    whole = axis.cells_in(line_window(axis, direction, first, 1, order))
    return axis.cells(IndexSet.from_indices(list(whole)[:width_cells]))


def check_order(order: int, where: str) -> None:
    """Refuses a number of lines that there is no plane of here."""
    if order not in ORDERS:
        known = ", ".join(map(str, ORDERS))
        raise ConfigError(
            f"{where}: there are no lines with {order} points here",
            hint=f'use one of {known}, or shift = "blocks"',
        )


def check_points(layout: Layout, order: int) -> None:
    """Refuses a model of which some axis cannot be cut into the plane's points.

    If points had unequal numbers of cells, some lines would have more of them than a
    peer has room for.
    """
    for axis in layout.widths:
        if axis.cell_count % order**2:
            raise ConfigError(
                f"axis {axis.name!r} has {axis.cell_count} separable cells, which are "
                f"no multiple of the {order**2} points of {order} x {order} lines",
                hint='change the width or blocks, or use shift = "blocks"',
            )


def _cells(axis: Axis, point: int, order: int) -> range:
    cells_per_point = axis.cell_count // order**2
    return range(point * cells_per_point, (point + 1) * cells_per_point)


def _sum(one: int, other: int, order: int) -> int:
    return one ^ other if order == 4 else (one + other) % order


def _product(one: int, other: int, order: int) -> int:
    return _PRODUCTS_OF_FOUR[one][other] if order == 4 else one * other % order
