"""A method that announces something and adds shares of changes, for tests.

It stands in the table of methods while a test lets it: ``toy_methods``.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction

from p2pfusion.errors import ConfigError
from p2pfusion.methods import METHODS, PlanContext
from p2pfusion.methods.base import Update
from p2pfusion.split.layout import Layout
from p2pfusion.split.segment import Split
from p2pfusion.split.windows import rolling_window

ANNOUNCING = "toy-announcing"
SHARING = "toy-sharing"


def said(fraction: object, start: int) -> bytes:
    """The announcement of one who trains so much, from this cell of every axis on."""
    return f"{fraction}:{start}".encode()


@dataclass(frozen=True)
class ToyAnnouncing:
    """A window that begins where its owner has announced; before that at 0."""

    def split(self, context: PlanContext, round_index: int, rank: int) -> Split:
        """The window of every axis."""
        member = context.roster[rank]
        start, part = (
            int(member.announced.partition(b":")[2] or 0),
            member.split_fraction,
        )
        widths = {
            axis: max(1, int(part * axis.cell_count)) for axis in context.layout.axes
        }
        windows = ((a.name, rolling_window(a, w, start)) for a, w in widths.items())
        return Split(tuple(windows))

    def check_announced(
        self, layout: Layout, split_fraction: Fraction, announced: bytes
    ) -> None:
        """``fraction:start``, of the fraction that is trained."""
        for start in range(min(axis.cell_count for axis in layout.axes)):
            if announced == said(split_fraction, start):
                return
        raise ConfigError("this is no announcement of a toy")

    def asks(self, layout: Layout, split_fraction: Fraction) -> dict[str, object]:
        """Nothing that a real trainer could answer."""
        return {}


@dataclass(frozen=True)
class ToySharing(ToyAnnouncing):
    """The same, and a round closes with ``least`` updates: 0 for half of a roster."""

    least: int = 0

    def shares(self, updates: Sequence[Update]) -> tuple[float, ...]:
        """By size, and less the farther the model has moved since."""
        parts = [each.l1 / (1.0 + each.distance) for each in updates]
        total = sum(parts)
        return tuple(part / total if total else 0.0 for part in parts)

    def quorum(self, members: int) -> int:
        """Half of them, or as many as the manifest says."""
        return min(self.least or (members + 1) // 2, members)


@contextmanager
def toy_methods() -> Iterator[None]:
    """While this lasts, manifests can name these methods."""
    toys = {ANNOUNCING: ToyAnnouncing, SHARING: ToySharing}
    METHODS.update(toys)
    try:
        yield
    finally:
        for name in toys:
            del METHODS[name]
