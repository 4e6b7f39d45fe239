"""Who is told that the own values of a round are ready.

In a small swarm everybody is, and so where closing lists say which updates count. In a
large one those who asked for a stream of that round, which is how they say that they
wait, and those who observe this peer; and who asks later is told then.
"""

from __future__ import annotations

from p2pfusion.protocol.events import Effect, Send
from p2pfusion.protocol.gossip import Gossip
from p2pfusion.protocol.messages import Offer, SignedOffer
from p2pfusion.protocol.statements import OfferFact, sign_offer
from p2pfusion.protocol.transfer import Serves
from p2pfusion.split.plan import ExchangePlan, Hop


class Offering:
    """The own offers of the rounds at hand, and who knows the last one."""

    def __init__(self, gossip: Gossip, serves: Serves) -> None:
        self._gossip = gossip
        self._serves = serves
        self._made = 0
        self._round_index = -1
        self._last: SignedOffer | None = None
        self._told: set[str] = set()

    def announce(self, offer: Offer) -> list[Effect]:
        """The own offer of a round, signed, to whom it concerns."""
        gossip = self._gossip
        assert gossip.manifest is not None
        self._made += 1
        said = OfferFact(gossip.record.incarnation, self._made, offer)
        epoch = gossip.manifest.epoch(offer.round_index)
        message = SignedOffer(sign_offer(gossip.swarm_id, said, epoch, gossip.signer))
        if not gossip.spread.is_large or gossip.manifest.adds_changes:
            return gossip.broadcast(message)  # whoever closes a round must know
        asked = {serve.peer for serve in self._serves.waiting(offer.round_index)}
        near = {p for p in gossip.detector.probed if gossip.is_member(p)}
        self._round_index, self._last = offer.round_index, message
        self._told = asked | near
        return [Send(peer, message) for peer in sorted(self._told)]

    def asked(self, peer: str, round_index: int) -> list[Effect]:
        """A peer asks for a stream of a round; it may not know our offer yet."""
        if round_index != self._round_index or peer in self._told:
            return []
        if self._last is None or not self._gossip.spread.is_large:
            return []
        self._told.add(peer)
        return [Send(peer, self._last)]

    def expected(self, plan: ExchangePlan, others: set[str]) -> set[str]:
        """Of those who train in a round, whose offers will come here."""
        gossip = self._gossip
        assert gossip.manifest is not None
        if not gossip.spread.is_large or gossip.manifest.adds_changes:
            return others
        sources = {
            source
            for hop in (Hop.CONTRIBUTION, Hop.FUSED)
            for source in plan.sources(hop, gossip.me)
        }
        return others & (sources | set(gossip.detector.probed))
