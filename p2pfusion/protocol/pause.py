"""When silence is acted upon, and when rounds stand still.

A partition shows as several silences, one after the other. So nobody acts on the first:
a moment later this peer knows how many it can still reach. If these are a quorum, the
round goes on without the silent ones. If not, the round stands still: this peer gives
up nothing and closes nothing because others are silent, it seals no round and begins
none, until it reaches a quorum again. Then it listens for a moment more, in case the
others have gone on, and goes on itself or catches up.

A peer that has slept does not know what it missed. Its rounds stand still, too, until
it has heard all others anew, or has missed them for as long as that takes while awake.

Under the policy ``fork`` every silence is acted upon at once, and nothing stands still.
"""

from __future__ import annotations

from p2pfusion.methods.base import Member
from p2pfusion.protocol.gossip import Gossip
from p2pfusion.protocol.quorum import has_quorum
from p2pfusion.protocol.timing import NEVER_S

SETTLING_INTERVALS = 1.5
"""After the first silence all others are heard or missed in one probe interval."""


class Pause:
    """Silences that nobody has acted upon yet, and whether rounds stand still."""

    def __init__(self, gossip: Gossip) -> None:
        self._gossip = gossip
        self.pending: set[str] = set()
        """Who is silent, and still counts as one that will answer."""
        self.is_held = False
        """Whether rounds stand still."""
        self.is_on = False
        """Whether it is sure that they do for want of a quorum: a moment has passed."""
        self.round_index = -1
        """The round that the quorum is about; -1 before there is any."""
        self._lacked = False
        """Whether a quorum was missing when that was last looked at."""
        self.settled_at = NEVER_S
        """When ``review`` has something to do even if nothing happens."""
        self._heard_since: float | None = None

    @property
    def is_listening(self) -> bool:
        """Whether it has slept, and has not heard yet where the others are."""
        return self._heard_since is not None

    @property
    def by_majority(self) -> bool:
        """Whether this swarm wants a quorum."""
        manifest = self._gossip.manifest
        return manifest is not None and manifest.partition_policy == "majority"

    @property
    def settling_s(self) -> float:
        """How long after a silence it is acted upon."""
        return SETTLING_INTERVALS * self._gossip.detector.timing.interval_s

    # --- What is heard ---------------------------------------------------------------

    def silent(self, peer: str, now: float) -> None:
        """A peer has gone silent."""
        if not self.by_majority:
            self.settled_at = now
        elif self.settled_at == NEVER_S:
            self.settled_at = now + self.settling_s
        self.pending.add(peer)

    def heard(self, peer: str) -> None:
        """A peer that was silent is back: nobody needs to act on its silence."""
        self.pending.discard(peer)

    def woke(self, now: float) -> None:
        """This process did not run for a while: it hears the others before it judges.

        What has waited on the way arrives at once, and is old. Half an interval later
        there are answers to what was asked now. A machine that is too busy may sleep
        again before that: what was heard between counts.
        """
        if self._heard_since is None:
            self._heard_since = now + self._gossip.detector.timing.interval_s / 2
        self.settled_at, self.is_held = now + self.settling_s, True

    def _listens_on(self, now: float) -> bool:
        """Whether somebody online has not been heard since this peer woke."""
        detector, since = self._gossip.detector, self._heard_since
        if since is None or now < self.settled_at:
            return since is not None
        contacts = (detector.contacts[peer] for peer in detector.listened_to(now))
        if any(
            contact.heard_at is None or contact.heard_at < since for contact in contacts
        ):
            self.settled_at = now + detector.timing.interval_s / 2
            return True
        self._heard_since = None
        return False

    def review(self, now: float) -> list[str]:
        """Whose silence is to be acted upon now, sorted."""
        if self._listens_on(now):
            return []
        lacks = self._lacks_quorum()
        if lacks:
            self.is_held = True
            if not self.pending or now >= self.settled_at:
                self.is_on, self.settled_at = True, NEVER_S
        elif self._lacked and self.is_on:
            self.settled_at = now + self.settling_s
        elif self.is_held and not self.pending and self.settled_at == NEVER_S:
            self.settled_at = now
        self._lacked = lacks
        if lacks or now < self.settled_at:
            return []
        due, self.pending = sorted(self.pending), set()
        self.settled_at, self.is_held, self.is_on = NEVER_S, False, False
        return due

    # --- Quorums ---------------------------------------------------------------------

    def _roster(self, round_index: int) -> tuple[Member, ...]:
        assert self._gossip.manifest is not None
        return self._gossip.facts.roster(self._gossip.manifest.epoch(round_index))

    def _without(self) -> set[str]:
        """Who counts for no quorum any more, by an admin's word."""
        facts = self._gossip.facts
        return {*facts.lost, *facts.revoked}

    def _lacks_quorum(self) -> bool:
        manifest, silent = self._gossip.manifest, self._gossip.detector.silent
        if not silent or not self.by_majority or manifest is None:
            return False
        if not 0 <= self.round_index < manifest.rounds:
            return False  # the last round only places what is there
        roster, out = self._roster(self.round_index), self._without()
        if 2 * len(silent | out) < len(roster):
            return False
        reached = {member.peer for member in roster} - silent
        return not has_quorum(reached, roster, out)

    def reaches_quorum(self, round_index: int, now: float) -> bool:
        """Whether so many are online, by their own word, that a round may begin."""
        gossip = self._gossip
        if not self.by_majority or gossip.manifest is None:
            return True
        reached = {*gossip.detector.online(now), gossip.me}
        return has_quorum(reached, self._roster(round_index), self._without())

    def waits(self, round_index: int, now: float) -> dict[str, str]:
        """Who cannot be reached, and that a quorum is missing; for people."""
        gossip = self._gossip
        out = self._without()
        roster = (member.peer for member in self._roster(round_index))
        names = [name for name in roster if name not in out]
        online = {*gossip.detector.online(now), gossip.me}
        missing = [name for name in names if name not in online]
        count = f"no quorum: {len(names) - len(missing)} of {len(names)}"
        return dict.fromkeys(missing, count) or {"the others": count}
