"""How a running peer describes itself, as plain data for the command line.

Pure reading: every function looks at the node and changes nothing. Field names are the
public interface; unknown is ``None``.
"""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING

import p2pfusion
from p2pfusion.daemon.diagnosis import state_of, waits
from p2pfusion.daemon.health import health
from p2pfusion.daemon.members import epoch_of, fraction, own_split
from p2pfusion.daemon.privacy import private_status
from p2pfusion.protocol.course import Standing
from p2pfusion.protocol.manifest import Manifest
from p2pfusion.protocol.timing import NEVER_S
from p2pfusion.split.homes import Homes
from p2pfusion.transport import Plane

if TYPE_CHECKING:
    from p2pfusion.daemon.node import Node

Data = dict[str, object]
FLOAT_BYTES = 4


def online(node: Node) -> list[str]:
    """Members that can be reached now, this peer included, sorted."""
    now = node.now()
    return sorted([*node.peer.gossip.detector.online(now), node.peer.gossip.me])


def status(node: Node, *, loss: float | None, accuracy: float | None) -> Data:
    """Everything on one screen."""
    return {
        "state": state_of(node).to_data(),
        "daemon": {
            "pid": os.getpid(),
            "version": p2pfusion.__version__,
            "uptime_s": node.now() - node.started_at,
        },
        "self": _self(node),
        "swarm": _swarm(node.peer.manifest),
        "roster": _roster(node),
        "round": _round(node),
        "traffic": _traffic(node),
        "store": _store(node),
        "metrics": {"loss": loss, "accuracy": accuracy},
        "health": health(node, node.now()),
        "joining": _joining(node),
        "security": _security(node),
        "privacy": private_status(node.profile.peer.privacy, node.home.spent),
    }


def identity(node: Node) -> Data:
    """What a daemon says of itself when it is ready."""
    record = node.peer.gossip.record
    return {
        "pid": os.getpid(),
        "id": record.peer,
        "name": record.name,
        "address": record.address,
    }


def _self(node: Node) -> Data:
    record = node.peer.gossip.record
    return {
        "id": record.peer,
        "name": record.name,
        "role": "founder" if node.is_founder else "member",
        "listen": str(node.transport.addresses[Plane.CONTROL]),
        "addresses": [] if record.is_outward else [record.address],
        "split_fraction": fraction(record),
        "trainer": node.apprentice.state,
        "samples": node.apprentice.samples,
        "standing": node.peer.standing.value,
    }


def _swarm(manifest: Manifest | None) -> Data | None:
    if manifest is None:
        return None
    return {
        "id": manifest.swarm_id,
        "name": manifest.name,
        "method": manifest.method,
        "model": manifest.model,
        "rounds": manifest.rounds,
        "min_peers": manifest.min_peers,
        "replication": manifest.replication,
    }


def _roster(node: Node) -> Data | None:
    peer = node.peer
    if peer.manifest is None:
        return None
    epoch = epoch_of(node)
    digest = peer.gossip.facts.digest.hex()
    members = len(peer.gossip.facts.roster(epoch))
    return {"epoch": epoch, "digest": digest, "members": members}


def _round(node: Node) -> Data:
    now = node.now()
    round_ = node.peer.round
    stands_still = node.peer.standing is Standing.PAUSED
    deadline = round_.deadline() if round_ and not stands_still else NEVER_S
    done = node.peer.standing is Standing.DONE
    return {
        "number": round_.number if round_ else None,
        "phase": "done" if done else round_.phase.value if round_ else None,
        "started_s_ago": now - round_.started_at if round_ else None,
        "deadline_in_s": None if deadline == NEVER_S else max(0.0, deadline - now),
        "waiting_for": waits(node),
    }


