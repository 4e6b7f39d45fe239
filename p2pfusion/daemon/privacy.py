"""``[peer.privacy]``: what this peer's data may tell, and what it has told so far.

The noise is the trainer's work (``training/privacy.py``). Here are the settings, what
the trainer is told of them, and what ``status`` says.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from p2pfusion.errors import ConfigError, VerificationError
from p2pfusion.protocol.manifest import Manifest
from p2pfusion.store import Spent

Fields = dict[str, object]

MAX_NOISE = 1e6
LEAST_NOISE = 1e-3


@dataclass(frozen=True, kw_only=True)
class PrivacySettings:
    """``[peer] privacy``: differential privacy of this peer's whole data set."""

    noise: float = 0.0
    """Standard deviation of the noise on every parameter's change in a round, in units
    of ``clip``; must be stated. ``docs/privacy.md`` says what it is worth and costs."""
    clip: float = 1.0
    """The change of all parameters together is scaled down to this norm."""
    delta: float = 1e-5
    """The chance that epsilon does not hold; far below one over the number of peers."""
    epsilon: float | None = None
    """The budget: this peer contributes nothing any more when one round more would
    exceed it, also after a restart; none: as long as there are rounds."""


def check_privacy(settings: PrivacySettings, where: str) -> None:
    """``ConfigError`` for a value that means nothing."""
    bounds = {
        "noise": (LEAST_NOISE, MAX_NOISE),
        "clip": (1e-6, 1e6),
        "delta": (1e-15, 0.1),
        "epsilon": (1e-3, 1e6),
    }
    for key, (low, high) in bounds.items():
        value = getattr(settings, key)
        if value is not None and not low <= value <= high:
            raise ConfigError(
                f"{where}: key {key!r} is {value:g}: it must be from {low:g} to "
                f"{high:g}",
                hint="docs/privacy.md has a table of what is worth what",
            )


def check_private(settings: PrivacySettings | None, manifest: Manifest) -> None:
    """``ConfigError`` if a swarm wants to know more than a peer tells."""
    if settings is not None and manifest.weighting == "samples":
        raise ConfigError(
            "[peer.privacy] does not go with weighting = 'samples' in [swarm]: that "
            "tells how much data this peer has",
            hint="leave the section out, or join a swarm that weighs all alike",
        )


def private_request(
    settings: PrivacySettings | None, spent: Path | None
) -> Fields | None:
    """What the trainer is told; ``spent`` is the file that it keeps."""
    if settings is None:
        return None
    assert spent is not None, "who hides its data counts what that tells"
    return {
        "noise": settings.noise,
        "clip": settings.clip,
        "delta": settings.delta,
        "epsilon": settings.epsilon,
        "spent": str(spent),
    }


def private_status(settings: PrivacySettings | None, spent: Path) -> Fields | None:
    """What was told so far, for people; None without the section."""
    if settings is None:
        return None
    try:
        found = Spent.read(spent)
    except VerificationError:
        found = None  # the trainer has failed for it, and says so
    known = found is not None and found.delta == settings.delta
    return {
        "noise": settings.noise,
        "clip": settings.clip,
        "delta": settings.delta,
        "budget": settings.epsilon,
        "rounds": None if found is None else found.rounds,
        "epsilon": found.epsilon if found is not None and known else None,
        "spent": found is not None and known and _is_spent(settings, found),
    }


def _is_spent(settings: PrivacySettings, found: Spent) -> bool:
    """Whether there is no room for a round more."""
    return settings.epsilon is not None and found.next_epsilon > settings.epsilon
