"""Who is in the roster of which epoch: the fold of what everybody has said.

A *stay* is the time for which a peer is in by its own word and those of admins. Inside
it the others can end it: from an epoch on a peer is *evicted* if more than half of its
observers, taken from the roster of the epoch before, have said by then that they hear
nothing of it. Nothing here depends on the order in which anybody learned anything.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from heapq import heapify, heappop, heappush
from types import MappingProxyType
from typing import TypeVar

from p2pfusion.limits import KEPT_ROSTERS, OBSERVERS
from p2pfusion.protocol.messages import NEVER
from p2pfusion.protocol.observers import Spot, circle, neighbours, observed, place

Words = Mapping[str, Mapping[str, int]]
"""By the accused, then by the accuser: the epoch from which the accusation counts."""

NOTHING: Mapping[str, int] = MappingProxyType({})

Ordered = TypeVar("Ordered", tuple[int, str], Spot)


@dataclass(frozen=True)
class Stay:
    """The epochs for which a peer is in, unless the others evict it."""

    from_epoch: int
    until_epoch: int = NEVER


def is_most(some: int, of: int) -> bool:
    """Whether these are more than half."""
    return 2 * some > of


class Fold:
    """Evictions and rosters, kept up to date as stays and accusations change.

    In a large swarm nearly every piece of news changes nothing about them: one more
    word about somebody whom too few accuse, or who is out already. Then nothing is
    computed anew, and nothing at all before somebody asks.
    """

    def __init__(
        self,
        swarm: str,
        stays: Mapping[str, Stay] | None = None,
        words: Words | None = None,
    ) -> None:
        """``words``: accusations that count against the stay of whom they name."""
        self._swarm = swarm
        self._stays: dict[str, Stay] = {}
        self._words: dict[str, Mapping[str, int]] = {}
        self._ranked: list[tuple[int, str]] = []
        self._around: list[Spot] = []
        self._unsteady: set[str] = set()
        self._evicted: dict[str, int] | None = {}
        self._present: dict[int, tuple[str, ...]] = {}
        self._circles: dict[int, list[Spot]] = {}
        for peer, stay in (stays or {}).items():
            self.stays(peer, stay)
        for peer, said in (words or {}).items():
            self.accused(peer, said)

    # --- Changes ---------------------------------------------------------------------

    def stays(self, peer: str, stay: Stay | None) -> int:
        """For how long a peer is in by its own word; from which epoch on rosters may be
        others now, ``NEVER`` if that is no news."""
        before = self._stays.get(peer)
        if stay == before:
            return NEVER
        if before is not None:
            _remove(self._ranked, (before.from_epoch, peer))
            _remove(self._around, (place(self._swarm, peer), peer))
            del self._stays[peer]
        if stay is not None:
            insort(self._ranked, (stay.from_epoch, peer))
            insort(self._around, (place(self._swarm, peer), peer))
            self._stays[peer] = stay
        self._note_steady(peer)
        return self._changed(self._differs_from(before, stay))

    def _differs_from(self, one: Stay | None, other: Stay | None) -> int:
        """The first epoch for which it makes a difference which of two stays it is."""
        begins = [NEVER if stay is None else stay.from_epoch for stay in (one, other)]
        ends = [NEVER if stay is None else stay.until_epoch for stay in (one, other)]
        if begins[0] == begins[1]:
            return min(ends)
        # Whether a word is one of a former stay depends on when the present one begins.
        return 0 if self._words else min(begins)

    def accused(self, peer: str, said: Mapping[str, int]) -> int:
        """Who accuses a peer, and since when; from which epoch on rosters may be others
        now, ``NEVER`` if none can."""
        before = self._words.pop(peer, NOTHING)
        if said:
            self._words[peer] = said
        self._note_steady(peer)
        if said == before or self._is_all_the_same(peer, before, said):
            return NEVER
        return self._changed(min(since for _, since in said.items() ^ before.items()))

    def _note_steady(self, peer: str) -> None:
        """Who is accused, or ends its stay itself, may be missing in some epoch."""
        stay = self._stays.get(peer)
        steady = stay is not None and stay.until_epoch == NEVER
        if steady and peer not in self._words:
            self._unsteady.discard(peer)
        else:
            self._unsteady.add(peer)

    def _changed(self, since: int) -> int:
        """From an epoch on something may be different; before it nothing is."""
        self._evicted = None if self._words else {}
        self._present = {e: kept for e, kept in self._present.items() if e < since}
        self._circles = {e: kept for e, kept in self._circles.items() if e < since}
        return since

    def _is_all_the_same(
        self, peer: str, before: Mapping[str, int], said: Mapping[str, int]
    ) -> bool:
        """Whether other words about a peer surely evict the same peers as before."""
        if self._evicted is None:
            return False
        out_at = self._evicted.get(peer)
        if out_at is None:
            return not self._may_be_out(peer)
        # What was said later than it was put out, nobody needed.
        then = {by: since for by, since in before.items() if since <= out_at}
        return then == {by: since for by, since in said.items() if since <= out_at}

    def _may_be_out(self, peer: str) -> bool:
        """False if certainly too few accuse a peer, whoever may be observing it.

        Who is steady and in before the first word about it is in the roster of every
        epoch that counts, so it has so many observers, or as many as anybody has.
        """
        said = self._words.get(peer, NOTHING)
        first = min(said.values(), default=NEVER)
        there = bisect_left(self._ranked, (first, "")) - len(self._unsteady)
        return is_most(len(said), min(max(0, there), OBSERVERS))

    # --- Answers ---------------------------------------------------------------------

    @property
    def evicted(self) -> Mapping[str, int]:
        """From which epoch on somebody is evicted."""
        if self._evicted is None:
            words = {p: said for p, said in self._words.items() if self._may_be_out(p)}
            court = _Court(self._swarm, self._stays, words, self._around)
            self._evicted = court.hold()
        return self._evicted

    def present(self, epoch: int) -> tuple[str, ...]:
        """Who is in the roster of an epoch, by rank: (join epoch, peer id)."""
        if epoch not in self._present:
            if len(self._present) >= KEPT_ROSTERS:
                self._present.clear()
            self._present[epoch] = tuple(self._who_is_in(epoch))
        return self._present[epoch]

    def _who_is_in(self, epoch: int) -> Iterator[str]:
        evicted, stays = self.evicted, self._stays
        for from_epoch, peer in self._ranked:
            if from_epoch > epoch:
                break
            if epoch < stays[peer].until_epoch and epoch < evicted.get(peer, NEVER):
                yield peer

    def observers(self, peer: str, epoch: int) -> tuple[str, ...]:
        """Who of an epoch's roster watches a peer."""
        spot = (place(self._swarm, peer), peer)
        return neighbours(self._circle(epoch), spot)

    def observed(self, peer: str, epoch: int) -> tuple[str, ...]:
        """Whom of the next epoch's roster a peer of this one's watches."""
        spot = (place(self._swarm, peer), peer)
        return observed(self._circle(epoch), self._circle(epoch + 1), spot)

    def _circle(self, epoch: int) -> list[Spot]:
        if epoch not in self._circles:
            if len(self._circles) >= KEPT_ROSTERS:
                self._circles.clear()
            self._circles[epoch] = circle(self._swarm, self.present(epoch))
        return self._circles[epoch]


