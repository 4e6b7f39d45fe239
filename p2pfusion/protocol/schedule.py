"""Who trains what in which round, and in which rounds this peer has a part.

The split that a round's plan gives a peer for the next round is the one that it trains
there, whatever facts arrive in between: membership changes only ever enter through the
following splits.
"""

from __future__ import annotations

from p2pfusion.methods.base import Method
from p2pfusion.protocol.gossip import Gossip
from p2pfusion.protocol.manifest import Manifest
from p2pfusion.protocol.planning import Planner, Splits


class Schedule:
    """Splits by round, as this peer has planned with them or would plan now."""

    def __init__(self, gossip: Gossip, planner: Planner) -> None:
        self._gossip = gossip
        self._planner = planner
        self._method: Method | None = None
        self._following: Splits = {}
        self._following_round = -1

    @property
    def manifest(self) -> Manifest:
        """The swarm's manifest; only asked for where there is one."""
        assert self._gossip.manifest is not None
        return self._gossip.manifest

    def prepare(self) -> None:
        """There is a manifest now."""
        self._method = self.manifest.trained_by

    def splits(self, round_index: int) -> Splits:
        """Every member's split in a round, by the facts known now."""
        facts, method = self._gossip.facts, self._method
        assert method is not None
        return self._planner.splits(self.manifest, method, facts, round_index)

    # --- One after the other ---------------------------------------------------------

    def expect(self, round_index: int, *, anew: bool = False) -> None:
        """Without a previous round, current splits follow from the facts."""
        if anew or self._following_round != round_index:
            self._following = self.splits(round_index)
            self._following_round = round_index

    def advance(self, number: int) -> tuple[Splits, Splits]:
        """The splits of a round that is planned now, and of the next.

        In the last one nobody trains: it places what was trained before.
        """
        if number >= self.manifest.rounds:
            return {}, self._following
        current, self._following = self._following, self.splits(number + 1)
        self._following_round = number + 1
        return current, self._following

    # --- The own part ----------------------------------------------------------------

    def takes_part(self, number: int) -> bool:
        """Whether this peer has a split in a round or in the next; all in the last."""
        me = self._gossip.me
        if number >= self.manifest.rounds:
            return True
        if self._following_round == number and me in self._following:
            return True
        epochs = {self.manifest.epoch(each) for each in (number, number + 1)}
        rosters = (self._gossip.facts.roster(epoch) for epoch in epochs)
        return any(member.peer == me for roster in rosters for member in roster)

    def has_left(self, number: int) -> bool:
        """Whether this peer has said itself that it has no part in this round."""
        return self._gossip.record.leave_epoch <= self.manifest.epoch(number)

    def first(self, epoch: int) -> int:
        """The round before the first of an epoch: in it a newcomer gets its values."""
        return max(0, epoch * self.manifest.rounds_per_epoch - 1)

    def target(self, seen: int, own: int | None) -> int:
        """The next round that can be entered: the others are not in it yet.

        ``seen``: the round that they are in; ``own``: the one that this peer is in.
        """
        epoch = self._gossip.facts.join_epoch(self._gossip.record) or 0
        following = seen + 1 if own is None else max(seen, own) + 1
        return min(max(self.first(epoch), following), self.manifest.rounds)
