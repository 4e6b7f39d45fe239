"""Every attack by name: what it makes of a peer's honest change, and what else.

An attacker is stronger here than it could be in a swarm: it knows what all the others
have trained before it offers anything (``Sight``).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from p2pfusion.split.forms import BFLOAT16, FLOAT16, FLOAT32, Form

Floats = NDArray[np.float32]
Arrays = list[Floats]

NOISE = 10.0
"""Standard deviation of ``noise``, in root mean squares of the honest change."""

LITTLE = 1.5
"""Of ``little-is-enough``, in standard deviations: with so few holders a liar at this
distance is still among the honest ones (Baruch et al., arXiv 1902.06156, z_max)."""

OPPOSITE = 10.0
"""Of ``inner-product`` (Xie et al., arXiv 1903.03936, epsilon): two of ten then turn a
mean around."""

MANY_SAMPLES = 1000
REDUCER_FACTOR = 10.0


@dataclass(frozen=True)
class Sight:
    """What an attacker knows when it makes its offer; all arrays are of its split."""

    own: Arrays
    """How it would honestly change what it has received."""
    mean: Arrays
    """Of the honest holders' changes, per element; 0 where there are none."""
    deviation: Arrays
    """Their standard deviation."""
    first: Arrays
    """What it has offered when it had each element for the first time."""
    generator: np.random.Generator


Change = Callable[[Sight], Arrays]


def scaled(factor: float) -> Change:
    """The own change, so many times."""
    return lambda sight: [np.float32(factor) * each for each in sight.own]


def honest(sight: Sight) -> Arrays:
    """What it has trained."""
    return sight.own


def noise(sight: Sight) -> Arrays:
    """Gaussian, much larger than a change."""
    return [
        sight.generator.normal(0, NOISE * np.sqrt(np.mean(each**2)), each.shape).astype(
            np.float32
        )
        for each in sight.own
    ]


def little_is_enough(sight: Sight) -> Arrays:
    """All liars the same, just inside what the honest differ by."""
    pairs = zip(sight.mean, sight.deviation, strict=True)
    return [mean - np.float32(LITTLE) * deviation for mean, deviation in pairs]


def inner_product(sight: Sight) -> Arrays:
    """Against the direction of the honest mean."""
    return [np.float32(-OPPOSITE) * each for each in sight.mean]


def stale(sight: Sight) -> Arrays:
    """What it offered first, forever."""
    return sight.first


def wrong_coordinates(sight: Sight) -> Arrays:
    """Values that belong to other elements of the same tensors."""
    return [np.roll(each, each.size // 2).reshape(each.shape) for each in sight.own]


def not_a_number(form: Form, size: int) -> bytes:
    """All bits set: no number in any form, and in none of few bits a block."""
    return b"\xff" * size


def infinite(form: Form, size: int) -> bytes:
    """Positive infinity; in a form without, a scale that is refused."""
    pattern = {FLOAT32: b"\0\0\x80\x7f", BFLOAT16: b"\x80\x7f", FLOAT16: b"\0\x7c"}
    wanted = pattern.get(form, b"\xfe")
    return (wanted * (size // len(wanted) + 1))[:size]


def turned_around(old: Floats, new: Floats) -> Floats:
    """What a lying reducer makes of what it has fused."""
    limit = np.finfo(np.float32).max
    with np.errstate(over="ignore"):
        return np.clip(old - np.float32(REDUCER_FACTOR) * (new - old), -limit, limit)


@dataclass(frozen=True)
class Attack:
    """What hostile peers do that others do not."""

    change: Change = honest
    """What they offer as their change."""
    sent: Callable[[Form, int], bytes] | None = None
    """The bytes that they send in place of any contribution."""
    fused: Callable[[Floats, Floats], Floats] | None = None
    """What they pass on as fused, of old and new values."""
    samples: int = 1
    """So many times the samples that they have."""
    flips_labels: bool = False
    """Whether they train the last class as the first, and so on."""


ATTACKS: dict[str, Attack] = {
    "sign-flip": Attack(scaled(-1)),
    "scale-10": Attack(scaled(10)),
    "scale-1000": Attack(scaled(1000)),
    "noise": Attack(noise),
    "nan": Attack(sent=not_a_number),
    "inf": Attack(sent=infinite),
    "little-is-enough": Attack(little_is_enough),
    "inner-product": Attack(inner_product),
    "label-flip": Attack(flips_labels=True),
    "free-rider": Attack(scaled(0)),
    "stale": Attack(stale),
    "samples": Attack(samples=MANY_SAMPLES),
    "reducer": Attack(fused=turned_around),
    "wrong-coordinates": Attack(wrong_coordinates),
}
