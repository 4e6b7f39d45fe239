"""Who is told that the own values of a round are ready.

In a small swarm everybody is, and so where closing lists say which updates count. In a
large one those who asked for a stream of that round, which is how they say that they
wait, and those who observe this peer; and who asks later is told then.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType

from p2pfusion.protocol.events import Effect, Send
from p2pfusion.protocol.gossip import Gossip
from p2pfusion.protocol.messages import Offer, Signed, SignedOffer
from p2pfusion.protocol.statements import SESSION_BYTES, OfferFact, sign_offer
from p2pfusion.protocol.transfer import Serves
from p2pfusion.split.plan import ExchangePlan, Hop

NO_PROOFS: Mapping[str, bytes] = MappingProxyType({})


class Offering:
    """The own offers of the rounds at hand, and who knows the last one."""

    def __init__(self, gossip: Gossip, serves: Serves) -> None:
        self._gossip = gossip
        self._serves = serves
        self._made = 0
        self._round_index = -1
        self._last: Signed | None = None
        self._proofs = NO_PROOFS
        self._told: set[str] = set()

    def announce(
        self, offer: Offer, proofs: Mapping[str, bytes] = NO_PROOFS
    ) -> list[Effect]:
        """The own offer of a round, signed, to whom it concerns: to each reducer with
        the proof of what it gets."""
        gossip, self._proofs = self._gossip, proofs
        assert gossip.manifest is not None
        self._made += 1
        session = gossip.record.exchange_key[:SESSION_BYTES]
        said = OfferFact(gossip.record.incarnation, self._made, offer, session)
        epoch = gossip.manifest.epoch(offer.round_index)
        signed = sign_offer(gossip.swarm_id, said, epoch, gossip.signer)
        if not gossip.spread.is_large or gossip.manifest.adds_changes:
            # Whoever closes a round must know.
            return self._said(gossip.others(), signed)
        asked = {serve.peer for serve in self._serves.waiting(offer.round_index)}
        near = {p for p in gossip.detector.probed if gossip.is_member(p)}
        self._round_index, self._last = offer.round_index, signed
        self._told = asked | near
        return self._said(sorted(self._told), signed)

    def _said(self, peers: Iterable[str], signed: Signed) -> list[Effect]:
        """One message for all who need no proof, so that it is encoded once."""
        plain, proofs = SignedOffer(signed), self._proofs
        return [
            Send(peer, SignedOffer(signed, proofs[peer]) if peer in proofs else plain)
            for peer in peers
        ]

    def asked(self, peer: str, round_index: int) -> list[Effect]:
        """A peer asks for a stream of a round; it may not know our offer yet."""
        if round_index != self._round_index or peer in self._told:
            return []
        if self._last is None or not self._gossip.spread.is_large:
            return []
        self._told.add(peer)
        return self._said([peer], self._last)

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
