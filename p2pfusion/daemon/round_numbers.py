"""The numbers of one round, and what the own trainer gave last."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from p2pfusion.fusion import StreamingSum
from p2pfusion.split.homes import Homes
from p2pfusion.split.plan import ExchangePlan
from p2pfusion.split.segment import Split
from p2pfusion.store import Offer, Store, add_progress


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
