"""What a peer may keep, whatever others send it."""

from __future__ import annotations

from p2pfusion.limits import (
    KEPT_ROSTERS,
    MAX_ACCUSERS,
    MAX_CHECKPOINT_BYTES,
    MAX_FACTS_ASKED_FOR,
    MAX_FORMER_FACTS,
    MAX_INVITES,
    MAX_PARKED_REQUESTS_PER_PEER,
    MAX_PENDING,
    MAX_RECOVERIES,
    MAX_RELAYED_PROBES,
    MAX_ROSTER,
    MAX_UNTOLD_FACTS,
)
from p2pfusion.protocol.facts import FactSet
from p2pfusion.protocol.joining import MANIFESTS_AT_ONCE
from p2pfusion.protocol.messages import CHECKPOINT
from p2pfusion.protocol.offers import KEPT_AHEAD, KEPT_BEHIND
from p2pfusion.protocol.peer import Peer
from p2pfusion.protocol.rumours import MAX_OPEN_ANSWERS


def facts_bounded(facts: FactSet) -> None:
    """So do the facts about others."""
    members = len(facts.records)
    assert members <= MAX_ROSTER and len(facts.revocations) <= MAX_ROSTER
    kept, decrees, accusations = facts._members, facts._decrees, facts._accusations
    assert len(kept.signed) == len(kept.standings) == len(kept.ids) == members
    assert len(kept.sorted) == len(kept._trained) == members
    assert len(decrees.recoveries) <= MAX_RECOVERIES
    assert len(decrees._known) == len(facts.revocations) + len(facts.recoveries)
    assert accusations.about.keys() <= facts.records.keys()
    for accusers in accusations.about.values():
        assert len(accusers) <= MAX_ACCUSERS and accusers.keys() <= facts.records.keys()
    assert len(accusations._known) == sum(map(len, accusations.about.values()))
    assert len(facts._rosters) <= KEPT_ROSTERS


def bounded(peer: Peer) -> None:
    """What a peer keeps stays within its limits."""
    gossip, exchange, admission = peer.gossip, peer.exchange, peer.door.admission
    facts_bounded(gossip.facts)
    facts, members = gossip.facts, len(gossip.facts.records)
    for per_member in (
        gossip.detector.contacts,
        gossip._incarnations,
        gossip._pace._left,
        gossip.spread._asked_at,
        gossip.spread._answered_at,
        gossip.spread._asked_of,
        gossip.spread._differs_since,
        gossip.spread.rumours._shown,
        gossip.probing._pinged_at,
        gossip.probing._failed,
        gossip.probing._asked_at,
        peer.offers._replays,
        facts.convicted,
        gossip.quarantine.offences._charges,
        exchange._early,
    ):
        assert len(per_member) <= members
    rounds = 2 + KEPT_BEHIND + KEPT_AHEAD
    for per_round in (
        peer.offers._seen,
        exchange.promises._offers,
        exchange.promises._deliveries,
    ):
        assert len(per_round) <= rounds * members
    rumours = gossip.spread.rumours
    assert len(rumours._fresh) <= MAX_UNTOLD_FACTS
    assert len(rumours._asked_at) <= MAX_FACTS_ASKED_FOR
    assert all(0 <= n <= MAX_OPEN_ANSWERS for n in rumours._shown.values())
    assert len(facts._tally._former) <= MAX_FORMER_FACTS
    assert len(gossip.probing._for_others) <= MAX_RELAYED_PROBES
    assert len(gossip.joining.manifests) <= MANIFESTS_AT_ONCE
    assert len(admission.invites) <= MAX_INVITES
    assert len(admission.pending) <= MAX_PENDING
    assert len(admission._decided) <= MAX_PENDING
    used = sum(len(invite.used_by) for invite in admission.invites.values())
    assert used <= MAX_ROSTER * len(admission.invites)
    assert len(exchange.rounds) <= 3
    assert exchange.rounds.keys() == exchange.homes.keys()
    fetching = exchange.fetching
    assert len(exchange.pulls.of_hop(CHECKPOINT)) <= 1
    assert fetching._received <= fetching._total <= MAX_CHECKPOINT_BYTES
    for some in (fetching._liars, fetching._tried, fetching._givers):
        assert some <= facts.records.keys()
    for name in facts.records:
        serves = [serve for serve in exchange.serves if serve.peer == name]
        assert len(serves) <= MAX_PARKED_REQUESTS_PER_PEER
    for round_ in exchange.rounds.values():
        assert len(round_.reductions) <= len(round_.plan.peers) + 1
        assert round_.offers.keys() <= round_.splits.keys()
