"""Closing lists: which updates a round counts, where shares of changes are added.

A round of such a method does not wait for everybody. One of those who train in it, the
*closer*, lists the updates that count as soon as enough are ready, and everybody fuses
what the list names, by shares that follow from the list alone. All who train in a round
are ranked by a hash of seed, round and peer. The closer is the first in rank that is
online; one after the other takes over where no list comes. The first list that a peer
gets counts for it.

Pure values and functions; ``quorum_round.py`` acts on them.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction

from p2pfusion.errors import RemoteProtocolError
from p2pfusion.limits import MAX_AMOUNT
from p2pfusion.methods.base import Shares, Update
from p2pfusion.protocol.messages import ClosingList, Offer, SignedClosing
from p2pfusion.protocol.schema import pack
from p2pfusion.split.lots import by_lot

NAME_BYTES = 8


def ranked(seed: int, round_index: int, peers: Collection[str]) -> tuple[str, ...]:
    """Those who may close a round, in order."""
    return by_lot("closer", seed, round_index, peers)


def offer_name(offer: Offer) -> bytes:
    """Eight bytes that tell an offer from every other one of its author."""
    values = [
        *(offer.round_index, offer.digest, offer.samples, offer.loss, offer.norm),
        *(offer.seconds, offer.base_round, offer.l1, offer.moved),
    ]
    return hashlib.sha256(pack(values)).digest()[:NAME_BYTES]


@dataclass(frozen=True)
class Heard:
    """A list that somebody has made, and when it came."""

    message: SignedClosing
    said: ClosingList
    at: float


@dataclass(frozen=True)
class Terms:
    """What a list of a round must agree with."""

    round_index: int
    peers: Sequence[str]
    """Those of the plan, in its order."""
    trainers: Collection[str]
    max_staleness: int

    def check(self, said: ClosingList, offers: Mapping[str, Offer]) -> None:
        """``RemoteProtocolError`` for a list that no honest closer of the round makes.

        ``offers``: those that are known here; of the others a list is believed.
        """
        before = -1
        for entry in said.entries:
            if not before < entry.position < len(self.peers):
                raise RemoteProtocolError("a closing list is out of order")
            before, peer = entry.position, self.peers[entry.position]
            if peer not in self.trainers:
                raise RemoteProtocolError("a closing list names who does not train")
            late = entry.rounds_late
            if late > min(self.max_staleness, self.round_index):
                raise RemoteProtocolError("a closing list names what is too late")
            if late >= len(said.distances):
                raise RemoteProtocolError("a closing list lacks a distance")
            if not 0.0 < entry.split_fraction <= 1.0:
                raise RemoteProtocolError("a closing list has no split fraction")
            offer = offers.get(peer)
            if offer is None or offer_name(offer) != entry.offer:
                continue
            if (entry.rounds_late, entry.l1) != (offer.rounds_late, offer.l1):
                raise RemoteProtocolError("a closing list lies about an offer")
        if said.distances and said.distances[0] != 0.0:
            raise RemoteProtocolError("a closing list moves what is fresh")


def shares_of(
    said: ClosingList, peers: Sequence[str], method: Shares
) -> dict[str, float]:
    """The share of each listed update, by peer: the same at everybody.

    What a method makes of numbers that it did not expect counts as no share.
    """
    updates = [
        Update(
            Fraction(entry.split_fraction),
            entry.l1,
            entry.rounds_late,
            said.distances[entry.rounds_late],
        )
        for entry in said.entries
    ]
    named = [peers[entry.position] for entry in said.entries]
    found = zip(named, method.shares(updates), strict=True)
    return {peer: s if math.isfinite(s) and s > 0.0 else 0.0 for peer, s in found}


class Steps:
    """How far the model has moved in each of the last rounds, as far as offers say."""

    def __init__(self) -> None:
        self._moved: dict[int, dict[str, float]] = {}

    def add(self, peer: str, round_index: int, l1: float) -> None:
        """This peer itself has fused something in a round."""
        moved = self._moved.setdefault(round_index, {})
        moved[peer] = min(moved.get(peer, 0.0) + l1, MAX_AMOUNT)

    def of(self, peer: str, round_index: int) -> float:
        """What a peer has moved in a round."""
        return self._moved.get(round_index, {}).get(peer, 0.0)

    def note(self, peer: str, offer: Offer) -> None:
        """A peer says by how much it has moved what it fused in the round before."""
        self._moved.setdefault(offer.round_index - 1, {})[peer] = offer.moved

    def forget(self, before: int) -> None:
        """Rounds that are too old to be the base of anything."""
        self._moved = {n: each for n, each in self._moved.items() if n >= before}

    def distances(self, round_index: int, most: int) -> tuple[float, ...]:
        """How far the model is from where it was 0, 1, ... ``most`` rounds ago."""
        found, total = [0.0], 0.0
        for late in range(1, most + 1):
            # In the order of names: everybody who knows the same gets the same bits.
            moved = self._moved.get(round_index - late, {})
            total += math.fsum(moved[peer] for peer in sorted(moved))
            found.append(min(total, MAX_AMOUNT))
        return tuple(found)
