"""Commands about who may come in and who must go: invite, pending, trust."""

from __future__ import annotations

import re
import sys

import click

from p2pfusion.cli import access_screens as screens
from p2pfusion.cli.command import LazyGroup, command
from p2pfusion.cli.completion import peer_names
from p2pfusion.cli.connection import FOUND_TIMEOUT_S, ask
from p2pfusion.cli.fields import rows
from p2pfusion.cli.output import Data, note, settings, show
from p2pfusion.cli.text import is_terminal, screen_width
from p2pfusion.daemon.home import Home
from p2pfusion.errors import P2PFusionError

SECONDS = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}
NEVER_S = 0.0
"""The daemon's word for a ticket without an end."""

invite_group = LazyGroup(
    "invite",
    {
        "create": "p2pfusion.cli.access:invite_create",
        "ls": "p2pfusion.cli.access:invite_ls",
        "revoke": "p2pfusion.cli.access:invite_revoke",
    },
    text="Tickets that let peers into the swarm.",
    example="p2pfusion invite create --uses 3",
)

pending_group = LazyGroup(
    "pending",
    {
        "ls": "p2pfusion.cli.access:pending_ls",
        "accept": "p2pfusion.cli.access:pending_accept",
        "deny": "p2pfusion.cli.access:pending_deny",
    },
    text="Peers that knocked without a ticket and wait for a decision.",
    example="p2pfusion pending ls",
)

trust_group = LazyGroup(
    "trust",
    {
        "ls": "p2pfusion.cli.access:trust_ls",
        "revoke": "p2pfusion.cli.access:trust_revoke",
        "pardon": "p2pfusion.cli.access:trust_pardon",
    },
    text="The keys of the swarm's peers, putting peers out, and forgiving them.",
    example="p2pfusion trust ls",
)


class Duration(click.ParamType):
    """``30m``, ``24h``, ``7d`` or ``never``, in seconds."""

    name = "duration"

    def convert(
        self,
        value: object,
        param: click.Parameter | None,
        ctx: click.Context | None,
    ) -> float:
        """The seconds, ``NEVER_S`` for never; or a usage error."""
        if isinstance(value, float):
            return value
        if value == "never":
            return NEVER_S
        found = re.fullmatch(r"([0-9]{1,9})([smhd])", str(value), re.ASCII)
        if found is None or not int(found[1]):
            self.fail(
                f"{value!r} is not a duration: write 30m, 24h, 7d or never", param, ctx
            )
        return float(int(found[1]) * SECONDS[found[2]])


# --- invite --------------------------------------------------------------------------


@command("create", example="p2pfusion invite create --uses 3 --expires 7d")
@click.option(
    "--uses",
    type=click.IntRange(0),
    default=1,
    show_default=True,
    metavar="N",
    help="How many peers it lets in; 0 is any number.",
)
@click.option(
    "--expires",
    "life_s",
    type=Duration(),
    default="24h",
    show_default=True,
    metavar="DURATION",
    help="How long it is good: 30m, 24h, 7d or never.",
)
@click.option(
    "--role",
    type=click.Choice(["member", "admin"]),
    default="member",
    show_default=True,
    help="What they become; admins can let in and put out others.",
)
@click.option("--qr", is_flag=True, help="Draw it as a QR code, too.")
def invite_create(uses: int, life_s: float, role: str, qr: bool) -> None:
    """Make a ticket; print it alone on standard output."""
    home = settings().chosen_home
    _wait_for_founding(home)
    wanted: Data = {"uses": uses, "life_s": life_s, "role": role}
    told = ask(home, "invite-create", wanted)
    ticket = str(told.get("ticket"))
    if told.get("only_this_machine"):
        addresses = told.get("addresses")
        known = addresses if isinstance(addresses, list) else []
        note(screens.loopback_warning(known))
    if qr:
        from p2pfusion.cli.qr import terminal_code

        note(terminal_code(ticket))
    if not settings().as_json:
        note(screens.ticket_notes(told))
    show(_with_time(told), lambda: ticket)


@command("ls", example="p2pfusion invite ls")
def invite_ls() -> None:
    """The invitations that this peer has made, and who used them."""
    invites = rows(ask(settings().chosen_home, "invite-ls"), "invites")
    data = {"invites": [_with_time(dict(invite)) for invite in invites]}
    show(data, lambda: screens.invites_screen(invites, screen_width()))


