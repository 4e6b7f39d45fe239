"""Who sends again what it has sent before.

A replay is no lie that one round could tell: it was an honest change once, and for many
rounds it points roughly where the others' do. But honest training starts from other
values each time. So a reducer remembers, of each contributor, what it last said of some
elements (``Sample``), and measures how much of what it says now is new (``LastSaid``).

The elements are drawn by lot, and each peer has its own: who replays all but these
would have to know them. Nothing is compared within a round, which may be done again
after a crash and then gives the same.

Pure: numbers in, numbers out.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Sequence
from typing import Self

import numpy as np

from p2pfusion.fusion.kept import Counts
from p2pfusion.fusion.sums import Floats
from p2pfusion.split.grid import Mask
from p2pfusion.split.indices import IndexSet
from p2pfusion.split.layout import Layout
from p2pfusion.split.segment import Segment

SAMPLED = 1 << 13
"""So many elements of a model are remembered, about: eight bytes each, for each
contributor. A reducer of one among a hundred still has eighty of them."""


class Sample:
    """Some elements of a model, numbered from 0."""

    def __init__(
        self, layout: Layout, generator: np.random.Generator, count: int = SAMPLED
    ) -> None:
        """Of each parameter its share of ``count``, drawn by lot."""
        self._drawn: list[tuple[int, Counts]] = []
        self.size = 0
        for parameter in layout.parameters:
            wanted = math.ceil(count * parameter.size / max(layout.size, 1))
            drawn = generator.integers(max(parameter.size, 1), size=wanted)
            flat = np.unique(drawn)
            places = np.zeros((len(parameter.shape), len(flat)), np.int64)
            if parameter.shape:
                places[:] = np.unravel_index(flat, parameter.shape)
            self._drawn.append((self.size, places))
            self.size += len(flat)

    def inside(self, segments: Iterable[Segment]) -> tuple[Counts, Counts]:
        """Which of the elements lie in these segments, by number, and where in the flat
        values of them all."""
        numbers, elements, start = [], [], 0
        for segment in segments:
            first, places = self._drawn[segment.parameter]
            inside = np.ones(places.shape[1], np.bool_)
            flat = np.zeros(places.shape[1], np.int64)
            for indices, place in zip(segment.sets, places, strict=True):
                has, at = _found(indices, place)
                inside &= has
                flat = flat * len(indices) + at
            numbers.append(first + np.flatnonzero(inside))
            elements.append(start + flat[inside])
            start += segment.size
        none = [np.zeros(0, np.int64)]
        return np.concatenate(none + numbers), np.concatenate(none + elements)


def _found(indices: IndexSet, places: Counts) -> tuple[Mask, Counts]:
    """Which of some integers a set has, and where in its sorted order."""
    if not indices:
        return np.zeros(len(places), np.bool_), np.zeros(len(places), np.int64)
    starts, stops = np.array(indices.ranges, np.int64).T
    before = np.cumsum(stops - starts) - (stops - starts)
    at = np.maximum(np.searchsorted(starts, places, side="right") - 1, 0)
    return (places >= starts[at]) & (places < stops[at]), (
        before[at] + places - starts[at]
    )


class LastSaid:
    """Of each contributor, what it last said of the elements of a sample, and when."""

    def __init__(self, sample: Sample) -> None:
        self.sample = sample
        self._said: dict[str, tuple[Floats, Counts]] = {}

    @classmethod
    def of(cls, layout: Layout, seed: Sequence[int] | None = None) -> Self:
        """An empty one; the elements are drawn anew, unless there is a seed."""
        return cls(Sample(layout, np.random.default_rng(seed)))

    def keep(self, peers: Collection[str]) -> None:
        """Nobody else is remembered."""
        self._said = {peer: has for peer, has in self._said.items() if peer in peers}

    def compare(
        self, peer: str, round_index: int, numbers: Counts, values: Floats
    ) -> tuple[float, int]:
        """How new it is what a peer says of some elements (NaN: nothing): one less the
        cosine to what it said of them in a round before, and how many these are.

        0 of them where there is nothing to compare, or nothing changed.
        """
        if peer not in self._said:
            size = self.sample.size
            self._said[peer] = np.zeros(size, np.float32), np.full(size, -1, np.int32)
        last, rounds = self._said[peer]
        there = ~np.isnan(values)
        numbers, now = numbers[there], values[there].astype(np.float64)
        known = (rounds[numbers] >= 0) & (rounds[numbers] < round_index)
        then, new = last[numbers[known]].astype(np.float64), now[known]
        last[numbers], rounds[numbers] = now, round_index
        lengths = math.sqrt((then @ then) * (new @ new))
        if not lengths:
            return 1.0, 0
        return 1.0 - float(then @ new) / lengths, int(known.sum())
