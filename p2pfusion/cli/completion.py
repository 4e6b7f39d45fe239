"""``completion``: what a shell needs to complete commands, options and peers' names.

Imported by every command that takes a peer, so nothing slow is imported here.
"""

from __future__ import annotations

import click

from p2pfusion.cli.command import command
from p2pfusion.cli.connection import ask
from p2pfusion.cli.fields import rows, word
from p2pfusion.cli.output import Settings, show
from p2pfusion.errors import P2PFusionError

PROGRAM = "p2pfusion"
VARIABLE = "_P2PFUSION_COMPLETE"
"""By which a shell asks this program; click makes it of the program's name."""

SHELLS = ("bash", "zsh", "fish")
PATIENCE_S = 1.0
"""A person waits for the names of peers after pressing a key."""


@command("completion", example="p2pfusion completion bash >> ~/.bashrc")
@click.argument("shell", type=click.Choice(SHELLS), metavar="SHELL")
def completion(shell: str) -> None:
    """Print the completion script for bash, zsh or fish.

    For every new shell: in ~/.bashrc or ~/.zshrc, eval "$(p2pfusion completion bash)"
    (or zsh); for fish, p2pfusion completion fish >
    ~/.config/fish/completions/p2pfusion.fish
    """
    from click.shell_completion import get_completion_class

    root = click.get_current_context().find_root().command
    kind = get_completion_class(shell)
    assert kind is not None, "click completes for each of SHELLS"
    script = kind(root, {}, PROGRAM, VARIABLE).source()
    show({"shell": shell, "script": script}, lambda: script.rstrip())


def peer_names(
    context: click.Context, _: click.Parameter, incomplete: str
) -> list[str]:
    """Names of peers that begin so, as the running daemon knows them; else nothing."""
    home = context.find_root().ensure_object(Settings).chosen_home
    try:
        known = rows(ask(home, "peers", timeout_s=PATIENCE_S), "peers")
    except P2PFusionError:
        return []
    others = (word(peer.get("name")) for peer in known if peer.get("state") != "self")
    return [name for name in others if name.startswith(incomplete)]