def _traffic(node: Node) -> Data:
    traffic, manifest = node.transport.traffic, node.peer.manifest
    sent, received = traffic.sent_bytes(), traffic.received_bytes()
    round_sent, round_received = node.history.this_round(sent, received)
    return {
        "sent_bytes": sent,
        "received_bytes": received,
        "relayed_bytes": traffic.relayed_bytes,
        "round_sent_bytes": round_sent,
        "round_received_bytes": round_received,
        "full_model_bytes": manifest.layout.size * FLOAT_BYTES if manifest else None,
        "sub_model_bytes": _sub_model_bytes(node),
        "up_limit_bytes_per_s": node.profile.peer.up_limit,
        "down_limit_bytes_per_s": node.profile.peer.down_limit,
    }


def _sub_model_bytes(node: Node) -> int | None:
    split = own_split(node)
    manifest = node.peer.manifest
    if split is None or manifest is None:
        return None
    return split.size(manifest.layout) * FLOAT_BYTES


def _store(node: Node) -> Data:
    manifest, payloads, round_ = node.peer.manifest, node.payloads, node.peer.round
    if manifest is None or payloads is None or round_ is None:
        keys = ("version_min", "version_max", "ever_trained_fraction")
        return dict.fromkeys([*keys, "replication_min", "stale_ranges"])
    indices = range(len(manifest.layout.signatures))
    versions = [payloads.store.versions(index) for index in indices]
    homes = round_.plan.homes
    return {
        "version_min": min((int(v.min()) for v in versions), default=0),
        "version_max": max((int(v.max()) for v in versions), default=0),
        "ever_trained_fraction": homes.ever_trained_fraction(manifest.layout),
        "replication_min": homes.replication_min(),
        "stale_ranges": round_.stale_ranges,
    }


def _security(node: Node) -> Data:
    """How closed the door is, and what was turned away."""
    peer, manifest = node.peer, node.peer.manifest
    refused = node.transport.traffic.dropped + node.history.misdeeds
    role = peer.gossip.facts.role(peer.gossip.me)
    return {
        "encrypted": node.links.encrypted,
        "admission": manifest.admission if manifest else None,
        "role": role or None,
        "pending": len(peer.door.admission.pending),
        "revoked": len(peer.gossip.facts.revoked),
        "quarantined": len(peer.gossip.quarantine.peers),
        "refused": dict(sorted(refused.items())),
    }


def _joining(node: Node) -> list[Data]:
    now = node.now()
    return [
        {
            "address": knocking.address,
            "attempts": knocking.attempts,
            "last_error": knocking.last_error,
            "next_in_s": max(0.0, knocking.next_at - now),
        }
        for knocking in node.peer.gossip.joining.knocking
    ]


def export_facts(manifest: Manifest, round_number: int, homes: Homes) -> Data:
    """The same for the JSON file beside it, and how much of it was trained."""
    return {
        "p2pfusion": p2pfusion.__version__,
        "model": manifest.model,
        "model_arguments": dict(manifest.model_arguments),
        "layout_sha256": manifest.layout.digest.hex(),
        "parameters": manifest.layout.size,
        "swarm": {"id": manifest.swarm_id, "name": manifest.name},
        "method": manifest.method,
        "method_arguments": dict(manifest.method_arguments),
        "seed": manifest.seed,
        "pretrained_sha256": manifest.pretrained or None,
        "round": round_number,
        "rounds": manifest.rounds,
        "ever_trained_fraction": homes.ever_trained_fraction(manifest.layout),
    }


def export_metadata(manifest: Manifest, round_number: int) -> dict[str, str]:
    """What a file with the whole model says of itself."""
    return {
        "format": "pt",
        "p2pfusion_swarm": manifest.swarm_id,
        "p2pfusion_round": str(round_number),
        "model": manifest.model,
        "model_arguments": json.dumps(manifest.model_arguments, sort_keys=True),
        "objective": manifest.objective,
        "seed": str(manifest.seed),
        "vocabulary": json.dumps(manifest.vocabulary, sort_keys=True),
    }
