"""What a peer says anew of itself: that it leaves, comes back, trains less or more, and
what its trainer has found out.

Each becomes a fact that counts from an epoch that lies ahead, so that it has reached
everybody before it matters.
"""

from __future__ import annotations

from dataclasses import replace

from p2pfusion.methods.base import split_fraction
from p2pfusion.protocol.events import Effect, Report
from p2pfusion.protocol.gossip import Gossip
from p2pfusion.protocol.messages import NEVER, PeerRecord


class Leaving:
    """The user's word about this peer's stay."""

    def __init__(self, gossip: Gossip) -> None:
        self._gossip = gossip

    def leave(self, now: float) -> list[Effect]:
        """This peer leaves: from the epoch after the next it is in no plan."""
        gossip = self._gossip
        if gossip.manifest is None or gossip.record.leave_epoch != NEVER:
            return []
        epoch = gossip.epoch(now) + 2 if gossip.facts.start else 0
        left = Report("left", {"peer": gossip.me, "epoch": epoch})
        return [*gossip.renew(leave_epoch=epoch), left]

    def come_back(self, now: float) -> list[Effect]:
        """Whoever has left may change its mind: it joins anew."""
        gossip = self._gossip
        if gossip.manifest is None or gossip.record.leave_epoch == NEVER:
            return []
        if not gossip.facts.start:
            return gossip.renew(leave_epoch=NEVER)
        return gossip.rejoin(now)

    def change_fraction(self, fraction: str, now: float) -> list[Effect]:
        """From the epoch after the next this peer trains so much of the model.

        ``ConfigError`` if that is no fraction.
        """
        gossip, record = self._gossip, self._gossip.record
        split_fraction(fraction, "split_fraction")
        if fraction == record.split_fraction:
            return []
        if gossip.manifest is None or not gossip.facts.start:
            return self._renew({"split_fraction": fraction})
        epoch = gossip.epoch(now)
        # A change that has not begun yet is replaced: what counts now stays.
        pending = bool(record.former_fraction) and record.since_epoch > epoch
        former = record.former_fraction if pending else record.split_fraction
        said = {"split_fraction": fraction, "former_fraction": former}
        return self._renew({**said, "since_epoch": epoch + 2})

    def _renew(self, changes: dict[str, object]) -> list[Effect]:
        """Trains another fraction: what was announced for none that may still count is
        not said any more."""
        gossip = self._gossip
        following = replace(gossip.record, **changes)  # type: ignore[arg-type]
        if not gossip.facts.announcements.fits(following):
            changes = {**changes, "announced": b"", "announced_epoch": NEVER}
        return gossip.renew(**changes)

    def lacks_announcement(self, now: float) -> bool:
        """Whether the method wants an announcement that this peer has not made.

        While one for a former split fraction counts, a new one must wait.
        """
        gossip, record = self._gossip, self._gossip.record
        announcements = gossip.facts.announcements
        if not announcements.are_wanted or gossip.me not in gossip.facts.records:
            return False
        if record.announced and announcements.fits(_settled(record)):
            return False
        epochs = (gossip.epoch(now), gossip.epoch(now) + 1)
        fractions = [(gossip.facts.fraction(gossip.me, each), each) for each in epochs]
        return not any(announcements.of(record, *each) for each in fractions)

    def announce(self, announced: bytes, now: float) -> list[Effect]:
        """From the epoch after the next this is what the peer has announced."""
        gossip = self._gossip
        if not announced or not self.lacks_announcement(now):
            return []
        following = replace(_settled(gossip.record), announced=announced)
        if not gossip.facts.announcements.fits(following):
            # The split fraction was changed while the trainer found it out.
            return [Report("announcement-void", {"peer": gossip.me})]
        epoch = gossip.epoch(now) + 2
        told = Report("announced", {"peer": gossip.me, "epoch": epoch})
        return [*gossip.renew(announced=announced, announced_epoch=epoch), told]


def _settled(record: PeerRecord) -> PeerRecord:
    """The record once its new split fraction counts."""
    return replace(record, former_fraction="")