@command("revoke", example="p2pfusion invite revoke 7kq2m4rx")
@click.argument("invite", metavar="ID")
def invite_revoke(invite: str) -> None:
    """End an invitation: its ticket lets nobody in any more."""
    data = ask(settings().chosen_home, "invite-revoke", {"id": invite})
    show(
        data,
        lambda: (
            f"Revoked the invitation {data.get('id')}. Who came in by it is a member "
            "still: see `p2pfusion trust ls`."
        ),
    )


def _wait_for_founding(home: Home) -> None:
    """A founder that has just been started has no swarm to invite to for a moment."""
    status = ask(home, "status")
    me = status.get("self")
    is_founder = isinstance(me, dict) and me.get("role") == "founder"
    if is_founder and status.get("swarm") is None:
        note("Waiting until the swarm is founded ...")
        wanted: Data = {"for": "joined", "limit_s": FOUND_TIMEOUT_S}
        ask(home, "wait", wanted, timeout_s=None)


def _with_time(invite: Data) -> Data:
    """An invitation with its end as programs read times."""
    return {**invite, "expires": screens.timestamp(invite.get("expires"))}


# --- pending -------------------------------------------------------------------------


@command("ls", example="p2pfusion pending ls")
def pending_ls() -> None:
    """Who knocked here without a ticket and waits."""
    data = ask(settings().chosen_home, "pending-ls")
    pending = rows(data, "pending")
    admission = data.get("admission")
    show(data, lambda: screens.pending_screen(admission, pending, screen_width()))


@command("accept", example="p2pfusion pending accept 7kq2m4")
@click.argument("peer", metavar="ID")
def pending_accept(peer: str) -> None:
    """Let a peer in that waits; the beginning of its id is enough."""
    data = ask(settings().chosen_home, "pending-accept", {"id": peer})
    show(data, lambda: f"Let in {data.get('name')} ({data.get('id')}).")


@command("deny", example="p2pfusion pending deny 7kq2m4")
@click.argument("peer", metavar="ID")
def pending_deny(peer: str) -> None:
    """Send a peer away that waits; the beginning of its id is enough."""
    data = ask(settings().chosen_home, "pending-deny", {"id": peer})
    show(data, lambda: f"Sent away {data.get('name')} ({data.get('id')}).")


# --- trust ---------------------------------------------------------------------------


@command("ls", example="p2pfusion trust ls")
def trust_ls() -> None:
    """Whose key is trusted, as what, by whose word; and who was put out."""
    data = ask(settings().chosen_home, "trust-ls")
    peers, contacts = rows(data, "peers"), data.get("first_contacts")
    names = {str(peer.get("id")): str(peer.get("name")) for peer in peers}
    met = contacts if isinstance(contacts, dict) else {}
    show(data, lambda: screens.trust_screen(peers, met, names, screen_width()))


@command("revoke", example='p2pfusion trust revoke lab-c --reason "stolen laptop"')
@click.argument("peer", metavar="PEER", shell_complete=peer_names)
@click.option("--reason", metavar="TEXT", help="What every member is told.")
@click.option("--yes", is_flag=True, help="Do not ask; needed without a terminal.")
def trust_revoke(peer: str, reason: str | None, yes: bool) -> None:
    """Put a member out for good, and whom it has let in: its name or its id's start."""
    home = settings().chosen_home
    wanted: Data = {"peer": peer, "reason": reason}
    if not yes:
        if not is_terminal(sys.stdin):
            raise click.UsageError(
                "putting a peer out needs --yes where there is no terminal to ask at",
                click.get_current_context(),
            )
        _confirm(ask(home, "trust-revoke", {**wanted, "dry_run": True}))
    data = ask(home, "trust-revoke", wanted)
    if not settings().as_json:
        note(screens.STILL_GOOD)
    show(data, lambda: screens.put_out_text(rows(data, "put_out")))


@command("pardon", example="p2pfusion trust pardon lab-c")
@click.argument("peer", metavar="PEER", shell_complete=peer_names)
def trust_pardon(peer: str) -> None:
    """Take a member out of this peer's quarantine, and forget what it was caught at.

    Others that have it in quarantine decide for themselves.
    """
    data = ask(settings().chosen_home, "trust-pardon", {"peer": peer})
    show(data, lambda: screens.pardon_text(data))


def _confirm(planned: Data) -> None:
    note(screens.put_out_question(planned.get("name"), rows(planned, "put_out")))
    if not click.confirm("Go on?", err=True):
        raise P2PFusionError("nobody was put out", hint="the answer was no")
