"""Who is told that the own values of a round are ready.

In a small swarm everybody is, and so where closing lists say which updates count. In a
large one those who asked for a stream of that round, which is how they say that they
wait, and those who observe this peer; and who asks later is told then.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from p2pfusion.protocol.events import Effect, Hashed, HashOffer, Send
from p2pfusion.protocol.gossip import Gossip
from p2pfusion.protocol.merkle import leaf, proof, root
from p2pfusion.protocol.messages import Offer, Signed, SignedOffer
from p2pfusion.protocol.statements import SESSION_BYTES, OfferFact, sign_offer
from p2pfusion.protocol.transfer import Serves
from p2pfusion.split.plan import ExchangePlan, Hop


class Offering:
    """The own offers of the rounds at hand, and who knows the last one."""

    def __init__(self, gossip: Gossip, serves: Serves) -> None:
        self._gossip = gossip
        self._serves = serves
        self._made = 0
        self._round_index = -1
        self._last: Signed | None = None
        self._unsaid: Offer | None = None
        """The own offer, until it is known what each reducer gets of it."""
        self._proofs: Mapping[str, bytes] = {}
        self._told: set[str] = set()

    def announce(self, offer: Offer, reducers: Sequence[str] = ()) -> list[Effect]:
        """The own offer of a round, signed, to whom it concerns.

        It says what each of the ``reducers`` gets, so that is asked of the own side
        first. They are served meanwhile.
        """
        if not reducers:
            return self._tell(offer, {})
        self._unsaid = offer
        return [HashOffer(offer.round_index, tuple(reducers))]

    def hashed(self, hashed: Hashed) -> list[Effect]:
        """What each reducer gets is known."""
        offer, self._unsaid = self._unsaid, None
        if offer is None or offer.round_index != hashed.round_index:
            return []  # another round has begun meanwhile
        leaves = [leaf(peer, digest) for peer, digest in hashed.digests]
        proofs = {
            peer: proof(leaves, position)
            for position, (peer, _) in enumerate(hashed.digests)
        }
        return self._tell(replace(offer, contents=root(leaves)), proofs)

    def _tell(self, offer: Offer, proofs: Mapping[str, bytes]) -> list[Effect]:
        gossip, self._proofs = self._gossip, proofs
        assert gossip.manifest is not None
        self._made += 1
        session = gossip.record.exchange_key[:SESSION_BYTES]
        said = OfferFact(gossip.record.incarnation, self._made, offer, session)
        epoch = gossip.manifest.epoch(offer.round_index)
        signed = sign_offer(gossip.swarm_id, said, epoch, gossip.signer)
        if not gossip.spread.is_large or gossip.manifest.adds_changes:
            # Whoever closes a round must know.
            return [self._said_to(peer, signed) for peer in gossip.others()]
        asked = {serve.peer for serve in self._serves.waiting(offer.round_index)}
        near = {p for p in gossip.detector.probed if gossip.is_member(p)}
        self._round_index, self._last = offer.round_index, signed
        self._told = asked | near
        return [self._said_to(peer, signed) for peer in sorted(self._told)]

    def _said_to(self, peer: str, signed: Signed) -> Send:
        return Send(peer, SignedOffer(signed, self._proofs.get(peer, b"")))

    def asked(self, peer: str, round_index: int) -> list[Effect]:
        """A peer asks for a stream of a round; it may not know our offer yet."""
        if round_index != self._round_index or peer in self._told:
            return []
        if self._last is None or not self._gossip.spread.is_large:
            return []
        self._told.add(peer)
        return [self._said_to(peer, self._last)]

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
