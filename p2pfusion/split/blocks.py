"""Blocks: every axis cut into the same number of parts, and models that begin silent.

Block b of q holds the cells ``floor(b C / q)`` to ``floor((b + 1) C / q)`` of an axis
of C cells. In a *silent* model every entry that joins two different blocks begins as
zero, so the whole model begins as q small ones side by side: what a peer trains inside
one block means the same in the whole model as in the peer's own.
"""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from math import ceil, sqrt

from p2pfusion.errors import ConfigError
from p2pfusion.split.indices import IndexSet
from p2pfusion.split.layout import Axis, Initial, Layout, ParameterSpec


def block_window(axis: Axis, first: int, count: int, blocks: int) -> IndexSet:
    """The indices of ``count`` of an axis' ``blocks`` blocks from ``first`` on.

    Blocks are counted around the axis. On an axis of fewer cells blocks share them.
    """
    cell_count = axis.cell_count
    if count >= blocks:
        return IndexSet.span(0, axis.size)
    first %= blocks
    start = first * cell_count // blocks
    end = (first + count) * cell_count // blocks  # past the axis if they go around it
    end = max(end, start + 1)
    return axis.cells(IndexSet.cyclic(start, end - start, cell_count))


def block_of_cells(axis: Axis, blocks: int) -> list[int]:
    """The block of every cell of an axis."""
    cell_count = axis.cell_count
    starts = [block * cell_count // blocks for block in range(blocks + 1)]
    found = range(blocks)
    return [block for block in found for _ in range(starts[block], starts[block + 1])]


def silenced(layout: Layout, blocks: int) -> Layout:
    """The same model, silent between blocks.

    Weights inside a block begin larger by ``sqrt(blocks)``: each unit has so many times
    fewer inputs, and its sum shall be as large as before. ``ConfigError`` if an axis
    has too few cells.
    """
    if blocks <= 1:
        return layout
    for axis in layout.widths:
        if blocks > axis.cell_count:
            raise ConfigError(
                f"axis {axis.name!r} has only {axis.cell_count} separable cells, too "
                f"few for {blocks} blocks",
                hint="set the method argument blocks to less, or use a wider model",
            )
    silent = (_silenced(parameter, blocks) for parameter in layout.parameters)
    return replace(layout, parameters=tuple(silent))


def _silenced(parameter: ParameterSpec, blocks: int) -> ParameterSpec:
    if len(parameter.axes) < 2 or parameter.initial.kind != "uniform":
        return parameter
    initial = Initial("uniform", parameter.initial.bound * sqrt(blocks), blocks)
    return replace(parameter, initial=initial)


def part_of_block(axis: Axis, block: int, blocks: int, width_cells: int) -> IndexSet:
    """The first cells of a block, for a peer that has no room for all of them."""
    start = block % blocks * axis.cell_count // blocks
    whole = len(axis.cells_in(block_window(axis, block, 1, blocks)))
    return axis.cells(IndexSet.span(start, start + min(width_cells, whole)))


def check_blocks(layout: Layout, fraction: Fraction, where: str) -> None:
    """Refuses to begin with blocks that are larger than what a peer trains.

    Later a peer may have to do with less than a block; as the plan of a whole swarm it
    would leave parts of all blocks untrained.
    """
    if layout.blocks > 1 and fraction * layout.blocks < 1:
        raise ConfigError(
            f"{where}: split fraction {float(fraction):g} is less than one of the "
            f"{layout.blocks} blocks that the model begins with",
            hint=f"set the method argument blocks to {ceil(1 / fraction)} or more",
        )
