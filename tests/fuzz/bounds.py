"""What a peer may keep, whatever others send it."""

from __future__ import annotations

from p2pfusion.limits import (
    MAX_INVITES,
    MAX_PARKED_REQUESTS_PER_PEER,
    MAX_PENDING,
    MAX_ROSTER,
)
from p2pfusion.protocol.joining import MANIFESTS_AT_ONCE
from p2pfusion.protocol.peer import Peer


def bounded(peer: Peer) -> None:
    """What a peer keeps stays within its limits."""
    gossip, exchange, admission = peer.gossip, peer.exchange, peer.door.admission
    facts = gossip.facts
    members = len(facts.records)
    assert members <= MAX_ROSTER and len(facts.revocations) <= MAX_ROSTER
    assert len(facts._signed) == len(facts._standings) == len(facts._ids) == members
    assert len(facts._known_revocations) == len(facts.revocations)
    for per_member in (
        gossip.detector.contacts,
        gossip._incarnations,
        gossip._facts_sent_at,
        peer._replays,
        exchange._early,
    ):
        assert len(per_member) <= members
    assert len(gossip.joining.manifests) <= MANIFESTS_AT_ONCE
    assert len(admission.invites) <= MAX_INVITES
    assert len(admission.pending) <= MAX_PENDING
    assert len(admission._decided) <= MAX_PENDING
    used = sum(len(invite.used_by) for invite in admission.invites.values())
    assert used <= MAX_ROSTER * len(admission.invites)
    assert len(exchange.rounds) <= 3
    assert exchange.rounds.keys() == exchange.homes.keys()
    for name in facts.records:
        serves = [serve for serve in exchange.serves if serve.peer == name]
        assert len(serves) <= MAX_PARKED_REQUESTS_PER_PEER
    for round_ in exchange.rounds.values():
        assert len(round_.reductions) <= len(round_.plan.peers) + 1
        assert round_.offers.keys() <= round_.splits.keys()
