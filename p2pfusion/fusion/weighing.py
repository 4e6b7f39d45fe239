"""Which of two reducers is to be believed: the one that goes less far.

A rule at a reducer helps against everybody but the reducer. So two make the same fused
values, the reducer and its backup, and whoever gets them compares. Two honest ones
that have added up the same contributions agree but for rounding; if they have not, or
lengths were cut differently because each compares them over all ranges that it
reduces, they are a part of a change apart. Where they are farther apart, the one is
taken that is nearer to what was here before: a liar that does harm goes far. All who
compare take the same one, so that nobody has values that others do not have.

Who of two has lied is not known. But who is the farther one of several such pairs, with
different others, has (``Opinions``). And that two agree means nothing where others
contradict one of them and nobody confirms the other: liars back up each other.

Pure: numbers in, numbers out.
"""

from __future__ import annotations

import statistics
from collections import defaultdict, deque

import numpy as np

from p2pfusion.fusion.sums import Floats

APART = 1.0
"""So many times the way that the nearer one goes, and two are *apart*. Honest ones are
less than two thirds of a change apart even where two of ten peers' changes are a
thousand times too long; one that turns its change around is at two."""

WITNESSES = 3
"""So many others must have been nearer, and more than half of those that a peer was
compared with: two that lie together cannot make anybody look guilty."""


REMEMBERED = 50
"""Streams of fused values of which is remembered how far they went: ten rounds of five
reducers."""


def farther(old: Floats, one: Floats, other: Floats, usual: float = 0.0) -> int:
    """Which of two makes too much of the old values: 1 or 2; 0 where they agree.

    ``usual``: how far elements have usually gone lately, as a root mean square; a part
    of that is nothing to suspect anybody for, however little changes now.
    """
    first, second = _length(one, old), _length(other, old)
    least = usual * float(np.sqrt(len(old)))
    if _length(one, other) <= APART * max(min(first, second), least):
        return 0
    return 1 if first > second else 2


def _length(one: Floats, other: Floats) -> float:
    apart = one.astype(np.float64) - other
    return float(np.sqrt(apart @ apart))


class Opinions:
    """Who was the farther one of two that were apart, when they were last compared; and
    how far believed values have gone lately."""

    def __init__(self) -> None:
        self._wrong: defaultdict[str, dict[str, bool]] = defaultdict(dict)
        self._latest: dict[str, tuple[int, dict[str, bool]]] = {}
        """Of each, the last round in which it was compared, and with whom then: whether
        it was the farther one ever, in whichever order these came."""
        self._squares: deque[float] = deque(maxlen=REMEMBERED)

    def note(self, one: str, other: str, which: int, round_index: int) -> None:
        """Two peers were compared; ``which`` is what ``farther`` says."""
        for peer, by, wrong in ((one, other, which == 1), (other, one, which == 2)):
            self._wrong[peer][by] = wrong
            if peer not in self._latest or self._latest[peer][0] != round_index:
                self._latest[peer] = round_index, {}
            latest = self._latest[peer][1]
            latest[by] = wrong or latest.get(by, False)

    def went(self, old: Floats, new: Floats) -> None:
        """Values that are believed, and what was here before."""
        if len(new):
            self._squares.append(_length(new, old) ** 2 / len(new))

    @property
    def usual(self) -> float:
        """The root of the median mean square of what was believed lately; 0 while that
        is so little that one lie could be the median."""
        found = self._squares
        return statistics.median(found) ** 0.5 if len(found) > 2 else 0.0

    def is_doubted(self, peer: str) -> bool:
        """Whether somebody said otherwise than a peer when it was last compared."""
        return any(self._latest_of(peer).values())

    def are_wrong(self, one: str, other: str) -> bool:
        """Whether nothing of what two peers have made of the same is to be believed.

        So it is if most of the others say otherwise than both. Where the two agree, if
        most say otherwise than one of them, and no majority confirms the other one.
        Only the last round of each counts: what was said before is no excuse, and all
        who get the same values can judge by the same.
        """
        least, most = sorted((self._balance(one, other), self._balance(other, one)))
        if self._latest_of(one).get(other) or self._latest_of(other).get(one):
            return least > 0
        return least >= 0 and most > 0

    def _balance(self, peer: str, but: str) -> int:
        """How many more say otherwise than a peer than the same, leaving one out."""
        latest = self._latest_of(peer).items()
        return sum(1 if wrong else -1 for by, wrong in latest if by != but)

    def _latest_of(self, peer: str) -> dict[str, bool]:
        return self._latest[peer][1] if peer in self._latest else {}

    def contradicted(self, peer: str) -> bool:
        """Whether so many others say otherwise that the peer must be wrong."""
        found = list(self._wrong[peer].values())
        return sum(found) >= WITNESSES and 2 * sum(found) > len(found)
