"""Whether a reducer hands out what it should: how far that is from what was before.

A rule at a reducer helps against everybody but the reducer. Whoever gets what was fused
knows about how far that can be from the values that are here: as far as its own change
of the same tensors is long, once for every round that these are older. What is much
farther is *odd* (``Bound``), and somebody else is asked for it, too, before it counts.

What only one other says proves nothing by itself, as either may lie. One that is odd
where the other is not lies; and so does one that several others contradict
(``Opinions``). Two honest ones may have summed up different contributions, and lengths
are compared over all ranges that each of them reduces: they are not equal, but near.

Pure: numbers in, numbers out.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from p2pfusion.fusion.sums import Floats

Doubles = NDArray[np.float64]
Counts = NDArray[np.int64]

ODD = 3.0
"""So many times as far as is usual is odd. Measured: ``docs/robustness.md``."""

APART = 0.5
"""What two reducers make of the same is *apart* when it differs by more than a change
is usually long. Honest ones are nearer than two thirds of that even where some holders'
changes are a thousand times too long; one that turns its change around is at two."""

WITNESSES = 3
"""So many others must contradict a peer that is not odd, and more than half of those
that it was compared with: two that lie together cannot make anybody look guilty."""


def squares(one: Floats, other: Floats, sizes: Counts) -> Doubles:
    """(parts,): the squared distances of the parts of two arrays, which have these
    sizes, one after the other."""
    apart = one.astype(np.float64) - other
    return np.add.reduceat(apart * apart, np.cumsum(sizes) - sizes)


@dataclass(frozen=True)
class Bound:
    """How far the parts of a stream usually are from what is here of them."""

    usual: Doubles
    """(parts,): squared lengths of as many elements of the own change of a round; 0
    where there is none to compare with."""
    ages: Counts
    """(parts,): how many rounds older what is here is."""

    def ratio(self, moved: Doubles) -> float:
        """A distance from what is here, in units of what is usual; 0 where nothing is
        known of that. ``moved``: squared, of each part."""
        known = self.usual > 0
        usual = float(np.sum(self.usual[known] * np.square(self.ages[known])))
        return float(np.sqrt(np.sum(moved[known]) / usual)) if usual else 0.0

    def is_apart(self, distance: Doubles) -> bool:
        """Whether two reducers say different things; ``distance``: squared, of each
        part."""
        known = self.usual > 0
        return float(np.sum(distance[known])) > APART**2 * float(np.sum(self.usual))

    def of(self, parts: NDArray[np.bool_]) -> Bound:
        """The same for some of the parts."""
        return Bound(self.usual[parts], self.ages[parts])


class Opinions:
    """Who was the farther one of two that were apart, when they were last compared."""

    def __init__(self) -> None:
        self._wrong: defaultdict[str, dict[str, bool]] = defaultdict(dict)

    def note(self, peer: str, other: str, *, wrong: bool) -> None:
        """A peer was compared with another."""
        self._wrong[peer][other] = wrong

    def contradicted(self, peer: str) -> bool:
        """Whether so many others say otherwise that the peer must be wrong."""
        found = list(self._wrong[peer].values())
        return sum(found) >= WITNESSES and 2 * sum(found) > len(found)
