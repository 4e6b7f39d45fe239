"""The swarm's own momentum: a heavy ball over rounds, kept by whoever trains.

With the value ``x(t)`` of an entry at the beginning of round t, the mean ``m(t)`` of
what its holders trained, and the outer momentum ``b``, the swarm moves by

    x(t + 1) = m(t) + b (x(t) - x(s)) / (t - s)

where s is the round before t in which the holder trained the entry last. With s = t - 1
this is server momentum (Hsu, Qi and Brown, arXiv 1909.06335) on the fused change,
written without a velocity. Windows that move leave an entry and come back to it: then
the velocity is how far the entry has moved in a round since, on average, whoever
trained it in between.

Every holder adds the second term to what it has trained, and the mean of what they send
is the same as if it was added to the mean. So the state is what a peer has seen itself,
nothing of it travels, and no reducer needs to know. A holder that has never trained an
entry leaves the term out; with peers of which some have it and some have not, the mean
has a part of it.

Running means and variances have no momentum: they follow what they are measured on, and
extrapolated they are no measurement any more, nor even variances.

The values that rounds began with are kept beside the offers, in a store of their own:
as much disk as what this peer has ever trained, and no memory. A trainer that starts
again goes on with them.

Differs: the usual way keeps one velocity for each entry at a server, also through
rounds in which nobody trains it. There is no server here; an entry's windows would have
to carry its velocity along, twice the bytes wherever windows move.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np

from p2pfusion.errors import P2PFusionError, ResourceError
from p2pfusion.split.layout import Layout
from p2pfusion.split.segment import Segment, Split
from p2pfusion.store.cells import Cells
from p2pfusion.store.files import Floats
from p2pfusion.store.rectangles import Part
from p2pfusion.store.unjournalled import UnjournalledStore


class OuterMomentum:
    """One peer's memory of what the rounds began with that it has trained."""

    def __init__(
        self,
        past: UnjournalledStore,
        empty: Callable[[], UnjournalledStore],
        momentum: float,
        measured: frozenset[str] = frozenset(),
    ) -> None:
        """``past``: where the memory is; a cell's version is the round, counted from 1,
        in which this peer trained it last. ``empty`` makes one of nothing in its place.
        ``measured``: parameters without momentum.
        """
        self._past = past
        self._empty = empty
        self._measured = measured
        self._momentum = momentum
        self._cells = Cells(past.layout)
        self._new: tuple[int, list[Part]] | None = None

    @classmethod
    def open(
        cls,
        path: Path,
        layout: Layout,
        seed: int,
        momentum: float,
        measured: frozenset[str] = frozenset(),
    ) -> OuterMomentum:
        """With what is remembered in the directory ``path``, if it is of this swarm and
        whole; else with nothing."""

        def empty() -> UnjournalledStore:
            shutil.rmtree(path, ignore_errors=True)
            return UnjournalledStore.create(path, layout, seed)

        try:
            past = UnjournalledStore.open(path, layout, seed, writable=True)
        except P2PFusionError:
            past = empty()
        return cls(past, empty, momentum, measured)

    def push(
        self,
        round_index: int,
        split: Split,
        start: Sequence[Floats],
        trained: Sequence[Floats],
    ) -> list[Floats]:
        """What was trained with the momentum added; where there is none, as it came.

        ``start``: the dense arrays of the split that this round began with, which
        ``remember`` keeps: others wait for what was trained, and for that nobody.
        """
        self.remember()
        newest = max(int(each.max(initial=0)) for each in self._past.all_versions())
        if newest > round_index + 1:
            # It was a round ahead when it crashed, and that was trained in vain.
            self._past = self._empty()
        segments = list(split.segments(self._past.layout))
        parameters = self._past.layout.parameters
        moved = list(trained)
        for place, (segment, now) in enumerate(zip(segments, start, strict=True)):
            if parameters[segment.parameter].name not in self._measured:
                velocity = self._velocity(round_index + 1, segment, now)
                if velocity is not None:
                    moved[place] = np.add(moved[place], velocity, out=velocity)
        self._new = (round_index, list(zip(segments, start, strict=True)))
        return moved

    def remember(self) -> None:
        """Keeps what the last round began with, if that was not done yet.

        On a full disk it is left out: the velocity of the next round then is the mean
        over some rounds more.
        """
        if self._new is None:
            return
        (round_index, parts), self._new = self._new, None
        with suppress(ResourceError):
            self._past.overwrite(parts, round_index + 1)

    def _velocity(
        self, round_number: int, segment: Segment, now: Floats
    ) -> Floats | None:
        """The momentum's part of how far each entry has moved in a round since this
        peer trained it last; 0 where it never has, and None if it never has anywhere.
        """
        seen = self._past.versions(self._cells.signature(segment.parameter))
        known = seen[self._cells.touched(segment)] > 0
        if not known.any():
            return None
        # Trained again from the start, as after a crash, a round has no age.
        ages = np.maximum(round_number - seen, 1).astype(np.float32)
        velocity = self._past.read(segment)
        np.subtract(now, velocity, out=velocity)
        velocity /= self._cells.of_elements(segment, ages)
        velocity *= np.float32(self._momentum)
        if not known.all():
            velocity[self._cells.of_elements(segment, seen == 0)] = 0
        return velocity
