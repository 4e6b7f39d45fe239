"""The hostile peers of an experiment: who they are, and what they offer."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from p2pfusion.simulation.attacks.table import ATTACKS, Arrays, Floats, Sight
from p2pfusion.split.forms import Form
from p2pfusion.split.layout import Layout
from p2pfusion.split.segment import Segment, Split
from p2pfusion.store import Offer, write_offer

Read = Callable[[Segment], Floats]
Offered = Mapping[str, tuple[Split, Path]]
"""Of each peer, what it has trained and where it lies."""

LARGEST = np.finfo(np.float32).max


class Hostile:
    """Some peers, drawn from the seed, that all carry out the same attack.

    They train honestly, and change what comes of it between their trainer and the
    offer.
    """

    def __init__(
        self, attack: str, peers: list[str], *, seed: int, layout: Layout, changes: bool
    ) -> None:
        """``changes``: whether offers are changes, and not values."""
        self.attack = ATTACKS[attack]
        self.peers = frozenset(peers)
        self._seed, self._layout, self._changes = seed, layout, changes
        shapes = [parameter.shape for parameter in layout.parameters]
        self._first = {
            peer: [np.full(shape, np.nan, np.float32) for shape in shapes]
            for peer in self.peers
        }

    @classmethod
    def drawn(
        cls,
        attack: str,
        count: int,
        peers: list[str],
        *,
        seed: int,
        layout: Layout,
        changes: bool,
    ) -> Hostile:
        """So many of these peers."""
        chosen = random.Random(f"{seed} hostile").sample(peers, count)
        return cls(attack, sorted(chosen), seed=seed, layout=layout, changes=changes)

    def tamper(self, round_index: int, offered: Offered, read: Read) -> None:
        """Writes the hostile peers' offers anew; ``read`` gives what a round began
        with."""
        made = {
            peer: self._change(path, split, read)
            for peer, (split, path) in offered.items()
        }
        honest = [peer for peer in offered if peer not in self.peers]
        mean, deviation = self._moments(
            [(offered[peer][0], made[peer]) for peer in honest]
        )
        for peer in sorted(self.peers & set(offered)):
            split, path = offered[peer]
            drawn = np.random.default_rng(
                [self._seed, round_index, *peer.encode("utf-8")]
            )
            sight = Sight(
                made[peer],
                self._cut(mean, split),
                self._cut(deviation, split),
                self._remembered(peer, split, made[peer]),
                drawn,
            )
            self._offer(path, split, self.attack.change(sight), read)

    def sent(self, peer: str, form: Form, payload: memoryview) -> memoryview:
        """What a peer sends in place of a piece of a contribution."""
        if peer not in self.peers or self.attack.sent is None:
            return payload
        return memoryview(self.attack.sent(form, payload.nbytes))

    def told(self, peer: str, old: Floats, new: Floats) -> Floats:
        """What a peer says that it has fused, of the values before and after."""
        make = self.attack.fused
        return new if make is None or peer not in self.peers else make(old, new)

    def samples(self, peer: str) -> int:
        """How many times its samples a peer claims to have."""
        return self.attack.samples if peer in self.peers else 1

    def _segments(self, split: Split) -> list[tuple[NDArray[np.int64], ...]]:
        """Of each parameter of a split, where it lies in the whole one."""
        return [
            np.ix_(*(np.fromiter(each, np.int64) for each in segment.sets))
            for segment in split.trained.segments(self._layout)
        ]

    def _change(self, path: Path, split: Split, read: Read) -> Arrays:
        offer = Offer.open(path, self._layout, split.trained)
        segments = list(split.trained.segments(self._layout))
        arrays = [offer.read_array(index).copy() for index in range(len(segments))]
        if self._changes:
            return arrays
        return [
            array - read(segment).reshape(array.shape)
            for array, segment in zip(arrays, segments, strict=True)
        ]

    def _offer(self, path: Path, split: Split, change: Arrays, read: Read) -> None:
        if not self._changes:
            segments = split.trained.segments(self._layout)
            with np.errstate(over="ignore"):
                change = [
                    read(segment).reshape(array.shape) + array
                    for array, segment in zip(change, segments, strict=True)
                ]
        write_offer(path, [np.clip(each, -LARGEST, LARGEST) for each in change])

    def _moments(self, of: list[tuple[Split, Arrays]]) -> tuple[Arrays, Arrays]:
        """Of each element of the whole model, mean and standard deviation over those
        who have it."""
        shapes = [parameter.shape for parameter in self._layout.parameters]
        counts, sums, squares = (
            [np.zeros(shape) for shape in shapes] for _ in range(3)
        )
        for split, arrays in of:
            for index, place in enumerate(self._segments(split)):
                wide = arrays[index].astype(np.float64)
                counts[index][place] += 1
                sums[index][place] += wide
                squares[index][place] += wide**2
        means, deviations = [], []
        for count, total, square in zip(counts, sums, squares, strict=True):
            mean = total / np.maximum(count, 1)
            variance = square / np.maximum(count, 1) - mean**2
            means.append(mean.astype(np.float32))
            deviations.append(np.sqrt(np.maximum(variance, 0)).astype(np.float32))
        return means, deviations

    def _cut(self, whole: Arrays, split: Split) -> Arrays:
        return [
            whole[index][place] for index, place in enumerate(self._segments(split))
        ]

    def _remembered(self, peer: str, split: Split, made: Arrays) -> Arrays:
        """Of each element what the peer has made of it first."""
        for index, place in enumerate(self._segments(split)):
            before = self._first[peer][index][place]
            new = np.where(np.isnan(before), made[index], before)
            self._first[peer][index][place] = new
        return self._cut(self._first[peer], split)
