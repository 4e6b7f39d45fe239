"""The members that a home knows of, without a daemon: from the facts on its disk."""

from __future__ import annotations

from p2pfusion.daemon.home import Home
from p2pfusion.daemon.identity import read_identity
from p2pfusion.daemon.state import SwarmState
from p2pfusion.protocol.facts import FactSet
from p2pfusion.security import ED25519

Data = dict[str, object]


def known_members(home: Home) -> list[Data]:
    """Name, id and address of every other member; nothing before there is a swarm.

    ``VerificationError`` if the files are damaged.
    """
    state, identity = SwarmState(home.swarm), read_identity(home)
    manifest = state.load_manifest()
    if manifest is None or identity is None:
        return []
    facts = FactSet(ED25519, manifest)
    for message in state.load_facts():
        facts.merge(message)
    return [
        {"name": record.name, "id": record.peer, "address": record.address}
        for record in facts.members()
        if record.peer != identity.peer
    ]
