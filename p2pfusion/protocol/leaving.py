"""What a user decides about the own stay: leaving, coming back, training less or more.

Each becomes a fact that counts from an epoch that lies ahead, so that it has reached
everybody before it matters.
"""

from __future__ import annotations

from p2pfusion.methods.base import split_fraction
from p2pfusion.protocol.events import Effect, Report
from p2pfusion.protocol.gossip import Gossip
from p2pfusion.protocol.messages import NEVER


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
            return gossip.renew(split_fraction=fraction)
        epoch = gossip.epoch(now)
        # A change that has not begun yet is replaced: what counts now stays.
        pending = bool(record.former_fraction) and record.since_epoch > epoch
        former = record.former_fraction if pending else record.split_fraction
        return gossip.renew(
            split_fraction=fraction, former_fraction=former, since_epoch=epoch + 2
        )
