"""Fusing changes when some of them may be lies: ``RobustChange``.

First lengths are bounded. A holder's change is as long as it may be where it is at most
``CLIP`` times as long as is usual, which is: in each group of ranges, the median of its
holders' lengths; and over all groups of this reducer that the holder has, their root of
the sum of squares. So what is compared are lengths over all that a holder shares with
others here, not over single ranges, of which some have three elements. Weights are
bounded by ``WEIGHT_CAP`` times the median. Then a rule (``rules.py``) makes one change
of several, group by group.

``centred`` goes on from there, as in centred clipping (Karimireddy et al., arXiv
2012.10333, Sec. 5): each holder's distance from what was found is bounded by the median
distance, and the mean of that is what is found next. The first centre is the value that
was fused before.

Contributions that change nothing at all say nothing, and are left out. Medians of an
even number are the lower of two: where there are two holders, the shorter one decides.

Where only one holder came there is nobody to compare it with: its change may be as
long, for its number of elements, as is usual among this reducer's contributions, and
where it is the only one of these, as long as the old values are.

Memory: what ``kept.py`` says, and the result; both in float32.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from p2pfusion.fusion.agreement import Deviation
from p2pfusion.fusion.average import MeanChange
from p2pfusion.fusion.kept import (
    Counts,
    Doubles,
    Group,
    Kept,
    gather,
    groups,
    scatter,
)
from p2pfusion.fusion.rules import RULES, mean
from p2pfusion.fusion.sums import LARGEST, Floats, Partial

CLIP = 2.0
"""How many times the usual length a change may have. Honest peers with shares of data
of different size differ by about as much."""

WEIGHT_CAP = 4.0
"""How many times the median weight a weight may be."""

MIN_COMPARED = 3
"""So many holders it takes to say who differs from the others."""

CENTRED_STEPS = 2
"""How often ``centred`` goes on from the clipped mean."""


class RobustChange(MeanChange):
    """Changes, kept while open; after ``close`` the old values and the fused change."""

    _cursor_kind = Kept

    def __init__(self, range_sizes: ArrayLike, rule: str) -> None:
        super().__init__(range_sizes)
        self._rule = rule
        self._looked_at = np.zeros(0, np.int64)
        self.sayings: dict[str, Floats] = {}
        """After ``close``, by source: what it said of the elements looked at."""

    def look_at(self, elements: Counts) -> None:
        """Before ``close``: of these elements it is kept what each source says."""
        self._looked_at = elements

    def _room(self, count: int) -> NDArray[np.float64]:
        return np.zeros(0)  # nothing is summed up

    def _count_weights(self) -> Partial:
        super()._count_weights()
        return []  # what came of a range in part is left out

    def _fused(self, partial: Partial) -> Floats:
        result = np.zeros(int(self._starts[-1]), np.float32)
        kept = [each for each in self._contributions() if each.values.any()]
        kept.sort(key=lambda each: each.source)  # not the order of arrival
        weights = capped(np.array([each.weight for each in kept]))
        found = groups(kept, self._sizes)
        grams = [_gram(group, kept) for group in found]
        factors = self._factors(found, grams, len(kept))
        rule = RULES[self._rule]
        for group, scale in zip(found, factors, strict=True):
            for block in group.blocks():
                stack = group.stack(block, kept) * scale[:, None]
                fused = rule(stack, weights[group.members])
                scatter(block, np.clip(fused, -LARGEST, LARGEST), result)
        if self._rule == "centred":
            for _ in range(CENTRED_STEPS):
                _recentre(found, kept, weights, result)
        self.deviations = deviations([c.source for c in kept], found, grams)
        for each in self._contributions():
            self.sayings[each.source] = each.at(self._looked_at, self._starts)
            if each.received_count and each not in kept:
                self.deviations[each.source] = Deviation(0.0, 0.0, each.received_count)
            each.free()
        return result

    def _contributions(self) -> list[Kept]:
        return [each for each in self._cursors if isinstance(each, Kept)]

    def _factors(
        self, found: Sequence[Group], grams: Sequence[Doubles], count: int
    ) -> list[Doubles]:
        """Of each group, by what its members' changes are multiplied."""
        squares = [np.diag(gram) for gram in grams]
        shared = clip_factors(found, squares, count, CLIP)
        usual = _usual_square(found, squares, count)
        scales = []
        for group, square in zip(found, squares, strict=True):
            scale = shared[group.members]
            if len(group.members) == 1 and square[0] > 0:
                most = CLIP**2 * usual * group.size if count > 1 else self._old_square()
                scale = np.minimum(scale, np.sqrt(most / square)) if most else scale
            scales.append(scale)
        return scales

    def _old_square(self) -> float:
        """The squared length of the old values; without a wider copy of them."""
        return float(np.einsum("i,i->", self._old, self._old, dtype=np.float64))


