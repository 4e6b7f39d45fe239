"""What a trainer is asked with ``split_fraction = "auto"``: which of these splits fits.

A split fraction decides how wide windows are, or how many layers there are; only some
fractions are different from each other. The trainer knows what each takes
(``training/prediction.py``); here is which there are.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

from p2pfusion.methods import Member, PlanContext
from p2pfusion.protocol.manifest import Manifest
from p2pfusion.split.depth import is_cut_in_depth
from p2pfusion.split.layout import Layout
from p2pfusion.split.segment import Split

MOST = 512
"""Fractions that are told apart: a wider axis is cut in larger steps."""

DEPTH_STEPS = 64
"""Parts in which depth is tried: what a method makes of a fraction of it is its own."""

LOOKED_AT = 5
"""Rounds whose splits are compared: some methods train more in some of them."""


@dataclass(frozen=True)
class Candidate:
    """A fraction, and the largest split that it leads to."""

    fraction: Fraction
    split: Split


def candidates(manifest: Manifest) -> list[Candidate]:
    """The fractions that differ, ascending; of those with equal splits the simplest."""
    found: list[Candidate] = []
    for fraction in _fractions(manifest.layout):
        split = candidate(manifest, fraction).split
        if found and found[-1].split == split:
            simplest = min(found.pop().fraction, fraction, key=lambda f: f.denominator)
            found.append(Candidate(simplest, split))
        else:
            found.append(Candidate(fraction, split))
    return found


def candidate(manifest: Manifest, fraction: Fraction) -> Candidate:
    """What one who is alone in the swarm would train, in the largest of some rounds."""
    layout, rounds = manifest.layout, manifest.rounds
    context = PlanContext(
        manifest.seed, rounds, layout, (Member("this peer", fraction),)
    )
    places = {number * (rounds - 1) // (LOOKED_AT - 1) for number in range(LOOKED_AT)}
    splits = [manifest.trained_by.split(context, each, 0) for each in sorted(places)]
    largest = max(
        splits, key=lambda each: each.size(layout) + each.trained.size(layout)
    )
    return Candidate(fraction, largest)


def _fractions(layout: Layout) -> list[Fraction]:
    if is_cut_in_depth(layout):
        return [Fraction(part, DEPTH_STEPS) for part in range(1, DEPTH_STEPS + 1)]
    counts = [axis.cell_count for axis in layout.axes] or [1]
    finest, fewest = max(counts), min(counts)
    step = -(-finest // MOST)
    cells = [*range(step, finest, step), finest]
    fractions = [Fraction(each, finest) for each in cells]
    smallest = Fraction(1, fewest)
    return sorted({smallest, *(each for each in fractions if each > smallest)})
