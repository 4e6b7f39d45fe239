"""What others say of their rounds, and how much of it to believe."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from p2pfusion.protocol.detector import Detector


class Claims:
    """The rounds that peers say they are in, read with a grain of salt."""

    def __init__(self, detector: Detector) -> None:
        self.detector = detector
        self.last_round = 0
        """The manifest's number of rounds: no peer can be in a later one."""

    def round_of(self, peer: str) -> int:
        """The round that a peer says it is in; -1 if it said none, or nonsense."""
        contact = self.detector.contacts.get(peer)
        if contact is None or contact.round_index > self.last_round:
            return -1
        return contact.round_index

    def observed_round(self, now: float) -> int:
        """The furthest round that somebody is in, not on the word of one alone.

        Of several peers that are in any round, the second furthest counts: a single
        liar moves nobody. -1 if nobody is online or has said where it is.
        """
        claims = (self.round_of(peer) for peer in self.detector.listened_to(now))
        ranked = sorted(claims, reverse=True)
        # Who has not entered any round says 0, too, and knows nothing.
        entered = [claim for claim in ranked if claim > 0]
        if len(entered) > 1:
            return entered[1]
        return max(ranked, default=-1)

    def all_heard(self, peers: Iterable[str], now: float) -> bool:
        """Whether every one of these, as far as this peer listens to it, is online and
        has said where it is."""
        online = set(self.detector.listened_to(now))
        return all(
            peer in online and self.round_of(peer) >= 0
            for peer in peers
            if self.detector.listens_to(peer)
        )

    def far_from(self, round_index: int) -> set[str]:
        """Who says to be in quite another round, and will hardly offer in this one."""
        near = (round_index - 1, round_index)
        listens_to, contacts = self.detector.listens_to, self.detector.contacts
        return {p for p in contacts if listens_to(p) and self.round_of(p) not in near}

    def are_at(self, round_index: int, now: float) -> bool:
        """Whether most of those online are in this round, or further."""
        if self.detector.furthest < round_index:
            return False
        online = self.detector.listened_to(now)
        ahead = sum(self.round_of(peer) >= round_index for peer in online)
        return 2 * ahead > len(online)

    def furthest(self, limit: int, now: float, *, but: Collection[str]) -> str | None:
        """The furthest peer that is online and in no round beyond a limit."""
        near = {
            peer: self.round_of(peer)
            for peer in self.detector.listened_to(now)
            if peer not in but and 0 <= self.round_of(peer) <= limit
        }
        return max(near, key=lambda peer: (near[peer], peer), default=None)
