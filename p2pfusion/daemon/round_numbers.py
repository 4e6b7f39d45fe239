"""The numbers of one round, and what the own trainer gave last."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from p2pfusion.daemon.sinks import Floats
from p2pfusion.fusion import MeanChange, StreamingSum
from p2pfusion.protocol.events import StreamKey
from p2pfusion.split.homes import Homes
from p2pfusion.split.plan import ExchangePlan, Hop
from p2pfusion.split.segment import Segment, Split
from p2pfusion.store import Offer, Store, add_progress

Made = tuple[memoryview, bytes]
"""A stream's bytes, and which of its ranges they lack."""

MOST_PROMISED_BYTES = 4 << 20
"""To make what is larger again takes milliseconds; to keep it would take as much memory
as what was trained."""


@dataclass(frozen=True)
class Before:
    """What was here when a round began, where that may be wanted later."""

    backed_up: NDArray[np.int64]
    """Ranges of which this peer is the backup and has the newest values, ascending."""
    values: Floats
    """Of these, one after the other."""


@dataclass
class RoundNumbers:
    """What one round needs at hand while anybody may still ask for it."""

    plan: ExchangePlan
    homes: Homes
    offer: Offer | None = None
    inside: NDArray[np.bool_] | None = None
    """Of an offer that was trained for an earlier round: the ranges that it has."""
    sums: dict[str, StreamingSum] = field(default_factory=dict)
    own: dict[str, set[int]] = field(default_factory=dict)
    """Of each sum the ranges to which the own offer was added."""
    before: Before | None = None
    promised: dict[StreamKey, Made] = field(default_factory=dict)
    """Contributions that the own offer has named by their hashes, until they are asked
    for the first time, as long as they are small."""

    def take(self, offer: Offer, inside: NDArray[np.bool_] | None) -> None:
        """This is what contributions are made of."""
        self.offer, self.inside = offer, inside
        self.promised.clear()

    def promise(self, stream: StreamKey, made: Made) -> None:
        """Others will ask for it soon."""
        kept_bytes = sum(values.nbytes for values, _ in self.promised.values())
        if kept_bytes + made[0].nbytes <= MOST_PROMISED_BYTES:
            self.promised[stream] = made

    def fused(self, stream: StreamKey) -> tuple[Floats, NDArray[np.bool_]]:
        """What a next holder gets of an own sum, and which ranges that lacks."""
        plan, failed = self.plan, stream.instead_of or None
        total, me = self.sums[stream.instead_of], stream.source
        reduced = plan.reduced_by(me, instead_of=failed)
        ids = plan.ranges(Hop.FUSED, source=me, target=stream.target, instead_of=failed)
        positions = np.searchsorted(reduced, ids)
        return total.values(positions), total.absent[positions]

    def begin_late(self, total: MeanChange, ids: NDArray[np.int64]) -> None:
        """Changes are added to old values when these are no longer in the store: to
        those that are remembered. ``ids``: the ranges of the sum."""
        if self.before is None:
            return
        known = np.isin(self.before.backed_up, ids)
        sizes = self.plan.range_sizes[self.before.backed_up]
        positions = np.searchsorted(ids, self.before.backed_up[known])
        total.begin(positions, self.before.values[np.repeat(known, sizes)])


@dataclass
class OwnOffer:
    """What a round's training gave.

    ``since`` is the offer from which it went on, while what the others brought to that
    is not in it yet (``protocol/delay.py``).
    """

    round_index: int
    path: Path
    offer: Offer
    split: Split
    since: Path | None

    @classmethod
    def open(
        cls,
        round_index: int,
        path: Path,
        split: Split,
        since: Path | None,
        store: Store,
    ) -> OwnOffer:
        """The offer in a file: what is trained of a split."""
        offer = Offer.open(path, store.layout, split.trained)
        return cls(round_index, path, offer, split.trained, since)

    def settle(self, store: Store) -> None:
        """The store has what the others brought: adds it, if that was not done yet."""
        if self.since is not None:
            segments = list(self.split.segments(store.layout))
            add_progress(self.path, self.since, segments, store.read)
            self.since = None


def moved(store: Store, segments: Sequence[Segment], values: Floats) -> float:
    """How far values are from those that reading gives, as a sum of magnitudes."""
    total, start = 0.0, 0
    for segment in segments:
        new = values[start : start + segment.size].astype(np.float64)
        total += float(np.abs(new - store.read_flat([segment])).sum())
        start += segment.size
    return total
