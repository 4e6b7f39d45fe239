"""Differential privacy of one peer: its change of a round, clipped and noised.

What a peer tells others of a round is a Gaussian mechanism over its whole data set. The
change of all parameters together is clipped to a norm C, so any two data sets change
the outcome by at most 2 C; noise of standard deviation ``noise * C`` on every parameter
makes that a mechanism with the multiplier ``noise / 2``. Rounds add up (``spent.py``).
Opacus' PRV accountant turns the sum into epsilon: an upper bound, 0.01 above the truth.

The noise is drawn here, from the system's source of chance, before anything leaves the
trainer. Each number is half of the sum of four: a single one could be found out from
its rounding (Holohan and Braghin, Secure Random Sampling in Differential Privacy,
2021).
"""

from __future__ import annotations

import math
import os
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from p2pfusion.errors import ConfigError, PrivacyBudgetError
from p2pfusion.store import Spent

Chance = Callable[[int], bytes]
Floats = NDArray[np.floating]

SENSITIVITY = 2.0
"""How far two data sets can be apart, in clipping norms."""

LEAST_MULTIPLIER = 0.1
"""Below this the PRV accountant takes long, and no epsilon means anything: the bound by
Renyi's divergence, a tenth larger, is good enough."""

PIECE_ELEMENTS = 1 << 16
"""Noised at a time: what that takes beside the arrays is a few mebibytes."""


@dataclass(frozen=True)
class Privacy:
    """How a peer hides its data, and where it is kept what that has told."""

    noise: float
    """Standard deviation of the noise, in clipping norms."""
    clip: float = 1.0
    """The largest norm of a change."""
    delta: float = 1e-5
    budget: float | None = None
    """The epsilon that is never exceeded."""
    spent: Path | None = None
    """The file; None counts in memory, for experiments."""
    chance: Chance = os.urandom

    @classmethod
    def from_data(cls, fields: Mapping[str, object]) -> Privacy:
        """What the daemon tells, which has checked it."""
        return cls(
            noise=float(str(fields["noise"])),
            clip=float(str(fields["clip"])),
            delta=float(str(fields["delta"])),
            budget=None if fields["epsilon"] is None else float(str(fields["epsilon"])),
            spent=Path(str(fields["spent"])),
        )


class PrivateChanges:
    """One peer's changes, on their way to others."""

    def __init__(self, privacy: Privacy) -> None:
        self._privacy = privacy
        self._spent = Spent() if privacy.spent is None else Spent.read(privacy.spent)
        self._keep(self._spent.rounds, self._spent.inverse_squares)

    @property
    def spent(self) -> Spent:
        """What was told so far."""
        return self._spent

    def check(self) -> None:
        """``PrivacyBudgetError`` if there is no room for a round more."""
        budget, now = self._privacy.budget, self._spent
        if budget is not None and now.next_epsilon > budget:
            raise PrivacyBudgetError(
                f"the privacy budget is spent: epsilon is {now.epsilon:.2f} after "
                f"{now.rounds} rounds, and would be {now.next_epsilon:.2f} of "
                f"{budget:g}",
                hint="this peer goes on without contributing",
            )

    def hide(
        self,
        before: Sequence[Floats],
        arrays: Sequence[Floats],
    ) -> None:
        """Clips the change and adds the noise, in place, once it is counted."""
        self.check()
        self._keep(
            self._spent.rounds + 1, self._spent.inverse_squares + self._inverse_square()
        )
        pairs = list(zip(before, arrays, strict=True))
        norm = math.sqrt(sum(_square(old, new) for old, new in pairs))
        factor = min(1.0, self._privacy.clip / norm) if norm else 1.0
        deviation = self._privacy.noise * self._privacy.clip
        for old, new in pairs:
            for was, now in _pieces(old, new):
                noise = normal(now.size, self._privacy.chance)
                now[...] = was + factor * (now - was) + deviation * noise

    def _inverse_square(self) -> float:
        return (SENSITIVITY / self._privacy.noise) ** 2

    def _keep(self, rounds: int, inverse_squares: float) -> None:
        privacy = self._privacy
        following = inverse_squares + self._inverse_square()
        self._spent = Spent(
            rounds=rounds,
            inverse_squares=inverse_squares,
            delta=privacy.delta,
            epsilon=epsilon(inverse_squares, privacy.delta),
            next_epsilon=epsilon(following, privacy.delta),
        )
        if privacy.spent is not None:
            self._spent.write(privacy.spent)


def epsilon(inverse_squares: float, delta: float) -> float:
    """An upper bound of the epsilon, for a delta, of Gaussian mechanisms whose noise
    multipliers have this sum of inverse squares."""
    if not inverse_squares:
        return 0.0
    try:
        from opacus.accountants import PRVAccountant, RDPAccountant
    except ImportError:
        raise ConfigError(
            "[peer.privacy] needs the package opacus, which is not installed",
            hint="pip install 'p2pfusion[privacy]', or leave the section out",
        ) from None
    multiplier = inverse_squares**-0.5
    kind = PRVAccountant if multiplier >= LEAST_MULTIPLIER else RDPAccountant
    accountant = kind()
    accountant.history = [(multiplier, 1.0, 1)]
    # With everybody sampled, one takes log(0); the other says that its bound is loose.
    with np.errstate(divide="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return float(accountant.get_epsilon(delta))


def _square(old: Floats, new: Floats) -> float:
    """The squared norm of a change."""
    return sum(
        float(np.square(now - was, dtype=np.float64).sum())
        for was, now in _pieces(old, new)
    )


def _pieces(old: Floats, new: Floats) -> Iterator[tuple[Floats, Floats]]:
    """Two arrays piece by piece; what is written into the second is written there."""
    assert new.flags.c_contiguous, "else its pieces would be copies"
    was, now = old.reshape(-1), new.reshape(-1)
    for start in range(0, now.size, PIECE_ELEMENTS):
        place = slice(start, start + PIECE_ELEMENTS)
        yield was[place], now[place]


def normal(count: int, chance: Chance) -> NDArray[np.float64]:
    """Normal numbers of variance 1: half the sum of four, each by Box and Muller."""
    found = np.zeros(count)
    for _ in range(2):
        words = np.frombuffer(chance(16 * count), "<u8").reshape(2, -1)
        uniform = ((words >> np.uint64(11)) + 1.0) * 2.0**-53  # in (0, 1]
        radius = np.sqrt(-2.0 * np.log(uniform[0]))
        turn = 2.0 * np.pi * uniform[1]
        found += radius * (np.cos(turn) + np.sin(turn))
    return 0.5 * found


def repeatable(privacy: Privacy, seed: Sequence[int]) -> Privacy:
    """The same with noise that follows from a seed: for experiments, which nobody's
    privacy depends on."""
    return replace(privacy, chance=np.random.default_rng(list(seed)).bytes)
