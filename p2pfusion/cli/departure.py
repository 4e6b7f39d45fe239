"""Commands that take peers out: leave, recover."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence

import click

from p2pfusion.cli.command import command
from p2pfusion.cli.completion import peer_names
from p2pfusion.cli.connection import ask
from p2pfusion.cli.fields import Table, real, rows, word
from p2pfusion.cli.output import Data, note, settings, show
from p2pfusion.cli.text import is_terminal, number, percent, plural
from p2pfusion.errors import P2PFusionError

LEAVE_WORD = "leave"
RECOVER_WORD = "recover"
MARGIN_S = 5.0
"""The daemon answers when the epoch has come; the socket waits a little longer."""


@command("leave", example="p2pfusion leave --yes")
@click.option("--yes", is_flag=True, help="Do not ask; needed without a terminal.")
@click.option(
    "--timeout",
    "timeout_s",
    type=click.FloatRange(0, min_open=True),
    default=None,
    metavar="S",
    help="Wait so long for the epoch; it leaves all the same (default: for ever).",
)
def leave(yes: bool, timeout_s: float | None) -> None:
    """Take this peer out of its swarm; waits until the others go on without it.

    Its copies are handed over. `join` brings it back.
    """
    home = settings().chosen_home
    if not yes:
        _check_terminal("leaving a swarm")
        planned = ask(home, "leave", {"dry_run": True})
        members = number(planned.get("members"))
        note(
            f"This takes this peer out of the swarm {word(planned.get('swarm'))} of "
            f"{members} members.\n`p2pfusion stop` only ends its daemon."
        )
        _confirm(LEAVE_WORD, "it has not left")
    limit_s = None if timeout_s is None else timeout_s + MARGIN_S
    data = ask(home, "leave", timeout_s=limit_s, on_event=_progress())
    show(data, lambda: f"Left the swarm {word(data.get('swarm'))}.")


def _progress() -> Callable[[Mapping[str, object]], None]:
    as_json = settings().as_json

    def tell(event: Mapping[str, object]) -> None:
        epoch, leaves = number(event.get("epoch")), number(event.get("leave_epoch"))
        if not as_json and event.get("leave_epoch") is not None:
            at = number(event.get("round"))
            note(f"Round {at}, epoch {epoch}: it leaves with epoch {leaves} ...")

    return tell


@command("recover", example='p2pfusion recover --reason "two machines burnt"')
@click.argument("peers", nargs=-1, metavar="[PEER]...", shell_complete=peer_names)
@click.option("--reason", metavar="TEXT", help="What every member is told.")
@click.option("--yes", is_flag=True, help="Do not ask; needed without a terminal.")
def recover(peers: Sequence[str], reason: str | None, yes: bool) -> None:
    """Declare members lost for good, so that the rest has a quorum again; for admins.

    Without names: all members of the roster that do not answer.
    """
    home = settings().chosen_home
    wanted: Data = {"peers": list(peers), "reason": reason}
    if not yes:
        _check_terminal("declaring peers lost")
        planned = ask(home, "recover", {**wanted, "dry_run": True})
        note(losses_text(planned))
        _confirm(RECOVER_WORD, "nobody was declared lost")
    data = ask(home, "recover", wanted)
    names = ", ".join(word(peer.get("name")) for peer in rows(data, "lost"))
    show(
        data,
        lambda: (
            f"Declared lost: {names}. The rest goes on without them; "
            "`p2pfusion status` shows how."
        ),
    )


def losses_text(planned: Table) -> str:
    """Who would be declared lost, and what would be lost with them."""
    lost = rows(planned, "lost")
    lines = ["This declares lost, for good:"]
    lines += [
        f"  {word(peer.get('name'))}  {word(peer.get('id'))}  {word(peer.get('state'))}"
        for peer in lost
    ]
    staying = int(real(planned, "staying") or 0)
    lines.append(f"{plural(staying, 'member')} would go on.")
    gone, all_of_it = real(planned, "parameters_lost"), real(planned, "parameters")
    if gone is None:
        lines.append("What they alone have the newest values of is not known.")
    elif not gone:
        lines.append("Everything that they have newest, somebody else has, too.")
    else:
        share = percent(gone / all_of_it) if all_of_it else "unknown"
        lines.append(
            f"The newest values of {number(int(gone))} parameters ({share}) have no "
            "other copy: these go back to older values."
        )
    lines.append("If they may come back, wait: they are waited for until they do.")
    return "\n".join(lines)


def _check_terminal(what: str) -> None:
    if not is_terminal(sys.stdin):
        raise click.UsageError(
            f"{what} needs --yes where there is no terminal to ask at",
            click.get_current_context(),
        )


def _confirm(wanted: str, otherwise: str) -> None:
    """Whoever goes on types the word: a habit of answering yes is not enough."""
    typed = click.prompt(f"Type {wanted!r} to go on", err=True, default="")
    if typed.strip() != wanted:
        raise P2PFusionError(otherwise, hint=f"{wanted!r} was not typed")
