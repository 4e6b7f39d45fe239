"""What ``sim --train`` says of hostile peers: its options, and its result."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import click

from p2pfusion.cli.output import Data
from p2pfusion.protocol.manifest import FUSIONS, WEIGHTINGS
from p2pfusion.simulation.attacks import ATTACKS

FUSION_HELP = "What several values of the same become. Default: mean."
WEIGHTING_HELP = "Weight of a peer's values. Default: uniform."
ATTACK_HELP = f"Some peers are hostile: {', '.join(ATTACKS)}."
ATTACKERS_HELP = "So many; as in --attack NAME:K. Default: 1."
QUARANTINE_HELP = "Put out whom the others find out."
THREATS = ("attack", "attackers", "quarantine")

Command = TypeVar("Command", bound=Callable[..., object])
OPTIONS = (
    click.option("--weighting", type=click.Choice(WEIGHTINGS), help=WEIGHTING_HELP),
    click.option("--fusion", type=click.Choice(FUSIONS), help=FUSION_HELP),
    click.option("--attack", metavar="NAME[:K]", help=ATTACK_HELP),
    click.option("--attackers", type=click.IntRange(1), help=ATTACKERS_HELP),
    click.option("--quarantine", is_flag=True, help=QUARANTINE_HELP),
)


def threat_options(command: Command) -> Command:
    """A command with the options of how contributions are fused, and of who lies."""
    for option in reversed(OPTIONS):
        command = option(command)
    return command


def threat_lines(result: Data) -> list[str]:
    """Who was hostile, and whom the others found out, if anybody looked."""
    attackers, suspected = result.get("attackers"), result.get("suspected")
    if not isinstance(attackers, list) or not isinstance(suspected, dict):
        return []
    hostile = f"{result['attack']} by {', '.join(attackers)}; " if attackers else ""
    found = ", ".join(f"{peer} in round {t}" for peer, t in suspected.items())
    put_out = " (put out)" if result.get("quarantined") else ""
    return [f"Threat    {hostile}suspected: {found or 'nobody'}{put_out}"]