def _remove(ordered: list[Ordered], item: Ordered) -> None:
    """Takes an item out of a sorted list."""
    del ordered[bisect_left(ordered, item)]


class _Court:
    """Goes through the epochs in which something may be different from before."""

    def __init__(
        self, swarm: str, stays: Mapping[str, Stay], words: Words, around: list[Spot]
    ) -> None:
        """``around``: all who have a stay, in the order of the circle."""
        self._swarm = swarm
        self._stays = stays
        self._words = words
        self._open = {peer for peer in words if self._is_in(peer)}
        self.evicted: dict[str, int] = {}
        said = {epoch for each in words.values() for epoch in each.values()}
        first = min(said, default=NEVER)
        moves = [
            (epoch, comes, peer)
            for peer, stay in stays.items()
            if stay.until_epoch != NEVER or stay.from_epoch >= first
            if stay.from_epoch < stay.until_epoch
            for epoch, comes in ((stay.from_epoch, True), (stay.until_epoch, False))
            if epoch >= first
        ]
        # Latest first, so that the next is the last.
        self._moves = sorted(moves, reverse=True)
        # Whoever comes or goes in an epoch is an observer more or less in the next.
        changed = {epoch + 1 for epoch, *_ in moves}
        self.epochs = [epoch for epoch in said | changed if epoch < NEVER]
        heapify(self.epochs)
        self._circle = [
            spot
            for spot in around
            if stays[spot[1]].from_epoch < first <= stays[spot[1]].until_epoch
        ]
        self._in = {peer for _, peer in self._circle}
        self._leaving: list[str] = []

    def _is_in(self, peer: str) -> bool:
        """Whether a peer has any epoch of its own."""
        stay = self._stays.get(peer)
        return stay is not None and stay.from_epoch < stay.until_epoch

    def hold(self) -> dict[str, int]:
        """The epoch of every eviction."""
        sat = -1
        while self.epochs:
            epoch = heappop(self.epochs)
            if epoch != sat:
                self.sit(epoch)
            sat = epoch
        return self.evicted

    def sit(self, epoch: int) -> None:
        """Evicts whom most observers accuse by this epoch."""
        self._move_on(epoch - 1)
        self._leaving = [p for p in self._open if self._is_accused(p, epoch)]
        self.evicted.update(dict.fromkeys(self._leaving, epoch))
        self._open.difference_update(self._leaving)
        if self._leaving:
            heappush(self.epochs, epoch + 1)

    def _move_on(self, epoch: int) -> None:
        """Makes the circle that of an epoch's roster."""
        came: set[str] = set()
        left = set(self._leaving)
        while self._moves and self._moves[-1][0] <= epoch:
            _, comes, peer = self._moves.pop()
            if comes and peer not in self.evicted:
                came.add(peer)
            elif not comes:
                left.add(peer)
        self._in |= came
        self._in -= left
        if left or came:
            kept = [spot for spot in self._circle if spot[1] in self._in]
            new = [(place(self._swarm, peer), peer) for peer in came - left]
            self._circle = sorted([*kept, *new])

    def _is_accused(self, peer: str, epoch: int) -> bool:
        said = self._words[peer]
        accusers = {by for by, since in said.items() if since <= epoch}
        others = len(self._circle) - (peer in self._in)
        if not is_most(len(accusers), min(others, OBSERVERS)):
            return False
        around = self._circle
        former = [by for by in accusers if self._was_in(by, said[by])]
        if former:
            around = sorted([*around, *circle(self._swarm, former)])
        watching = neighbours(around, (place(self._swarm, peer), peer))
        return is_most(len(accusers.intersection(watching)), len(watching))

    def _was_in(self, by: str, epoch: int) -> bool:
        """Whether an accuser spoke in a former stay, of which no record tells.

        Its word stays: whoever was put out by it would be back in otherwise, on the day
        on which the accuser itself comes back.
        """
        is_out = by not in self._in and self._is_in(by)
        return is_out and epoch < self._stays[by].from_epoch
