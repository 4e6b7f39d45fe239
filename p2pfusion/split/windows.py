"""Ways to choose the indices of one axis: how wide a window is and where it starts.

Everything is counted in grid cells of one axis, exactly: widths and overlaps are
fractions, starts are integers, so every peer finds the same window on every platform.
A start may be any integer; windows are cyclic. Which rule applies to which peer in
which round is a method's business; here are only the rules.

Source: MSfusion (arXiv 2407.03622), reconstructed, because its full text was not at
hand; ``docs/methods.md`` derives the formulas.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import accumulate, count

from p2pfusion.errors import ConfigError
from p2pfusion.split.depth import is_cut_in_depth
from p2pfusion.split.indices import IndexSet
from p2pfusion.split.layout import Axis, Layout

OVERLAP_KINDS = {"auto": 0, "constant": 1, "linear": 2, "cosine": 2}
"""Overlap schedules, and how many overlaps each takes."""

FULL = "full"
"""Stands for the largest overlap that still covers every index each round."""

_CAPPED = re.compile(r"min\((.{1,50}),full\)")

_NUMBER = re.compile(r"[0-9]{1,20}(\.[0-9]{0,20})?|[0-9]{1,20}/[0-9]{1,20}")
"""No exponents: the text ``1e999999999`` would be expanded before it is refused."""


def exact_fraction(value: object) -> Fraction:
    """A number, or its text, as the fraction that was meant; ``ValueError`` if none.

    Exact, because ``ceil(0.1 * 30)`` is 4 in binary floating point and 3 on paper.
    """
    if isinstance(value, bool) or not isinstance(value, (int, float, str, Fraction)):
        raise ValueError("not a number")
    if isinstance(value, str) and not _NUMBER.fullmatch(value):
        raise ValueError("not a plain decimal number or fraction")
    try:
        return Fraction(str(value)).limit_denominator(1_000_000)
    except ZeroDivisionError:
        raise ValueError("denominator zero") from None


# --- Windows -------------------------------------------------------------------------


def window_cells(axis: Axis, fraction: Fraction) -> int:
    """Cells of a split fraction's window on an axis: at least one."""
    return window_width(axis.cell_count, fraction)


