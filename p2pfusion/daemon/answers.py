"""How a running peer describes itself, as plain data for the command line.

Pure reading: every function looks at the node and changes nothing. Field names are the
public interface; unknown is ``None``.
"""

from __future__ import annotations

import json
import os
import time
from typing import TYPE_CHECKING

import p2pfusion
from p2pfusion.protocol.course import Standing
from p2pfusion.protocol.manifest import Manifest
from p2pfusion.protocol.messages import PeerRecord
from p2pfusion.protocol.peer import Peer
from p2pfusion.protocol.round import Round
from p2pfusion.split.segment import Split, overlap

if TYPE_CHECKING:
    from p2pfusion.daemon.node import Node

Data = dict[str, object]
FLOAT_BYTES = 4
PATIENT_ATTEMPTS = 4
"""Attempts to join that a member makes before it says that nobody answers."""


def online(node: Node) -> list[str]:
    """Members that can be reached now, this peer included, sorted."""
    now = time.monotonic()
    return sorted([*node.peer.gossip.detector.online(now), node.peer.gossip.me])


def waits(node: Node) -> list[str]:
    """What is being waited for, in words."""
    return [f"{w['peer']}: {w['reason']}" for w in _waiting_for(node)]


def _waiting_for(node: Node) -> list[Data]:
    peer, course = node.peer, node.peer.course
    if peer.standing is Standing.NO_SWARM:
        tries = peer.gossip.joining.knocking
        if tries:
            return [{"peer": k.address, "reason": k.last_error} for k in tries]
        if node.profile.swarm is not None:
            return [{"peer": "trainer", "reason": "the model's layout"}]
        return [{"peer": "you", "reason": "an address to join"}]
    if peer.standing is Standing.WAITING:
        return _waiting_for_start(node)
    if peer.standing is Standing.CATCHING_UP and peer.exchange.table_source:
        source = node.name_of(peer.exchange.table_source)
        return [{"peer": source, "reason": f"round {course.target} to begin there"}]
    if peer.round is None or peer.standing is Standing.DONE:
        return []
    return [
        {"peer": node.name_of(name), "reason": _progress(node, name, reason)}
        for name, reason in peer.round.waiting_for().items()
    ]


def _progress(node: Node, peer: str, reason: str) -> str:
    progress = node.apprentice.progress
    if peer != node.peer.gossip.me or reason != "training":
        return reason
    if progress is None:
        state = node.apprentice.state
        return reason if state == reason else f"training (the trainer is {state})"
    return f"training, step {progress[0]} of {progress[1]}"


def _waiting_for_start(node: Node) -> list[Data]:
    manifest = node.peer.manifest
    if manifest is None or node.peer.gossip.facts.start:
        return [{"peer": "the others", "reason": "an answer"}]
    there = len(online(node))
    reason = f"{there} of {manifest.min_peers} members are connected"
    return [{"peer": "the founder's start", "reason": reason}]


def status(node: Node, *, loss: float | None, accuracy: float | None) -> Data:
    """Everything on one screen."""
    return {
        "daemon": {
            "pid": os.getpid(),
            "version": p2pfusion.__version__,
            "uptime_s": time.monotonic() - node.started_at,
        },
        "self": _self(node),
        "swarm": _swarm(node.peer.manifest),
        "roster": _roster(node),
        "round": _round(node),
        "traffic": _traffic(node),
        "store": _store(node),
        "metrics": {"loss": loss, "accuracy": accuracy},
        "health": health(node),
        "joining": _joining(node),
        "security": _security(node),
    }


def identity(node: Node) -> Data:
    """What a daemon says of itself when it is ready."""
    record = node.peer.gossip.record
    return {
        "pid": os.getpid(),
        "id": record.peer,
        "name": record.name,
        "address": _address(record),
    }


def _self(node: Node) -> Data:
    record = node.peer.gossip.record
    return {
        "id": record.peer,
        "name": record.name,
        "role": "founder" if node.is_founder else "member",
        "addresses": [_address(record)],
        "split_fraction": float(_fraction(record)),
        "trainer": node.apprentice.state,
        "samples": node.apprentice.samples,
        "standing": node.peer.standing.value,
    }


def _address(record: PeerRecord) -> str:
    host = f"[{record.host}]" if ":" in record.host else record.host
    return f"{host}:{record.port}"


def _fraction(record: PeerRecord) -> float:
    numerator, _, denominator = record.split_fraction.partition("/")
    return float(numerator) / float(denominator or 1)


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
    }


def _roster(node: Node) -> Data | None:
    peer = node.peer
    if peer.manifest is None:
        return None
    epoch = peer.manifest.epoch(peer.gossip.round_index)
    digest = peer.gossip.facts.digest.hex()
    members = len(peer.gossip.facts.roster(epoch))
    return {"epoch": epoch, "digest": digest, "members": members}


def _round(node: Node) -> Data:
    now = time.monotonic()
    round_ = node.peer.round
    deadline = round_.deadline() if round_ else None
    done = node.peer.standing is Standing.DONE
    return {
        "number": round_.number if round_ else None,
        "phase": "done" if done else round_.phase.value if round_ else None,
        "started_s_ago": now - round_.started_at if round_ else None,
        "deadline_in_s": None if deadline is None else max(0.0, deadline - now),
        "waiting_for": _waiting_for(node),
    }


def _traffic(node: Node) -> Data:
    traffic, manifest = node.transport.traffic, node.peer.manifest
    sent, received = traffic.sent_bytes(), traffic.received_bytes()
    round_sent, round_received = node.history.this_round(sent, received)
    return {
        "sent_bytes": sent,
        "received_bytes": received,
        "round_sent_bytes": round_sent,
        "round_received_bytes": round_received,
        "full_model_bytes": manifest.layout.size * FLOAT_BYTES if manifest else None,
        "sub_model_bytes": _sub_model_bytes(node),
    }


