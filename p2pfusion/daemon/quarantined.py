"""Peers in quarantine, for people: why, and how to forgive one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from p2pfusion.errors import ConflictError
from p2pfusion.protocol.events import Pardon

if TYPE_CHECKING:
    from p2pfusion.daemon.node import Node

Data = dict[str, object]

EQUIVOCATION = "equivocation"
"""The kind of what is proven to everybody."""


def quarantine_of(node: Node, peer: str) -> Data | None:
    """What is held against a member; None if it is not in quarantine here."""
    gossip = node.peer.gossip
    quarantine = gossip.quarantine
    if peer not in quarantine.peers:
        return None
    proven, charge = peer in gossip.facts.convicted, quarantine.offences.of(peer)
    found: Data = {"why": quarantine.reason(peer), "proven": proven}
    if proven or charge is None:
        return {**found, "kind": EQUIVOCATION, "since_round": None, "score": None}
    score = charge.score_in(gossip.round_index)
    since = charge.since_round
    return {**found, "kind": charge.kind, "since_round": since, "score": score}


def pardon(node: Node, peer: str) -> Data:
    """Forgives a member what it was caught at, if it was; what that was.

    ``ConflictError`` for what is proven.
    """
    quarantine, name = node.peer.gossip.quarantine, node.name_of(peer)
    if peer in node.peer.gossip.facts.convicted:
        raise ConflictError(
            f"{name} cannot be pardoned: its own signatures prove that it has lied",
            hint="if its owner is trusted, let it come back with a new home and a new "
            "ticket",
        )
    charge, was_out = quarantine.offences.of(peer), peer in quarantine.peers
    node.handle(Pardon(peer))
    return {
        "id": peer,
        "name": name,
        "was_quarantined": was_out,
        "kind": None if charge is None else charge.kind,
        "why": None if charge is None else charge.detail,
    }
