"""Who is so slow that the others do not wait for it.

A peer is *too late* for a round if its values of that round come, if at all, later than
the deadline after those of half of the others. Who was too late a few times in a row is
a straggler: rounds end without it as soon as all others have offered. What it trains
counts in later rounds, and in the last one in which that can be it is waited for once
more, so that its work is not lost for a moment. As soon as something comes that would
have been in time, had anybody waited, it is waited for again.

Each peer judges by what it has seen itself, and itself among the others: this is only
about how long to wait. At least half of the peers are always in time.
"""

from __future__ import annotations

from collections.abc import Mapping

from p2pfusion.protocol.messages import Offer

TOO_SLOW_ROUNDS = 3
"""So many rounds too late in a row, and the sub-model is too large for this machine."""

Seen = Mapping[str, tuple[float, Offer | None] | None]
"""By peer: what it has offered in a round, and when; None for nothing yet."""


class Stragglers:
    """For how many rounds in a row each peer was too late, by one of them."""

    def __init__(self, max_staleness: int, rounds: int) -> None:
        """``rounds``: of the swarm; ``max_staleness``: in so many later rounds what was
        too late still counts."""
        self._staleness = max_staleness
        self._last_round = rounds - 1
        self._times: dict[str, int] = {}
        self._offered_in: dict[str, int] = {}
        self._half_at: dict[int, float] = {}

    def in_round(self, number: int) -> frozenset[str]:
        """For whom nobody waits in a round."""
        if not self._times or number >= self._last_round:
            return frozenset()  # what does not come now never counts
        return frozenset(
            peer
            for peer, times in self._times.items()
            if times >= TOO_SLOW_ROUNDS
            and number != self._offered_in.get(peer, -1) + 1 + self._staleness
        )

    def times_late(self, peer: str) -> int:
        """For how many rounds in a row a peer was too late."""
        return self._times.get(peer, 0)

    def sealed(self, number: int, half_at: float, wait_s: float, seen: Seen) -> None:
        """A round is over, for which half of the others were ready at an instant; what
        came so much later was too late."""
        if not self._staleness:
            return  # whom nobody waits for could give nothing at all
        self._half_at[number] = half_at
        self._half_at.pop(number - 1 - self._staleness, None)
        for peer, offered in seen.items():
            self._judge(peer, number, offered, wait_s)

    def _judge(
        self,
        peer: str,
        number: int,
        offered: tuple[float, Offer | None] | None,
        wait_s: float,
    ) -> None:
        at, offer = offered or (float("inf"), None)
        if offer is not None and offer.samples:
            self._offered_in[peer] = number
            ready_at = self._half_at.get(number - offer.rounds_late, float("-inf"))
            if not offer.rounds_late or at <= ready_at + wait_s:
                self._times.pop(peer, None)
                return
        elif at <= self._half_at[number]:
            return  # it had nothing to give, and said so before anybody waited
        self._times[peer] = self._times.get(peer, 0) + 1
