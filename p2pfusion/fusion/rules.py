"""What several holders' changes of the same elements amount to, when some may lie.

Each rule takes a stack of changes, (holders, elements) in float64, and the holders'
weights, and gives one change. A change is how far a holder has moved from the value
fused before, which is thus the origin: the *anchor*.

Which rule can be used depends on how many holders came. A median needs three, because
of two nobody can say which one lies. A trimmed mean needs five: with fewer, what is
left after taking one away at each end is a median anyway.

Median and trimmed mean per element: Yin et al., Byzantine-Robust Distributed Learning
(arXiv 1803.01498), Sec. 4.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Doubles = NDArray[np.float64]
Rule = Callable[[Doubles, Doubles], Doubles]

MIN_FOR_MEDIAN = 3
MIN_FOR_TRIMMED = 5

TRIMMED_SHARE = 4
"""One holder of so many is left out at each end."""


def mean(stack: Doubles, weights: Doubles) -> Doubles:
    """The weighted mean."""
    found: Doubles = weights @ stack / weights.sum()
    return found


def trimmed(stack: Doubles, weights: Doubles) -> Doubles:
    """The weighted mean of each element without its largest and smallest values.

    How many these are is a matter of heads, not of weights: who claims many samples
    shall not be able to push others out.
    """
    count = len(stack)
    if count < MIN_FOR_TRIMMED:
        return median(stack, weights)
    order = np.argsort(stack, axis=0, kind="stable")
    cut = count // TRIMMED_SHARE
    kept = order[cut : count - cut]
    heavy = weights[kept]
    found: Doubles = (np.take_along_axis(stack, kept, axis=0) * heavy).sum(axis=0)
    return found / heavy.sum(axis=0)


def median(stack: Doubles, weights: Doubles) -> Doubles:
    """The median of each element; of two holders, what both agree on.

    Weights do not count: they are what holders claim, and two of five with four times
    the others' weight would be most of it.
    """
    if len(stack) < MIN_FOR_MEDIAN:
        return anchored(stack)
    found: Doubles = np.median(stack, axis=0)
    return found


def anchored(stack: Doubles) -> Doubles:
    """Of one holder its change. Of two the median of both and the anchor: the smaller
    change where both go the same way, none where they disagree.

    So of two the liar can hold back the honest one, and never lead it elsewhere.
    """
    if len(stack) < 2:
        return stack[0]
    low, high = stack.min(axis=0), stack.max(axis=0)
    return np.maximum(low, np.minimum(high, 0.0))


RULES: dict[str, Rule] = {
    "clipped": mean,
    "trimmed": trimmed,
    "median": median,
    "centred": mean,
}
"""By the manifest's ``fusion``, but for ``mean``, which streams. All of them get
changes of bounded length (``robust.py``), and that is all that ``clipped`` asks for;
``centred`` then goes on from this mean."""
