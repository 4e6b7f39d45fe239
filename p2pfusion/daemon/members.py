"""The members of the swarm as this peer sees them: in what state each is, in words."""

from __future__ import annotations

from typing import TYPE_CHECKING

from p2pfusion.daemon.quarantined import quarantine_of
from p2pfusion.protocol.messages import NEVER, PeerRecord
from p2pfusion.split.segment import Split, overlap

if TYPE_CHECKING:
    from p2pfusion.daemon.node import Node

Data = dict[str, object]


def fraction(record: PeerRecord) -> float:
    """Part of every width that the peer trains."""
    numerator, _, denominator = record.split_fraction.partition("/")
    return float(numerator) / float(denominator or 1)


def epoch_of(node: Node) -> int:
    """The epoch that this peer is in or hears of; 0 before there is a swarm."""
    gossip = node.peer.gossip
    return gossip.epoch(node.now()) if gossip.manifest else 0


# --- In what state -------------------------------------------------------------------


def state_of_member(node: Node, peer: str) -> str:
    """``online``, ``silent for 6 s, suspected by 2 of 4``, ``left with epoch 4``,
    ``quarantined: a received value is not a finite number``."""
    gossip, now = node.peer.gossip, node.now()
    if peer == gossip.me:
        return "self"
    gone = _why_gone(node, peer)
    if gone:
        return gone
    suspects = _suspects(node, peer)
    if peer in gossip.quarantine.peers:
        return gossip.quarantine.why(peer)
    if not gossip.detector.is_online(peer, now):
        why = gossip.detector.why_silent(peer, now)
        return f"{why}, {suspects}" if suspects else why
    joined = gossip.facts.join_epoch(gossip.facts.records[peer])
    words = ["online"]
    if joined is not None and joined > epoch_of(node):
        words.append(f"joins with epoch {joined}")
    return ", ".join([*words, *([suspects] if suspects else [])])


def _why_gone(node: Node, peer: str) -> str:
    """In words, why a peer does not belong to the roster now; "" if it does."""
    facts, epoch = node.peer.gossip.facts, epoch_of(node)
    if peer in facts.revoked:
        return "put out"
    if peer in facts.lost:
        return f"declared lost, out since epoch {facts.lost[peer].epoch}"
    left = facts.records[peer].leave_epoch
    if left != NEVER:
        return f"left with epoch {left}" if left <= epoch else f"leaves, epoch {left}"
    out = facts.evicted.get(peer)
    if out is None:
        return ""
    if peer in facts.convicted:
        return f"convicted, out from epoch {out} on"
    return f"out since epoch {out}" if out <= epoch else f"out from epoch {out} on"


def _suspects(node: Node, peer: str) -> str:
    """``suspected by 2 of 4``: of those whose word counts, how many accuse it."""
    facts = node.peer.gossip.facts
    said = facts.accusers(peer)
    if not said:
        return ""
    observers = _observers(node, peer)
    accusers = said.keys() & set(observers)
    return f"suspected by {len(accusers)} of {len(observers)}" if accusers else ""


def _observers(node: Node, peer: str) -> tuple[str, ...]:
    """Whose word about a peer counts if it is said now."""
    return node.peer.gossip.facts.observers(peer, epoch_of(node) + 1)


def suspected(node: Node) -> dict[str, str]:
    """Members of the roster that somebody accuses now, and how many do."""
    found = {}
    for peer in node.peer.gossip.others():
        words = "" if _why_gone(node, peer) else _suspects(node, peer)
        if peer in node.peer.gossip.facts.convicted:
            continue  # it is not accused of being silent
        if words:
            found[peer] = words
    return found


def through(node: Node, peer: str) -> str | None:
    """The name of the member through which this one is reached; None if nobody has to
    be in between."""
    relay = node.peer.gossip.relays.through(peer)
    return node.name_of(relay) if relay else None


# --- Everything about one ------------------------------------------------------------


def member_rows(node: Node) -> list[Data]:
    """One row per member, this peer first; those that are out come last."""
    facts, me = node.peer.gossip.facts, node.peer.gossip.me
    out = {peer for peer in facts.records if _why_gone(node, peer)}
    others = sorted(facts.records.keys() - {me}, key=lambda peer: (peer in out, peer))
    names = [me, *others] if me in facts.records else others
    return [member_row(node, facts.records[name]) for name in names]


def member_row(node: Node, record: PeerRecord) -> Data:
    """What there is to say of a member in one line."""
    now, gossip = node.now(), node.peer.gossip
    traffic, peer = node.transport.traffic, record.peer
    contact = gossip.detector.contacts.get(peer)
    is_self = peer == gossip.me
    number = gossip.round_index if is_self else contact.round_index if contact else -1
    return {
        "name": record.name,
        "id": peer,
        "state": state_of_member(node, peer),
        "online": is_self or gossip.detector.is_online(peer, now),
        "address": record.address,
        "outward": record.is_outward,
        "through": through(node, peer),
        "rtt_s": contact.rtt_s if contact else None,
        "round": number if number >= 0 else None,
        "split_fraction": fraction(record),
        "overlap": _overlap(node, peer),
        "sent_bytes": traffic.sent_bytes(peer=peer),
        "received_bytes": traffic.received_bytes(peer=peer),
        "quarantine": quarantine_of(node, peer),
    }


def member_details(node: Node, record: PeerRecord) -> Data:
    """The same, and what else is known."""
    now, gossip, peer = node.now(), node.peer.gossip, record.peer
    facts, contact = gossip.facts, gossip.detector.contacts.get(peer)
    heard_at = contact.heard_at if contact else None
    leave = record.leave_epoch
    return {
        **member_row(node, record),
        "role": facts.role(peer) or None,
        "admitted_by": node.name_of(facts.admitted_by(peer)) or None,
        "heard_s_ago": None if heard_at is None else now - heard_at,
        "clock_skew_s": contact.skew_s if contact else None,
        "asymmetric": gossip.detector.is_asymmetric(peer, now),
        "observers": _names(node, _observers(node, peer)),
        "accused_by": _names(node, facts.accusers(peer)),
        "join_epoch": facts.join_epoch(record),
        "leave_epoch": None if leave == NEVER else leave,
        "out_since_epoch": facts.evicted.get(peer),
        "starts": record.incarnation,
        "cipher": record.cipher,
    }


def _names(node: Node, peers: object) -> list[str]:
    assert isinstance(peers, tuple | dict)
    return [node.name_of(peer) for peer in peers]


def own_split(node: Node) -> Split | None:
    """What this peer trains in its round."""
    round_ = node.peer.round
    return round_.splits.get(node.peer.gossip.me) if round_ else None


def _overlap(node: Node, peer: str) -> int | None:
    round_, manifest, mine = node.peer.round, node.peer.manifest, own_split(node)
    theirs = round_.splits.get(peer) if round_ else None
    if manifest is None or mine is None or theirs is None:
        return None
    return sum(segment.size for segment in overlap(manifest.layout, mine, theirs))
