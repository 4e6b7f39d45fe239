"""Co-S2P: the first blocks of a deep model, and of each the units that suit a peer.

Source: Co-S2P (arXiv 2410.08457) and its published code. Of L blocks a peer with the
split fraction r has the first floor(r L), what stands before them, and the exits up to
its depth. Of each width that belongs to one block alone it has ceil(r K) of K cells:
the first ones, or, where masks are *learned*, those that it has found out once by
training and has announced. The residual stream, norms and exits are whole. What peers
have changed is added with shares,

    importance_i = |change_i|_1 / r_i         distance_i: how far the model has moved
    share_i      = importance_i / (distance_i + 1), over the sum of the same of all

and a round closes when a part of the peers has been heard; what comes later joins a
later round.

Differs: a learned mask has exactly the budget on every axis (the code draws each unit
by chance, which ``mask = "sampled"`` does), so that everybody knows before what a
sub-model costs; a unit is a grid cell; the distance is a sum of the lengths of the
steps, because nobody keeps old models; masked slices travel in both directions, where
the code sends whole blocks to peers. ``rolling`` depth is a reading of a sentence about
the paper: its code has none.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction

from p2pfusion.errors import ConfigError, LayoutError
from p2pfusion.limits import MAX_ANNOUNCED_BYTES
from p2pfusion.methods.base import Method, PlanContext, Update
from p2pfusion.split.depth import (
    cut_in_depth,
    depth_split,
    first_blocks,
    private_widths,
)
from p2pfusion.split.indices import IndexSet
from p2pfusion.split.layout import Axis, Layout
from p2pfusion.split.masks import decode_mask, mask_bytes
from p2pfusion.split.segment import Split
from p2pfusion.split.windows import exact_fraction, window_cells

DEPTHS = ("prefix", "rolling")
MASKS = ("learned", "sampled", "static")
MERGES = ("shares", "mean")
MASK_EPOCHS, MAX_MASK_EPOCHS = 10, 1_000
QUORUM = Fraction(1, 2)

Blocks = Mapping[int, tuple[Axis, ...]]
"""The prunable axes of every block, by its layer."""


def co_s2p(
    *,
    depth: str = "prefix",
    mask: str = "learned",
    mask_epochs: int | None = None,
    merge: str = "shares",
    quorum: float | str | None = None,
) -> Method:
    """The method with these arguments; ``ConfigError`` names a wrong one.

    ``mask_epochs``: how long a mask is learned, 10 unless stated. ``quorum``: the part
    of the members with whose updates a round closes, a half unless stated; 1 waits for
    all. With the usual mean of values in place of shares rounds wait for all.
    """
    for name, value, known in (
        ("depth", depth, DEPTHS),
        ("mask", mask, MASKS),
        ("merge", merge, MERGES),
    ):
        if value not in known:
            raise ConfigError(f"{name} is {value!r}: it must be {' or '.join(known)}")
    if mask == "static" and mask_epochs is not None:
        raise ConfigError("mask_epochs means nothing to a static mask")
    if merge == "mean" and quorum is not None:
        raise ConfigError("quorum means nothing to a mean, which waits for all")
    mask_epochs = MASK_EPOCHS if mask_epochs is None else mask_epochs
    whole = isinstance(mask_epochs, int) and not isinstance(mask_epochs, bool)
    if not whole or not 1 <= mask_epochs <= MAX_MASK_EPOCHS:
        raise ConfigError(f"mask_epochs is no whole number from 1 to {MAX_MASK_EPOCHS}")
    kinds = {
        (False, False): CoS2P,
        (True, False): Learned,
        (False, True): Shared,
        (True, True): LearnedShared,
    }
    return kinds[mask != "static", merge == "shares"](
        depth == "rolling",
        mask == "sampled",
        mask_epochs,
        _part(QUORUM if quorum is None else quorum),
    )


def _part(value: object) -> Fraction:
    try:
        part = exact_fraction(value)
    except ValueError:
        part = Fraction(0)
    if not 0 < part <= 1:
        raise ConfigError(
            "quorum is no number above 0 and up to 1",
            hint="0.5 closes a round when half of the peers have been heard",
        )
    return part


@dataclass(frozen=True)
class CoS2P:
    """The splits. As it is, everybody has the first cells, and values are averaged."""

    rolling: bool = False
    """Whether the trained blocks move with the rounds; those before are frozen then."""
    sampled: bool = False
    """Whether a learned mask is drawn by chance, and may have any number of cells."""
    mask_epochs: int = MASK_EPOCHS
    part: Fraction = QUORUM
    """With which part of the members' updates a round closes."""

    def initial(self, layout: Layout) -> Layout:
        """The same model, cut in depth; ``ConfigError`` if it has too many units."""
        axes = [axis for block in private_widths(layout).values() for axis in block]
        if mask_bytes(axes) > MAX_ANNOUNCED_BYTES:
            raise ConfigError(
                f"a mask of this model has {mask_bytes(axes)} bytes, and members may "
                f"announce {MAX_ANNOUNCED_BYTES}",
                hint="choose a model of fewer layers",
            )
        return cut_in_depth(layout)

    def split(self, context: PlanContext, round_index: int, rank: int) -> Split:
        """The first blocks, or a window of them that moves, and their masked widths."""
        member, layout = context.roster[rank], context.layout
        blocks = self._blocks(context)
        fraction, announced = member.split_fraction, member.announced
        count = block_count(blocks, fraction)
        first = round_index % (len(blocks) - count + 1) if self.rolling else 0
        key = ("co-s2p", self, fraction, announced, first)
        if key not in context.kept:
            axes = self._masked(blocks, fraction)
            cells = _cells(axes, fraction, announced, exact=not self.sampled)
            context.kept[key] = _split(layout, blocks, cells, first, first + count)
        found = context.kept[key]
        assert isinstance(found, Split)
        return found

    def _blocks(self, context: PlanContext) -> Blocks:
        key = "co-s2p blocks"
        if key not in context.kept:
            context.kept[key] = private_widths(context.layout)
        found = context.kept[key]
        assert isinstance(found, dict)
        return found

    def _masked(self, blocks: Blocks, fraction: Fraction) -> tuple[Axis, ...]:
        """The axes that a mask of such a peer is of: of every block that it trains."""
        count = len(blocks) if self.rolling else block_count(blocks, fraction)
        return tuple(axis for axes in list(blocks.values())[:count] for axis in axes)


