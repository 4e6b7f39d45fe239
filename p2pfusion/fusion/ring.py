"""Changes as integers modulo 2**32, so that masks cancel exactly in their sum.

A change x of a range with n holders becomes ``round(x * scale)``, with the largest
power of two as scale for which n changes of magnitude ``LARGEST_CHANGE`` cannot
overflow: ``2**27 / 2**ceil(log2 n)``. Rounding moves each change by at most
``0.5 / scale``, and so their mean, too: 1.5e-8 for four holders, 3e-7 for sixty-four.
What is larger than ``LARGEST_CHANGE`` is clipped.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Ring = NDArray[np.uint32]

LARGEST_CHANGE = 16.0
"""No parameter changes by so much in a round of a training that does not diverge."""


def scale_for(holder_count: int) -> float:
    """What a change is multiplied with where so many peers hold a range."""
    spare = (holder_count - 1).bit_length()
    return float(2 ** (31 - spare) / LARGEST_CHANGE)


def to_ring(changes: Floats, scale: float) -> Ring:
    """The rounded changes; half goes to even."""
    most = LARGEST_CHANGE * scale
    scaled = np.rint(np.multiply(changes, scale, dtype=np.float64))
    # One less at the top: the largest integer is not as large as the smallest is small.
    return np.clip(scaled, -most, most - 1).astype(np.int64).astype(np.uint32)


def mean_of(total: Ring, scale: float, count: int) -> Floats:
    """The mean of ``count`` changes whose sum, without masks, is ``total``."""
    return (total.view(np.int32) / (scale * count)).astype(np.float32)