def _sub_model_bytes(node: Node) -> int | None:
    split = _own_split(node)
    manifest = node.peer.manifest
    if split is None or manifest is None:
        return None
    return split.size(manifest.layout) * FLOAT_BYTES


def _own_split(node: Node) -> Split | None:
    round_ = node.peer.round
    return round_.splits.get(node.peer.gossip.me) if round_ else None


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
        "refused": dict(sorted(refused.items())),
    }


def _joining(node: Node) -> list[Data]:
    now = time.monotonic()
    return [
        {
            "address": knocking.address,
            "attempts": knocking.attempts,
            "last_error": knocking.last_error,
            "next_in_s": max(0.0, knocking.next_at - now),
        }
        for knocking in node.peer.gossip.joining.knocking
    ]


def health(node: Node) -> list[Data]:
    """What is not as it should be, and what to do about it."""
    found: list[Data] = []
    now = time.monotonic()
    if not node.links.encrypted:
        found.append(_trouble("warn", "insecure", *_INSECURE))
    waiting = len(node.peer.door.admission.pending)
    if waiting:
        peers_wait = "1 peer waits" if waiting == 1 else f"{waiting} peers wait"
        text = f"{peers_wait} to be let in"
        found.append(_trouble("info", "pending", text, "see: p2pfusion pending ls"))
    for knocking in node.peer.gossip.joining.knocking:
        # A member knocks where its start told it to: that may take a moment.
        if node.peer.manifest is None or knocking.attempts > PATIENT_ATTEMPTS:
            text = f"{knocking.address}: {knocking.last_error}"
            found.append(_trouble("warn", "not-joined", text, _CHECK_ADDRESS))
    for name in node.peer.gossip.others():
        if not node.peer.gossip.detector.is_online(name, now):
            why = node.peer.gossip.detector.why_silent(name, now)
            text = f"{node.name_of(name)}: {why}; rounds go on without it"
            found.append(_trouble("warn", "peer-silent", text, _CHECK_PEER))
    if node.apprentice.state.startswith("failed"):
        found.append(_trouble("error", "trainer", node.apprentice.state, _CHECK_LOG))
    found.extend(_coverage_health(node))
    return found


_INSECURE = (
    "started with --insecure-loopback: no connection is encrypted or authenticated",
    "start without it for anything but measuring",
)
_CHECK_ADDRESS = "check the address, and that a daemon listens there"
_CHECK_PEER = "see whether its daemon runs: p2pfusion status on that machine"
_CHECK_LOG = "read trainer.log in the home directory"


def _coverage_health(node: Node) -> list[Data]:
    round_, manifest = node.peer.round, node.peer.manifest
    if round_ is None or manifest is None or not round_.splits:
        return []
    lacking = []
    for axis in manifest.layout.axes:
        covered = Split.full(manifest.layout)[axis.name]
        held = covered - covered
        for split in round_.splits.values():
            held = held | split[axis.name]
        if held != covered:
            lacking.append(f"{axis.name} {100 * len(held) / axis.size:.0f} %")
    if not lacking:
        return []
    text = "the peers' splits cover only a part of some axes: " + ", ".join(lacking)
    hint = "later rounds train the rest; more peers or larger fractions do it at once"
    return [_trouble("info", "coverage", text, hint)]


def _trouble(level: str, code: str, message: str, hint: str) -> Data:
    return {"level": level, "code": code, "message": message, "hint": hint}


def peers(node: Node) -> list[Data]:
    """One row per member, this peer first."""
    me = node.peer.gossip.me
    names = [me, *node.peer.gossip.others()]
    records = node.peer.gossip.facts.records
    return [_peer(node, records[name]) for name in names if name in records]


def _peer(node: Node, record: PeerRecord) -> Data:
    now = time.monotonic()
    gossip, traffic = node.peer.gossip, node.transport.traffic
    is_self = record.peer == gossip.me
    contact = gossip.detector.contacts.get(record.peer)
    state = "self"
    if not is_self:
        up = gossip.detector.is_online(record.peer, now)
        state = "online" if up else gossip.detector.why_silent(record.peer, now)
    number = gossip.round_index if is_self else contact.round_index if contact else -1
    return {
        "name": record.name,
        "id": record.peer,
        "state": state,
        "address": _address(record),
        "rtt_s": contact.rtt_s if contact else None,
        "round": number if number >= 0 else None,
        "split_fraction": _fraction(record),
        "overlap": _overlap(node, record.peer),
        "sent_bytes": traffic.sent_bytes(peer=record.peer),
        "received_bytes": traffic.received_bytes(peer=record.peer),
    }


def _overlap(node: Node, peer: str) -> int | None:
    round_, manifest, mine = node.peer.round, node.peer.manifest, _own_split(node)
    theirs = round_.splits.get(peer) if round_ else None
    if manifest is None or mine is None or theirs is None:
        return None
    return sum(segment.size for segment in overlap(manifest.layout, mine, theirs))


def export_metadata(manifest: Manifest, peer: Peer) -> dict[str, str]:
    """What an exported file says of itself."""
    round_: Round | None = peer.round
    return {
        "format": "pt",
        "p2pfusion_swarm": manifest.swarm_id,
        "p2pfusion_round": str(round_.number if round_ else 0),
        "model": manifest.model,
        "model_arguments": json.dumps(manifest.model_arguments, sort_keys=True),
    }
