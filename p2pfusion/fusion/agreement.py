"""Who agrees with whom, over rounds and ranges.

In one round a range has few holders, and of two that disagree nobody can say which one
lies. But windows move, so that peers meet others, again and again, and one that lies
disagrees with all. Each reducer measures, of each contributor, how its change lies
to those of the others that hold the same (``Deviation``), and this is what many of
these add up to (``Agreement``).

It measures, too, how much of a change is new (``repeating.py``). That needs nobody
else who holds the same, and few measurements: no honest peer sends a change twice.

Honest peers differ too, the more the less alike their data is. So nobody is judged by a
fixed number, but by how far it lies from what is usual, in units of what the others
differ by; and not before it was measured several times.

Pure: numbers in, numbers out.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field

DECAY = 0.98
"""What a measurement counts for when its peer was measured once more: about fifty are
remembered."""

MIN_NOTES = 10
"""Who was measured less often is not judged."""

MIN_RECALLS = 3
"""The same of how much is new in what it says."""

MIN_ELEMENTS = 16
"""Of fewer a cosine says little: where windows move in step, what all can compare may
be the biases of the outputs and nothing else."""

MIN_PEERS = 5
"""With fewer, by what they differ says little: of four, an honest one was once 5.6
times as long as usual."""

MIN_RECALLED_PEERS = 4
"""The same of how much is new. With fewer, those that lie may be half of them."""

THRESHOLD = 5.0
"""Whoever has a higher score is suspected. Measured: ``docs/robustness.md``."""

LEAST_SPREAD = 0.08
"""Of cosines: peers that differ by less all agree. In a swarm with even data they
differ by a hundredth, and five hundredths would be nothing to suspect anybody for."""

LEAST_NORM_SPREAD = 0.3
"""The same of the logarithms of lengths."""

LEAST_NEWS_SPREAD = 1.25
"""The same of the logarithms of what is new: who is suspected has less than a
five-hundredth of the news that others have. Measured: ``docs/robustness.md``."""

SMALLEST_RATIO = 1e-6
MAD_TO_DEVIATION = 1.4826
"""Of normal numbers, from their median absolute deviation to the standard one."""


@dataclass(frozen=True)
class Deviation:
    """How a change lies to those of the others that hold the same elements."""

    cosine: float
    """The median, over the others, of the cosine between its change and theirs; of an
    even number the higher one, since two of four may lie."""
    norm_ratio: float
    """Its length, to the median of all holders'."""
    elements: int
    """So many elements are shared with two others at least."""
    news: float = 1.0
    """How new it is: one less the cosine to what the peer last said of the same."""
    recalled: int = 0
    """So many elements it had said something of before."""


@dataclass
class _Mean:
    """The mean of what was measured, of which older counts less."""

    total: float = 0.0
    weight: float = 0.0
    notes: int = 0
    remembered: float = 0.0
    """The number of notes, of which older count less."""

    def add(self, value: float, weight: float) -> None:
        self.total = DECAY * self.total + weight * value
        self.weight = DECAY * self.weight + weight
        self.remembered = DECAY * self.remembered + 1
        self.notes += 1

    def says_enough(self, notes: int) -> bool:
        """Whether there are so many notes, of enough elements each on average."""
        enough = self.weight >= MIN_ELEMENTS * self.remembered
        return enough and self.notes >= notes


@dataclass
class _Account:
    """What was measured of one peer; of each the more, the worse."""

    against: _Mean = field(default_factory=_Mean)
    length: _Mean = field(default_factory=_Mean)
    sameness: _Mean = field(default_factory=_Mean)

    def add(self, deviation: Deviation) -> None:
        if deviation.elements:
            self.against.add(-deviation.cosine, deviation.elements)
            self.length.add(_logarithm(deviation.norm_ratio), deviation.elements)
        if deviation.recalled >= MIN_ELEMENTS:
            self.sameness.add(-_logarithm(deviation.news), deviation.recalled)


class Agreement:
    """One account of all peers, of as many deviations as were noted."""

    def __init__(self) -> None:
        self._accounts: dict[str, _Account] = {}

    def note(self, peer: str, deviation: Deviation) -> None:
        """What one reducer has measured in one round."""
        self._accounts.setdefault(peer, _Account()).add(deviation)

    def forget(self, peer: str) -> None:
        """What was noted of a peer counts no more."""
        self._accounts.pop(peer, None)

    def scores(self, among: Collection[str] | None = None) -> dict[str, float]:
        """Of each peer that can be judged, how far it is from what is usual: in its
        direction, because its changes are too long, or because they are not new. 0 for
        who is not.

        ``among``: only these count, as the others are not there any more.
        """
        told = [
            (peer, account)
            for peer, account in self._accounts.items()
            if among is None or peer in among
        ]
        against = {peer: account.against for peer, account in told}
        length = {peer: account.length for peer, account in told}
        sameness = {peer: account.sameness for peer, account in told}
        found: dict[str, float] = {}
        for distances in (
            _distances(against, MIN_PEERS, MIN_NOTES, LEAST_SPREAD),
            _distances(length, MIN_PEERS, MIN_NOTES, LEAST_NORM_SPREAD),
            _distances(sameness, MIN_RECALLED_PEERS, MIN_RECALLS, LEAST_NEWS_SPREAD),
        ):
            for peer, distance in distances.items():
                found[peer] = max(found.get(peer, 0.0), distance)
        return found

    def suspects(self, among: Collection[str] | None = None) -> dict[str, float]:
        """Who is too far from the others, with its score."""
        scores = self.scores(among)
        return {peer: score for peer, score in scores.items() if score > THRESHOLD}


def _distances(
    means: Mapping[str, _Mean], peers: int, notes: int, least: float
) -> dict[str, float]:
    """How many spreads each is above what is usual, of those measured often enough;
    nobody where these are too few."""
    judged = {p: m.total / m.weight for p, m in means.items() if m.says_enough(notes)}
    if len(judged) < peers:
        return {}
    usual, spread = _middle(judged.values(), least)
    return {peer: (value - usual) / spread for peer, value in judged.items()}


def _logarithm(ratio: float) -> float:
    return math.log(max(ratio, SMALLEST_RATIO))


def _middle(values: Iterable[float], least: float) -> tuple[float, float]:
    """What is usual, and what is a usual distance from it, by medians."""
    numbers = list(values)
    usual = statistics.median(numbers)
    distance = statistics.median(abs(number - usual) for number in numbers)
    return usual, max(MAD_TO_DEVIATION * distance, least)