def capped(weights: Doubles) -> Doubles:
    """Weights of which none is more than ``WEIGHT_CAP`` times their median."""
    if not len(weights):
        return weights
    return np.minimum(weights, WEIGHT_CAP * _low_median(weights))


def clip_factors(
    found: Sequence[Group], squares: Sequence[Doubles], count: int, clip: float
) -> Doubles:
    """Of each contribution, by what it is multiplied to have at most ``clip`` times the
    usual length, over all groups that it shares with others; 1 where there are none.

    ``squares``: of each group its members' squared lengths.
    """
    own, usual = np.zeros(count), np.zeros(count)
    for group, square in zip(found, squares, strict=True):
        if len(group.members) > 1:
            own[group.members] += square
            usual[group.members] += _low_median(square)
    factors = np.ones(count)
    long = own > clip**2 * usual
    factors[long] = clip * np.sqrt(usual[long] / own[long])
    return factors


def deviations(
    sources: Sequence[str], found: Sequence[Group], grams: Sequence[Doubles]
) -> dict[str, Deviation]:
    """How the change of each source lies to those of others, where it has two at least.

    Of only two holders either disagrees with the other as much, and with methods whose
    windows move in step they meet nobody else: the honest one would be suspected, too.
    """
    count = len(sources)
    products, ours = np.zeros((count, count)), np.zeros((count, count))
    own, usual, elements = np.zeros(count), np.zeros(count), np.zeros(count, np.int64)
    for group, gram in zip(found, grams, strict=True):
        if len(group.members) < MIN_COMPARED:
            continue
        square, pairs = np.diag(gram), np.ix_(group.members, group.members)
        products[pairs] += gram
        ours[pairs] += square[:, None]
        own[group.members] += square
        usual[group.members] += _low_median(square)
        elements[group.members] += group.size
    lengths = np.sqrt(ours * ours.T)
    cosines = np.divide(products, lengths, np.zeros_like(products), where=lengths > 0)
    told = {}
    for at in np.flatnonzero(elements).tolist():
        others = np.flatnonzero((ours[at] > 0) & (np.arange(count) != at))
        cosine = _high_median(cosines[at, others]) if len(others) else 0.0
        ratio = float(np.sqrt(own[at] / usual[at])) if usual[at] > 0 else 0.0
        told[sources[at]] = Deviation(cosine, ratio, int(elements[at]))
    return told


def _high_median(values: Doubles) -> float:
    return float(np.sort(values)[len(values) // 2])


def _low_median(values: Doubles) -> float:
    return float(np.sort(values)[(len(values) - 1) // 2])


def _gram(group: Group, kept: Sequence[Kept]) -> Doubles:
    """(members, members): the products of their changes."""
    total = np.zeros((len(group.members), len(group.members)))
    for block in group.blocks():
        stack = group.stack(block, kept)
        total += stack @ stack.T
    return total


def _usual_square(
    found: Sequence[Group], squares: Sequence[Doubles], count: int
) -> float:
    """The median, over contributions, of the mean square of their elements."""
    total, sizes = np.zeros(count), np.zeros(count)
    for group, square in zip(found, squares, strict=True):
        total[group.members] += square
        sizes[group.members] += group.size
    there = sizes > 0
    return _low_median(total[there] / sizes[there]) if there.any() else 0.0


def _recentre(
    found: Sequence[Group], kept: Sequence[Kept], weights: Doubles, result: Floats
) -> None:
    """One step of centred clipping, from the changes that stand in the result."""
    squares = []
    for group in found:
        square = np.zeros(len(group.members))
        for block in group.blocks():
            away = group.stack(block, kept) - gather(block, result)
            square += np.square(away).sum(axis=1)
        squares.append(square)
    factors = clip_factors(found, squares, len(kept), 1.0)
    for group in found:
        if len(group.members) == 1:
            continue
        members, scale = group.members, factors[group.members, None]
        for block in group.blocks():
            centre = gather(block, result)
            step = mean((group.stack(block, kept) - centre) * scale, weights[members])
            scatter(block, np.clip(centre + step, -LARGEST, LARGEST), result)
