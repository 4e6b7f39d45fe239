"""The time that training would take on machines of different speed, and who is in time.

An experiment trains in one process, one peer after the other, so its own time says
nothing of a swarm's. This clock counts FLOPs: a peer of slowness 1 does ``SPEED`` of
them in a virtual second, one of slowness 4 a quarter. Exchange takes no time, nor does
learning a mask. A round closes when a quorum of updates is in; who is still at work
goes on, and its update counts in the round that is open when it has finished.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

SPEED = 1e9
"""FLOPs per virtual second: about a core's, though only ratios mean anything."""


class Clock:
    """Peers at work, by number, and the time when each has finished."""

    def __init__(self, slowness: Sequence[float]) -> None:
        """``slowness``: of each peer, above 0."""
        self._slowness = tuple(slowness)
        self._finish_s: dict[int, float] = {}
        self._given_s = 0.0
        self.now_s = 0.0

    @property
    def at_work(self) -> frozenset[int]:
        """Who has begun and is not yet in."""
        return frozenset(self._finish_s)

    def begin(self, peer: int, flops: float) -> None:
        """A peer that is not at work begins now."""
        assert peer not in self._finish_s
        duration_s = flops * self._slowness[peer] / SPEED
        self._finish_s[peer] = self.now_s + duration_s
        self._given_s += duration_s

    def close(
        self, quorum: int, counts: Callable[[int], bool]
    ) -> tuple[list[int], list[int]]:
        """Time goes on until so many of those that count are in, or all.

        Who is in, and who was in before but does not count; in the order in which they
        finished, of equals by number. Both are not at work any more.
        """
        arrived: list[int] = []
        refused: list[int] = []
        order = sorted(self._finish_s, key=lambda peer: (self._finish_s[peer], peer))
        for peer in order:
            if len(arrived) == quorum:
                break
            (arrived if counts(peer) else refused).append(peer)
            self.now_s = max(self.now_s, self._finish_s.pop(peer))
        return arrived, refused

    @property
    def busy_s(self) -> float:
        """For how long peers have worked until now, all together."""
        left = (finish_s - self.now_s for finish_s in self._finish_s.values())
        return self._given_s - sum(max(0.0, each) for each in left)


def times_told(clocks: Sequence[Clock], peers: int) -> dict[str, object]:
    """What a result says of the time of all swarms of an experiment, one after the
    other."""
    elapsed_s = sum(clock.now_s for clock in clocks)
    busy_s = sum(clock.busy_s for clock in clocks)
    return {
        "virtual_seconds": elapsed_s,
        "utilisation": busy_s / (peers * elapsed_s) if elapsed_s else 1.0,
    }
