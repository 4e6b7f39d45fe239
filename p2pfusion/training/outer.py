"""The swarm's own momentum: a heavy ball over rounds, kept by whoever trains.

With the value ``x(t)`` of an entry at the beginning of round t, the mean ``m(t)`` of
what its holders trained, and the outer momentum ``b``, the swarm moves by

    x(t + 1) = m(t) + b (x(t) - x(t - 1))

which is server momentum (Hsu, Qi and Brown, arXiv 1909.06335) on the fused change,
written without a velocity. Every holder adds the second term to what it has trained,
and the mean of what they send is the same as if it was added to the mean.

So its state is what a peer began the last round with, nothing of it travels, and no
reducer needs to know. An entry counts if this peer trained it in the round before, too:
elsewhere the peer has no ``x(t - 1)``, and the term is left out. With peers of which
some have it and some have not, the mean has a part of it.

Differs: the usual way keeps one velocity for each entry at a server, also through
rounds in which nobody trains it. There is no server here; an entry's windows would have
to carry its velocity along, twice the bytes wherever windows move.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from p2pfusion.split.layout import Layout
from p2pfusion.split.segment import Split
from p2pfusion.store.files import Floats
from p2pfusion.store.rectangles import numbers


@dataclass(frozen=True)
class Start:
    """What a peer began a round with: its split's dense arrays."""

    round_index: int
    split: Split
    arrays: Sequence[Floats]


class OuterMomentum:
    """One peer's memory of the last round, for one layout."""

    def __init__(self, layout: Layout, momentum: float) -> None:
        self._layout = layout
        self._momentum = momentum
        self._last: Start | None = None

    def push(self, start: Start, trained: Sequence[Floats]) -> None:
        """Adds the momentum of the last round to what was trained, in place.

        ``start`` is what this round began with; it is remembered for the next one.
        """
        if not self._momentum:
            return  # and nothing is kept: it would be a copy of the sub-model
        last, self._last = self._last, start
        if last is None or last.round_index != start.round_index - 1:
            return  # several rounds have moved it meanwhile: that is no velocity
        for array, change in zip(trained, self._changes(last, start), strict=True):
            array += np.float32(self._momentum) * change

    def _changes(self, last: Start, now: Start) -> Iterator[Floats]:
        """How far each entry has moved since the last round; 0 where that is unknown.

        One dense array of the present split for each parameter.
        """
        if last.split == now.split:
            for before, after in zip(last.arrays, now.arrays, strict=True):
                yield after - before
            return
        pairs = zip(
            last.split.segments(self._layout),
            now.split.segments(self._layout),
            strict=True,
        )
        for index, (held, holds) in enumerate(pairs):
            change = np.zeros_like(now.arrays[index])
            common = held & holds
            if common.size:
                there = np.ix_(*map(numbers, held.positions(common)))
                here = np.ix_(*map(numbers, holds.positions(common)))
                change[here] = now.arrays[index][here] - last.arrays[index][there]
            yield change
