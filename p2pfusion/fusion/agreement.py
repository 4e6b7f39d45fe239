"""Who agrees with whom, over rounds and ranges.

In one round a range has few holders, and of two that disagree nobody can say which one
lies. But windows move, so every peer meets every other, again and again, and one that
lies disagrees with all. Each reducer measures, of each contributor, how its change lies
to those of the others that hold the same (``Deviation``), and this is what many of these
add up to (``Agreement``).

Honest peers differ too, the more the less alike their data is. So nobody is judged by a
fixed number alone, but by how far it lies from the others, and not before it was met
several times.

Pure: numbers in, numbers out.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

DECAY = 0.9
"""What a measurement counts for when another was made since: about ten are remembered."""


@dataclass(frozen=True)
class Deviation:
    """How a change lies to those of the others that hold the same elements."""

    cosine: float
    """The median, over the others, of the cosine between its change and theirs."""
    norm_ratio: float
    """Its length, to the median of all holders'."""
    elements: int
    """So many elements are shared with anybody."""


class Agreement:
    """One account of all peers, of as many deviations as were noted."""

    def __init__(self) -> None:
        self._sums: dict[str, tuple[float, float, float]] = {}
        self._notes: dict[str, int] = {}

    def note(self, peer: str, deviation: Deviation) -> None:
        """What one reducer has measured in one round."""
        cosines, ratios, weight = self._sums.get(peer, (0.0, 0.0, 0.0))
        more = float(deviation.elements)
        ratio = math.log(max(deviation.norm_ratio, 1e-6))
        self._sums[peer] = (
            DECAY * cosines + more * deviation.cosine,
            DECAY * ratios + more * ratio,
            DECAY * weight + more,
        )
        self._notes[peer] = self._notes.get(peer, 0) + 1

    def raw(self):
        return {p: (c / w, r / w) for p, (c, r, w) in self._sums.items() if w}

    def scores(self) -> dict[str, float]:
        return {p: c for p, (c, r) in self.raw().items()}

    def suspects(self) -> dict[str, float]:
        return {}
