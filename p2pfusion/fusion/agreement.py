"""Who agrees with whom, over rounds and ranges.

In one round a range has few holders, and of two that disagree nobody can say which one
lies. But windows move, so that peers meet others, again and again, and one that lies
disagrees with all. Each reducer measures, of each contributor, how its change lies
to those of the others that hold the same (``Deviation``), and this is what many of
these add up to (``Agreement``).

Honest peers differ too, the more the less alike their data is. So nobody is judged by a
fixed number, but by how far it lies from what is usual, in units of what the others
differ by; and not before it was measured several times.

Pure: numbers in, numbers out.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable
from dataclasses import dataclass

DECAY = 0.98
"""What a measurement counts for when its peer was measured once more: about fifty are
remembered."""

MIN_NOTES = 10
"""Who was measured less often is not judged."""

MIN_PEERS = 4
"""With fewer, those that lie may be half of those that can be compared."""

THRESHOLD = 5.0
"""Whoever has a higher score is suspected. Measured: ``docs/robustness.md``."""

LEAST_SPREAD = 0.08
"""Of cosines: peers that differ by less all agree. In a swarm with even data they
differ by a hundredth, and five hundredths would be nothing to suspect anybody for."""

LEAST_NORM_SPREAD = 0.3
"""The same of the logarithms of lengths."""

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


@dataclass
class _Account:
    """Sums of one peer's deviations, of which older ones count less."""

    cosine: float = 0.0
    norm: float = 0.0
    weight: float = 0.0
    notes: int = 0

    def add(self, deviation: Deviation) -> None:
        more = float(deviation.elements)
        length = math.log(max(deviation.norm_ratio, SMALLEST_RATIO))
        self.cosine = DECAY * self.cosine + more * deviation.cosine
        self.norm = DECAY * self.norm + more * length
        self.weight = DECAY * self.weight + more
        self.notes += 1


class Agreement:
    """One account of all peers, of as many deviations as were noted."""

    def __init__(self) -> None:
        self._accounts: dict[str, _Account] = {}

    def note(self, peer: str, deviation: Deviation) -> None:
        """What one reducer has measured in one round."""
        if deviation.elements:
            self._accounts.setdefault(peer, _Account()).add(deviation)

    def forget(self, peer: str) -> None:
        """What was noted of a peer counts no more."""
        self._accounts.pop(peer, None)

    def scores(self) -> dict[str, float]:
        """Of each peer that can be judged, how far it is from what is usual: in its
        direction, or because its changes are too long. 0 for who is not."""
        judged = {p: a for p, a in self._accounts.items() if a.notes >= MIN_NOTES}
        if len(judged) < MIN_PEERS:
            return {}
        cosines = {peer: a.cosine / a.weight for peer, a in judged.items()}
        norms = {peer: a.norm / a.weight for peer, a in judged.items()}
        usual, spread = _middle(cosines.values(), LEAST_SPREAD)
        length, lengths = _middle(norms.values(), LEAST_NORM_SPREAD)
        return {
            peer: max(
                0.0, (usual - cosines[peer]) / spread, (norms[peer] - length) / lengths
            )
            for peer in judged
        }

    def suspects(self) -> dict[str, float]:
        """Who is too far from the others, with its score."""
        return {p: score for p, score in self.scores().items() if score > THRESHOLD}


def _middle(values: Iterable[float], least: float) -> tuple[float, float]:
    """What is usual, and what is a usual distance from it, by medians."""
    numbers = list(values)
    usual = statistics.median(numbers)
    distance = statistics.median(abs(number - usual) for number in numbers)
    return usual, max(MAD_TO_DEVIATION * distance, least)
