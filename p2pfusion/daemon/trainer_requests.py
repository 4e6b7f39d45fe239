"""What a trainer is told: of a founder's model, and of a swarm that it trains in."""

from __future__ import annotations

from p2pfusion.daemon.config import DataSettings, PeerSettings
from p2pfusion.daemon.swarm_settings import SwarmSettings
from p2pfusion.methods import skipping
from p2pfusion.protocol.manifest import Manifest

Fields = dict[str, object]


def describe_request(
    swarm: SwarmSettings, peer: PeerSettings, data: DataSettings
) -> Fields:
    """Which model a founder means; its data tells what the rest leaves open."""
    return {
        "do": "describe",
        "model": swarm.model,
        "arguments": dict(swarm.model_arguments),
        "vocabulary": dict(swarm.vocabulary),
        "objective": swarm.objective,
        "data": data.to_data(),
        **_allowed(peer),
    }


def setup_request(manifest: Manifest, peer: PeerSettings, data: DataSettings) -> Fields:
    """What stays the same over the rounds, but for where files are."""
    return {
        "do": "setup",
        "model": manifest.model,
        "arguments": manifest.model_arguments,
        "vocabulary": manifest.vocabulary,
        "versions": manifest.versions,
        "augment": manifest.augment,
        "layout": manifest.layout.to_data(),
        "seed": manifest.seed,
        "objective": manifest.objective_options,
        "optimiser": manifest.step_settings,
        "outer_momentum": manifest.outer_momentum,
        "depth_dropout": skipping(manifest.trained_by),
        "batch": peer.batch or manifest.batch,
        "accumulation": peer.accumulation,
        "precision": peer.precision,
        "checkpointing": peer.checkpointing,
        "local_epochs": manifest.local_epochs,
        "local_steps": manifest.local_steps or None,
        "changes": manifest.sends_changes,
        "summed": manifest.adds_changes,
        "data": data.to_data(),
        "device": peer.device,
        "processes": peer.processes,
        "threads": peer.cpu_threads,
        **_allowed(peer),
    }


def _allowed(peer: PeerSettings) -> Fields:
    """Functions from outside that the owner of this machine has named."""
    return {"models": list(peer.models), "objectives": list(peer.objectives)}