def window_width(cell_count: int, fraction: Fraction) -> int:
    """``ceil(fraction * cell_count)``, without the cost of a fraction's product."""
    return -(-fraction.numerator * cell_count // fraction.denominator)


def prefix_window(axis: Axis, width_cells: int) -> IndexSet:
    """The indices of the axis' first cells."""
    return rolling_window(axis, width_cells, 0)


def rolling_window(axis: Axis, width_cells: int, start_cell: int) -> IndexSet:
    """The indices of ``width_cells`` cells from ``start_cell`` on, around the axis."""
    return axis.cells(IndexSet.cyclic(start_cell, width_cells, axis.cell_count))


def shifted_window(
    axis: Axis, width_cells: int, *, peer_offset_cells: int, round_shift_cells: int
) -> IndexSet:
    """The doubly shifted window: moved between peers and between rounds."""
    return rolling_window(axis, width_cells, peer_offset_cells + round_shift_cells)


def check_fraction(layout: Layout, fraction: Fraction, where: str) -> None:
    """Refuses a split fraction that is less than one cell of some axis.

    A layout that is cut in depth has no windows: all widths are in every split of it.
    """
    if is_cut_in_depth(layout):
        return
    for axis in layout.axes:
        if fraction * axis.cell_count < 1:
            fewest = min(axis.cell_count for axis in layout.axes)
            raise ConfigError(
                f"{where}: split fraction {float(fraction):g} is too small for axis "
                f"{axis.name!r}, which has only {axis.cell_count} separable cells",
                hint=f"use at least {math.ceil(1000 / fewest) / 1000:g}",
            )


# --- Doubly shifted windows ----------------------------------------------------------


def peer_offsets(
    cell_count: int, fractions: Sequence[Fraction], overlap: Fraction | None
) -> tuple[int, ...]:
    """How far every rank's window stands from rank 0's, in cells.

    With an overlap o, the gap behind a window of w cells is
    ``max(1, round(w (1 - o)))``, halves rounded up, and offsets are the gaps' running
    sum. Without one (``auto``) the windows are spaced in proportion to their widths,
    ``floor(n C / N)`` if these are equal, which covers the axis whenever the fractions
    sum to 1 or more.
    """
    if overlap is None:
        reached = list(accumulate(_weights(fractions), initial=0))
        return tuple(start * cell_count // reached[-1] for start in reached[:-1])
    gaps = {f: _gap(window_width(cell_count, f), overlap) for f in set(fractions)}
    return tuple(accumulate((gaps[f] for f in fractions[:-1]), initial=0))


def _gap(width_cells: int, overlap: Fraction) -> int:
    return max(1, math.floor(width_cells * (1 - overlap) + Fraction(1, 2)))


def _weights(fractions: Sequence[Fraction]) -> list[int]:
    """Whole numbers in the fractions' proportions: far cheaper to sum."""
    scale = math.lcm(*(f.denominator for f in fractions))
    return [f.numerator * (scale // f.denominator) for f in fractions]


def overlapping_step(width_cells: int, rho: Fraction) -> int:
    """Cells per shift such that a window shares about ``rho`` with its predecessor.

    The form of FedRolex's published code: ``floor(w (1 - rho)) + 1``, and w for rho 0.
    """
    return max(1, math.floor(width_cells * (1 - rho)) + (rho > 0))


def stands_still(
    cell_count: int, windows: Iterable[tuple[int, int]], step_cells: int
) -> bool:
    """Whether a shift only permutes the (offset, width) windows among their owners.

    Then the same rectangles are trained for ever. A window of the whole axis counts as
    standing at 0, wherever it starts.
    """
    before = {
        (start % cell_count, width) for start, width in windows if width < cell_count
    }
    after = {((start + step_cells) % cell_count, width) for start, width in before}
    return before == after


def full_overlap(fractions: Sequence[Fraction]) -> Fraction:
    """The largest overlap whose windows still cover the axis in one round, or 0.

    Covering needs ``(N - 1) w (1 - o) + w >= K``, which gives
    ``1 - (1 - mu) / ((N - 1) mu)``. The last window, of rank N - 1, has no gap behind
    it; with unequal fractions the others' sum takes the place of ``(N - 1) mu``.
    """
    *others, last, whole = _weights((*fractions, Fraction(1)))
    if not others:
        return Fraction(0)
    return max(Fraction(0), 1 - Fraction(whole - last, sum(others)))


@dataclass(frozen=True)
class OverlapEnd:
    """An overlap at one end of a run: a number, ``full_overlap`` (without a number), or
    the smaller of the two (``capped``)."""

    overlap: Fraction | None = None
    capped: bool = False

    def __str__(self) -> str:
        if self.overlap is None:
            return FULL
        return f"min({self.overlap},{FULL})" if self.capped else str(self.overlap)

    def at(self, full: Fraction) -> Fraction:
        """The overlap where so much is full."""
        if self.overlap is None:
            return full
        return min(self.overlap, full) if self.capped else self.overlap


@dataclass(frozen=True)
class Overlap:
    """How much neighbouring peers' windows overlap, over the rounds of a run.

    ``ends`` are the overlaps at the start and at the end of the run, rising or falling.
    ``auto`` has none: windows are evenly spaced.
    """

    kind: str = "auto"
    ends: tuple[OverlapEnd, ...] = ()

    @classmethod
    def parse(cls, value: object, where: str) -> Overlap:
        """From ``"auto"``, ``"cosine 0.25 full"``, ``"cosine min(0.25,full) full"`` or
        ``{"cosine": [0.25, "full"]}``."""
        kind, values = _schedule(value)
        if OVERLAP_KINDS.get(kind) != len(values):
            raise ConfigError(
                f"{where}: no such overlap schedule",
                hint='use "auto", "constant 0.5", "linear 0 0.5" or "cosine 0.25 full"',
            )
        return cls(kind, tuple(_overlap_end(end, where) for end in values))

    def __str__(self) -> str:
        return " ".join((self.kind, *map(str, self.ends)))

    def at(self, progress: Fraction, fractions: Sequence[Fraction]) -> Fraction | None:
        """The overlap after this part (0 to 1) of the run; ``None`` for ``auto``."""
        if not self.ends:
            return None
        full = full_overlap(fractions)
        ends = [end.at(full) for end in self.ends]
        progress = min(progress, Fraction(1))
        if self.kind == "cosine":
            progress = (1 - cosine(progress)) / 2
        return ends[0] + (ends[-1] - ends[0]) * progress


def _schedule(value: object) -> tuple[str, Sequence[object]]:
    if isinstance(value, str):
        kind, *words = value.split() or [""]
        return kind, words
    if isinstance(value, Mapping) and len(value) == 1:
        kind, ends = next(iter(value.items()))
        listed = isinstance(ends, (list, tuple))
        return str(kind), ends if listed else [ends]
    return "", ()


def _overlap_end(value: object, where: str) -> OverlapEnd:
    if value == FULL:
        return OverlapEnd()
    capped = _CAPPED.fullmatch(value) if isinstance(value, str) else None
    if capped is not None:
        value = capped[1]
    try:
        overlap = exact_fraction(value)
    except ValueError:
        overlap = Fraction(-1)
    if not 0 <= overlap < 1:
        raise ConfigError(
            f"{where}: an overlap is a number at least 0 and below 1, or "
            f'"{FULL}", or "min(number,{FULL})"',
            hint="0.5 lets neighbouring windows share half of their cells",
        )
    return OverlapEnd(overlap, capped is not None)


def cosine(half_turns: Fraction) -> Fraction:
    """cos(pi x) for x in [0, 1], to nine digits and alike on every platform.

    The C library's cosine may differ in its last bit between machines, and a window
    that rounds the other way at one peer is a plan that does not agree.
    """
    angle = half_turns * Fraction(3_141_592_653_589_793_238, 10**18)
    square = int(angle * angle * 10**18)
    term = total = 10**18
    for order in range(1, 30, 2):
        term = -term * square // (order * (order + 1) * 10**18)
        total += term
    return Fraction(round(Fraction(total, 10**9)), 10**9)


# --- Skewed starts -------------------------------------------------------------------


@dataclass(frozen=True)
class Skew:
    """Start positions that bring every pair of positions on every two axes together.

    Windows stand on ``positions`` = M places around an axis. At step t, the peer of
    rank n of N stands at ``p + q c`` modulo M, where ``p = t mod S + floor(n M / N)``,
    ``q = floor(t / S)``, ``S = ceil(M / N)`` and c is the axis' constant. M is prime,
    so (p, q) takes two axes with different constants to every pair of places within
    M S steps.
    """

    positions: int
    peer_count: int

    @classmethod
    def of(cls, fractions: Sequence[Fraction], constant_count: int) -> Skew:
        """The fewest positions that the narrowest window can cover without a gap."""
        fewest = max(math.ceil(1 / min(fractions)), constant_count, 2)
        return cls(_prime_from(fewest), len(fractions))

    @property
    def spread(self) -> int:
        """S: steps in which all peers together visit every position once."""
        return -(-self.positions // self.peer_count)

    @property
    def cycle_steps(self) -> int:
        """Steps after which every pair has occurred and everything begins again."""
        return self.positions * self.spread

    def start_cell(
        self, cell_count: int, *, constant: int, step_index: int, rank: int
    ) -> int:
        """Where the window starts on an axis of so many cells."""
        first = rank * self.positions // self.peer_count
        place = step_index % self.spread + first + step_index // self.spread * constant
        return place % self.positions * cell_count // self.positions


def skew_constants(layout: Layout) -> dict[str, int]:
    """A number from 1 for each axis; different ones for axes that meet in a tensor.

    Not from 0, because an axis with the constant 0 rests where there are as many peers
    as positions, and each peer would train one part of it only.
    """
    met: dict[str, set[str]] = {axis.name: set() for axis in layout.axes}
    for signature in layout.signatures:
        for name in signature.axes:
            met[name].update(signature.axes)
    constants: dict[str, int] = {}
    for axis in layout.axes:
        taken = {constants[name] for name in met[axis.name] if name in constants}
        constants[axis.name] = next(c for c in count(1) if c not in taken)
    return constants


def _prime_from(number: int) -> int:
    while any(number % divisor == 0 for divisor in range(2, math.isqrt(number) + 1)):
        number += 1
    return number
