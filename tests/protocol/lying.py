"""A peer of a simulated swarm tells others what it has not told everybody."""

from __future__ import annotations

from collections.abc import Mapping

from p2pfusion.protocol import events as e
from p2pfusion.protocol.messages import Offer, SignedOffer
from p2pfusion.protocol.statements import OfferFact, sign_offer
from tests.protocol.names import NamedKey
from tests.protocol.swarm import Swarm


def lies(swarm: Swarm, liar: str, to: Mapping[str, bytes], round_index: int) -> None:
    """It offers each of these something else in a round."""
    record = swarm.hosts[liar].peer.gossip.record
    plan = swarm.hosts["p0"].plans[round_index]
    for number, (victim, contents) in enumerate(to.items()):
        offer = Offer(
            round_index, plan.digest, 100, 1.0, 0.5, 1.0, contents=contents.ljust(16)
        )
        said = OfferFact(
            record.incarnation, 500 + number, offer, record.exchange_key[:8]
        )
        statement = sign_offer(swarm.manifest.swarm_id, said, 0, NamedKey(liar))
        swarm.event(victim, e.Received(liar, SignedOffer(statement)))
