"""MSfusion: windows shifted between peers and between rounds.

Source: Xie and Li, arXiv 2407.03622. Its full text was not at hand; what is here is
reconstructed, and ``docs/methods.md`` says from what.

- ``tied`` (the faithful reading): one shift over time for all axes, scaled by width.
  Peers stand apart by the overlap schedule. Of a weight matrix, whose two axes move
  together, only a band is ever trained.
- ``skewed``: axes that meet in a tensor move against each other, so that every entry
  is trained within a cycle. Excepted are tensors that follow one axis twice or three
  axes at once: no two moving windows reach all of these.
- ``blocks`` (ours, and the default): every axis is cut into the same number of blocks,
  and a peer trains the same ones of all axes, for ``dwell`` rounds or for good.
- ``lines`` (ours): windows of cells that are not neighbours, so chosen that every pair
  of them is in exactly one window of a cycle: entries of all matrices are trained.

And how the model begins: ``dense`` (as the model says, the faithful reading) or
``silent`` (ours, the default): entries that join different blocks begin as zero, so
that what nobody trains is silence in the whole model, and not noise.

Differs: the defaults are what measured best (``docs/results.md``), and not the paper's.
Windows move by grid cells; the paper's step is unread, and the pace matters.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from itertools import accumulate

from p2pfusion.errors import ConfigError
from p2pfusion.limits import MAX_CELLS_PER_AXIS
from p2pfusion.methods.base import PlanContext
from p2pfusion.split.blocks import block_window, part_of_block, silenced
from p2pfusion.split.indices import IndexSet
from p2pfusion.split.layout import Axis, Layout
from p2pfusion.split.plane import check_order, check_points, line_window, part_of_line
from p2pfusion.split.segment import Split
from p2pfusion.split.windows import (
    Overlap,
    Skew,
    overlapping_step,
    peer_offsets,
    rolling_window,
    shifted_window,
    skew_constants,
    stands_still,
    window_cells,
    window_width,
)

SHIFTS = ("tied", "skewed", "blocks", "lines")
STARTS = ("dense", "silent")
MAX_DWELL = 1_000_000
"""Rounds per shift: longer than any run, so a longer one is a slip of the pen."""


@dataclass(frozen=True)
class MSfusion:
    """Doubly shifted windows."""

    shift: str = "blocks"
    """How axes move: ``tied``, ``skewed``, ``blocks`` or ``lines``."""

    overlap: str | Mapping[str, object] = "auto"
    """How much neighbours' windows overlap over the run: see ``Overlap``. Tied only."""

    step: int | str = "half"
    """Cells per shift on the finest axis, or ``half`` of the narrowest window.

    If that would only pass the same windows around among the peers (evenly spaced
    windows, and a step that is a multiple of the spacing), it is one cell more. Tied
    windows only.
    """

    dwell: int = 1
    """Rounds that windows stay before they shift; 0: they never do."""

    start: str = "silent"
    """How entries between blocks begin: ``dense`` or ``silent``."""

    blocks: int = 4
    """Blocks per axis, where windows are blocks or the start is silent. A peer trains
    as many whole ones as its split fraction has room for. Of lines the number that has
    all cells, and of points of each."""

    def __post_init__(self) -> None:
        if self.shift not in SHIFTS:
            known = ", ".join(SHIFTS)
            raise ConfigError(f"shift: {self.shift!r} is none of {known}")
        if self.start not in STARTS:
            raise ConfigError(f"start: {self.start!r} is neither dense nor silent")
        if not _within(self.blocks, MAX_CELLS_PER_AXIS):
            raise ConfigError(f"blocks: not a number from 1 to {MAX_CELLS_PER_AXIS}")
        if self.shift == "lines":
            check_order(self.blocks, "blocks")
        object.__setattr__(self, "overlap", str(Overlap.parse(self.overlap, "overlap")))
        if self.step != "half" and not _within(self.step, MAX_CELLS_PER_AXIS):
            raise ConfigError(
                f'step: neither a number from 1 to {MAX_CELLS_PER_AXIS} nor "half"'
            )
        if not _within(self.dwell, MAX_DWELL, least=0):
            raise ConfigError(f"dwell: not a number of rounds from 0 to {MAX_DWELL}")
        if self.shift != "tied" and (self.overlap, self.step) != ("auto", "half"):
            raise ConfigError(
                f"overlap and step: {self.shift} windows are evenly spaced and have "
                "their own step",
                hint='leave both out, or use shift = "tied"',
            )

    def split(self, context: PlanContext, round_index: int, rank: int) -> Split:
        """The member's window on every axis."""
        if self.shift == "blocks":
            return self._blocks(context, round_index, rank)
        if self.shift == "lines":
            return self._lines(context, round_index, rank)
        if self.shift == "skewed":
            return self._skewed(context, round_index, rank)
        return self._tied(context, round_index, rank)

    def initial(self, layout: Layout) -> Layout:
        """The model as the swarm begins with it."""
        if self.shift == "lines":
            check_points(layout, self.blocks)
        return silenced(layout, self.blocks) if self.start == "silent" else layout

    def cycle_rounds(self, context: PlanContext) -> int:
        """Rounds after which windows that keep their spacing begin again."""
        if not self.dwell:
            return 1
        if self.shift == "blocks":
            return self.blocks * self.dwell
        if self.shift == "lines":
            return self.blocks * (self.blocks + 1) * self.dwell
        if self.shift == "skewed":
            skew = _skew(context, skew_constants(context.layout))
            return skew.cycle_steps * self.dwell
        finest_cells = _finest_cells(context)
        step_cells = self._step_cells(context, finest_cells)
        return finest_cells // math.gcd(finest_cells, step_cells) * self.dwell

    @cached_property
    def _schedule(self) -> Overlap:
        return Overlap.parse(self.overlap, "overlap")

    def _shifts(self, round_index: int) -> int:
        """How often the windows have moved before a round."""
        return round_index // self.dwell if self.dwell else 0

    def _blocks(self, context: PlanContext, round_index: int, rank: int) -> Split:
        """As many whole blocks as fit, one after the other over the ranks.

        Who has no room for one trains a part of it.
        """
        blocks = self.blocks
        counts, firsts = context.once(
            ("places", blocks), lambda: _places(context, blocks)
        )
        first = (firsts[rank] + self._shifts(round_index)) % blocks
        fraction = context.roster[rank].split_fraction

        def window(axis: Axis) -> IndexSet:
            if counts[rank]:
                return block_window(axis, first, counts[rank], blocks)
            return part_of_block(axis, first, blocks, window_cells(axis, fraction))

        return self._standing(context, (first, fraction), window)

    def _lines(self, context: PlanContext, round_index: int, rank: int) -> Split:
        """As many whole lines as fit. A shift turns to the next direction, and of that
        a peer takes the next line after the one of its last turn."""
        order, shifts = self.blocks, self._shifts(round_index)
        counts, firsts = context.once(
            ("places", order), lambda: _places(context, order)
        )
        direction, first = shifts % (order + 1), (firsts[rank] + shifts) % order
        fraction = context.roster[rank].split_fraction

        def window(axis: Axis) -> IndexSet:
            if counts[rank]:
                return line_window(axis, direction, first, counts[rank], order)
            width_cells = window_cells(axis, fraction)
            return part_of_line(axis, direction, first, order, width_cells)

        return self._standing(context, (direction, first, fraction), window)

    def _skewed(self, context: PlanContext, round_index: int, rank: int) -> Split:
        fraction = context.roster[rank].split_fraction
        layout, shifts = context.layout, self._shifts(round_index)
        constants = context.once("constants", lambda: skew_constants(layout))
        skew = context.once("skew", lambda: _skew(context, constants))

        def window(axis: Axis) -> IndexSet:
            start_cell = skew.start_cell(
                axis.cell_count,
                constant=constants[axis.name],
                step_index=shifts,
                rank=rank,
            )
            return rolling_window(axis, window_cells(axis, fraction), start_cell)

        first = rank * skew.positions // skew.peer_count
        return self._standing(context, (shifts, first, fraction), window)

    def _tied(self, context: PlanContext, round_index: int, rank: int) -> Split:
        fraction = context.roster[rank].split_fraction
        overlap = context.once(
            (self, "overlap", round_index),
            lambda: self._overlap_at(context, round_index),
        )
        finest_cells = _finest_cells(context)
        step_cells = context.once(
            (self, "step"), lambda: self._step_cells(context, finest_cells)
        )
        shift_cells = self._shifts(round_index) * step_cells
        offsets = {
            count: _offsets(context, count, overlap)[rank]
            for count in {axis.cell_count for axis in context.layout.axes}
        }

        def window(axis: Axis) -> IndexSet:
            return shifted_window(
                axis,
                window_cells(axis, fraction),
                peer_offset_cells=offsets[axis.cell_count],
                round_shift_cells=shift_cells * axis.cell_count // finest_cells,
            )

        place = (shift_cells, *offsets.values(), fraction)
        return self._standing(context, place, window)

    def _standing(
        self,
        context: PlanContext,
        place: tuple[Hashable, ...],
        window: Callable[[Axis], IndexSet],
    ) -> Split:
        """The windows on all axes. Whoever stands at the same place has the same
        object: of a thousand peers most do."""
        axes = context.layout.axes
        return context.once(
            (self, *place), lambda: Split.of({a.name: window(a) for a in axes})
        )

    def _overlap_at(self, context: PlanContext, round_index: int) -> Fraction | None:
        progress = Fraction(round_index, max(1, context.rounds))
        return self._schedule.at(progress, context.fractions)

    def _step_cells(self, context: PlanContext, cell_count: int) -> int:
        """The step on an axis of so many cells; not one that leaves all as it was."""
        kept, name = context.kept, ("step", self, cell_count)
        if name not in kept:
            kept[name] = self._found_step_cells(context, cell_count)
        found: int = kept[name]  # type: ignore[assignment]
        return found

    def _found_step_cells(self, context: PlanContext, cell_count: int) -> int:
        narrowest = window_width(cell_count, context.narrowest)
        step_cells = (
            overlapping_step(narrowest, Fraction(1, 2))
            if isinstance(self.step, str)
            else self.step
        )
        if step_cells == 1:
            return 1
        ends = [self._windows(context, cell_count, t) for t in (0, context.rounds)]

        def still(step_cells: int) -> bool:
            return any(stands_still(cell_count, end, step_cells) for end in ends)

        return step_cells + (still(step_cells) and not still(step_cells + 1))

    def _windows(
        self, context: PlanContext, cell_count: int, round_index: int
    ) -> list[tuple[int, int]]:
        overlap = self._overlap_at(context, round_index)
        offsets = _offsets(context, cell_count, overlap)
        widths = (window_width(cell_count, f) for f in context.fractions)
        return list(zip(offsets, widths, strict=True))


def _places(context: PlanContext, blocks: int) -> tuple[list[int], list[int]]:
    """How many whole blocks every rank has room for, and which is its first one."""
    counts = [f.numerator * blocks // f.denominator for f in context.fractions]
    return counts, [0, *accumulate(max(1, count) for count in counts)]


def _offsets(
    context: PlanContext, cell_count: int, overlap: Fraction | None
) -> tuple[int, ...]:
    """Every rank's, from the first one that asks."""
    return context.once(
        ("offsets", cell_count, overlap),
        lambda: peer_offsets(cell_count, context.fractions, overlap),
    )


def _skew(context: PlanContext, constants: Mapping[str, int]) -> Skew:
    return Skew.of(context.fractions, max(constants.values(), default=1))


def _finest_cells(context: PlanContext) -> int:
    return max((axis.cell_count for axis in context.layout.axes), default=1)


def _within(value: object, largest: int, least: int = 1) -> bool:
    if isinstance(value, bool) or not isinstance(value, int):
        return False
    return least <= value <= largest
