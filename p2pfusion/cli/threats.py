"""What ``sim --train`` says of peers that others need not trust: the options of what is
fused and how, of what is hidden, and of who lies; and what came of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import click

from p2pfusion.cli.output import Data
from p2pfusion.protocol.manifest import FUSIONS, SECURE_AGGREGATION, WEIGHTINGS
from p2pfusion.simulation.attacks import ATTACKS

HIDING_HELP = "As the key of [swarm]: reducers see sums only."
NOISE_HELP = "As [peer.privacy] noise, at every peer, from the seed. Default: none."
CLIP_HELP = "As [peer.privacy] clip: the largest norm of a change."
FUSION_HELP = "What several values of the same become. Default: mean."
SECOND_HELP = "Fuse everything twice, and compare, as reducers may lie, too."
WEIGHTING_HELP = "Weight of a peer's values. Default: uniform."
ATTACK_HELP = f"Some peers are hostile: {', '.join(ATTACKS)}."
ATTACKERS_HELP = "So many; as in --attack NAME:K. Default: 1."
QUARANTINE_HELP = "Put out whom the others find out."
THREATS = ("attack", "attackers", "quarantine")

Command = TypeVar("Command", bound=Callable[..., object])
OPTIONS = (
    click.option(
        "--secure-aggregation", type=click.Choice(SECURE_AGGREGATION), help=HIDING_HELP
    ),
    click.option("--privacy-noise", type=click.FloatRange(0), help=NOISE_HELP),
    click.option(
        "--privacy-clip", type=click.FloatRange(0), default=1.0, help=CLIP_HELP
    ),
    click.option("--weighting", type=click.Choice(WEIGHTINGS), help=WEIGHTING_HELP),
    click.option("--fusion", type=click.Choice(FUSIONS), help=FUSION_HELP),
    click.option("--second-opinions", is_flag=True, default=None, help=SECOND_HELP),
    click.option("--attack", metavar="NAME[:K]", help=ATTACK_HELP),
    click.option("--attackers", type=click.IntRange(1), help=ATTACKERS_HELP),
    click.option("--quarantine", is_flag=True, help=QUARANTINE_HELP),
)


def threat_options(command: Command) -> Command:
    """A command with these options."""
    for option in reversed(OPTIONS):
        command = option(command)
    return command


def threat_lines(result: Data) -> list[str]:
    """What a peer's data has told, if there was noise; who was hostile, and whom the
    others found out, if anybody looked."""
    return _privacy(result) + _hostile(result)


def _privacy(result: Data) -> list[str]:
    told = result.get("epsilon")
    if not isinstance(told, float):
        return []
    return [f"Privacy   epsilon {told:.2f} at delta {result['delta']}, of each peer"]


def _hostile(result: Data) -> list[str]:
    attackers, suspected = result.get("attackers"), result.get("suspected")
    if not isinstance(attackers, list) or not isinstance(suspected, dict):
        return []
    hostile = f"{result['attack']} by {', '.join(attackers)}; " if attackers else ""
    found = ", ".join(f"{peer} in round {t}" for peer, t in suspected.items())
    put_out = " (put out)" if result.get("quarantined") else ""
    return [f"Threat    {hostile}suspected: {found or 'nobody'}{put_out}"]