class Learned(CoS2P):
    """The same with masks that peers announce; until then, their first cells."""

    def check_announced(
        self, layout: Layout, split_fraction: Fraction, announced: bytes
    ) -> None:
        """``ConfigError`` if this is no mask of such a peer's blocks, or, unless masks
        are drawn, not of its size."""
        axes = self._masked(private_widths(layout), split_fraction)
        try:
            mask = decode_mask(axes, announced)
        except LayoutError as error:
            raise ConfigError(f"no mask is announced: {error.message}") from None
        for axis in axes if not self.sampled else ():
            found, allowed = len(mask[axis.name]), window_cells(axis, split_fraction)
            if found != allowed:
                raise ConfigError(
                    f"a mask has {found} cells of axis {axis.name!r}, and not {allowed}"
                )

    def asks(self, layout: Layout, split_fraction: Fraction) -> dict[str, object]:
        """A mask for the blocks that it trains, which it learns in their full width."""
        blocks = private_widths(layout)
        axes = self._masked(blocks, split_fraction)
        count = len(blocks) if self.rolling else block_count(blocks, split_fraction)
        return {
            "split": depth_split(layout, first_blocks(layout, count)).to_data(),
            "cells": {axis.name: window_cells(axis, split_fraction) for axis in axes},
            "part": float(split_fraction),
            "epochs": self.mask_epochs,
            "sampled": self.sampled,
        }


class Shared(CoS2P):
    """The same with shares of changes in place of the mean, and a quorum."""

    def shares(self, updates: Sequence[Update]) -> tuple[float, ...]:
        """importance / (distance + 1) over the sum of the same of all updates.

        If nobody has changed anything, all alike.
        """
        most = sys.float_info.max  # what is larger weighs no more
        weights = [
            min(update.l1 / float(update.split_fraction), most) / (update.distance + 1)
            for update in updates
        ]
        largest = max(weights, default=0.0)
        if not largest:
            return tuple(1 / len(updates) for _ in updates)
        parts = [weight / largest for weight in weights]
        whole = math.fsum(parts)  # exact, so that no order matters
        return tuple(part / whole for part in parts)

    def quorum(self, members: int) -> int:
        """This part of the members, rounded up."""
        return max(1, math.ceil(self.part * members))


class LearnedShared(Learned, Shared):
    """The method as it is published: learned masks, and shares."""


def block_count(blocks: Mapping[int, object], split_fraction: Fraction) -> int:
    """How many of a model's blocks a peer has: floor(r L), and at least one."""
    count = max(1, math.floor(split_fraction * len(blocks)))
    return min(count, len(blocks))


def _cells(
    axes: Sequence[Axis], fraction: Fraction, announced: bytes, *, exact: bool
) -> dict[str, IndexSet]:
    """The cells of every axis: as announced, or the first ones.

    What is announced may be of another split fraction than the peer has now. It then
    is no mask, and counts as nothing.
    """
    budget = {axis.name: window_cells(axis, fraction) for axis in axes}
    try:
        mask = decode_mask(axes, announced)
    except LayoutError:
        mask = {}
    fits = all(len(cells) == budget[name] for name, cells in mask.items())
    if mask and (fits or not exact):
        return mask
    return {name: IndexSet.span(0, count) for name, count in budget.items()}


def _split(
    layout: Layout,
    blocks: Blocks,
    cells: Mapping[str, IndexSet],
    first: int,
    end: int,
) -> Split:
    """Blocks up to an end, trained from the first one on, with these cells.

    The input is trained where the first block of all is.
    """
    trained_from = list(blocks)[first] if first else None
    held = first_blocks(layout, end)
    frozen = [n for n in held if trained_from is not None and n < trained_from]
    inside = {axis.name for n in held for axis in blocks.get(n, ())}
    split = depth_split(layout, held, frozen=frozen)
    return Split(
        tuple(
            (
                name,
                layout.axis(name).cells(cells[name])
                if name in inside and name in cells
                else indices,
            )
            for name, indices in split.sets
        ),
        split.frozen,
    )
