"""How often to probe, how long to wait, and how far to trust the own judgement.

A peer whose own machine is slow sees silence where there is none. Each failed probe,
and each own turn that came far too late, makes it more careful (Lifeguard's local
health): it probes less often and suspects later, until answers come in time again.
"""

from __future__ import annotations

from dataclasses import dataclass

LONG_AGO, NEVER_S = float("-inf"), float("inf")
"""The instants of what has not happened yet, and of what will not."""

MAX_SCORE = 8
"""At worst suspicions take nine times as long."""


@dataclass(frozen=True)
class Timing:
    """What a kind of network allows, in seconds."""

    interval_s: float
    """Between two probes of one peer."""
    silence_s: float
    """Without a sign for so long a peer is silent: four lost probes in a row."""
    suspicion_s: float
    """Silent for so much longer it is accused, by one that trusts its own judgement."""


TIMINGS = {
    "local": Timing(0.5, 2.0, 5.0),
    "lan": Timing(1.0, 4.0, 15.0),
    "wan": Timing(5.0, 20.0, 60.0),
}
"""By the manifest's key ``network``."""

DEFAULT_TIMING = TIMINGS["lan"]
"""Before there is a manifest."""


class Health:
    """A score of the own machine: 0 is well, ``MAX_SCORE`` is slow or cut off."""

    def __init__(self) -> None:
        self.score = 0

    def worse(self) -> None:
        """A probe failed, or an own turn came much too late."""
        self.score = min(MAX_SCORE, self.score + 1)

    def better(self) -> None:
        """A probe was answered."""
        self.score = max(0, self.score - 1)

    def interval_s(self, timing: Timing) -> float:
        """Between two probes now: two fit a silence, or everybody would seem gone."""
        return min(timing.interval_s * (1 + self.score), timing.silence_s / 2)

    def suspicion_s(self, timing: Timing) -> float:
        """How long a silent peer is suspected before it is accused."""
        return timing.suspicion_s * (1 + self.score)
