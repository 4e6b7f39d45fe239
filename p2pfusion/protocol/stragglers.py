"""Who is so slow that the others do not wait for it.

A peer is *too late* for a round if its values of that round come, if at all, later than
the deadline after enough others are ready: half of them for those who judge it, and so
many that they are most of all if it judges itself. Who was too late a few times in a
row is a straggler: rounds end without it as soon as all others have offered. What it
trains counts in later rounds, and in the last one in which that can be it is waited for
once more, so that its work is not lost for a moment. As soon as something comes that
would have been in time, had anybody waited, it is waited for again.

Each peer judges by what it has seen: this is only about how long to wait.
"""

from __future__ import annotations

from collections.abc import Mapping

from p2pfusion.protocol.messages import Offer
from p2pfusion.protocol.timing import LONG_AGO, NEVER_S

TOO_SLOW_ROUNDS = 3
"""So many rounds too late in a row, and the sub-model is too large for this machine."""

Offered = tuple[float, Offer | None] | None
"""When a peer has offered something in a round, or nothing for good; None: it was
waited for in vain."""


class Stragglers:
    """For how many rounds in a row each peer was too late, by one of them."""

    def __init__(self, max_staleness: int, rounds: int, minimum_s: float) -> None:
        """``rounds``: of the swarm; ``max_staleness``: in so many later rounds what was
        too late still counts; ``minimum_s``: nobody is given up sooner."""
        self._staleness = max_staleness
        self._minimum_s = minimum_s
        self._last_round = rounds - 1
        self._times: dict[str, int] = {}
        self._offered_in: dict[str, int] = {}
        self._ready_at: dict[tuple[int, bool], float] = {}

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

    def sealed(
        self,
        number: int,
        ready_at: float,
        wait_s: float,
        seen: Mapping[str, Offered],
        *,
        own: bool,
    ) -> None:
        """A round is over, for which enough others were ready at an instant; what came
        so much later was too late. ``seen``: of whom something is known; of others that
        have not offered, values may be here already, by another connection. ``own``:
        whether this peer judges itself."""
        if not self._staleness:
            return  # whom nobody waits for could give nothing at all
        self._ready_at[number, own] = ready_at
        self._ready_at.pop((number - 1 - self._staleness, own), None)
        for peer, offered in seen.items():
            self._judge(peer, number, offered, wait_s, own)

    def _judge(
        self, peer: str, number: int, offered: Offered, wait_s: float, own: bool
    ) -> None:
        at, offer = offered or (NEVER_S, None)
        in_time = True
        if offer is None or not offer.samples:
            # Who has nothing to give, and says so before anybody could be tired of
            # waiting, does not train, as while its trainer starts.
            patience_s = 0.0 if peer in self.in_round(number) else self._minimum_s
            ready_at = self._ready_at[number, own]
            in_time = at <= ready_at or at < ready_at + patience_s
        else:
            self._offered_in[peer] = number
            if late := offer.rounds_late:
                since = self._ready_at.get((number - late, own), LONG_AGO)
                in_time = at <= since + wait_s
            if in_time:
                self._times.pop(peer, None)
        if not in_time:
            self._times[peer] = self._times.get(peer, 0) + 1
