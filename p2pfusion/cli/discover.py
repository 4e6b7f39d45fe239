"""``p2pfusion discover``: who announces itself in the local network, without daemon."""

from __future__ import annotations

import time

import click

from p2pfusion.cli.command import command
from p2pfusion.cli.output import Data, show
from p2pfusion.cli.text import screen_width, shorten, table
from p2pfusion.daemon.address import write_address

DEFAULT_SECONDS = 3.0
"""Who is there answers within one; a question that is lost is asked again after it."""

ID_WIDTH = 9
HEAD = ("NAME", "ID", "SWARM", "ADDRESS")


@command("discover", example="p2pfusion discover --seconds 10")
@click.option(
    "--seconds",
    "listen_s",
    type=click.FloatRange(0, 3_600, min_open=True),
    default=DEFAULT_SECONDS,
    show_default=True,
    metavar="S",
    help="Listen for so long.",
)
def discover(listen_s: float) -> None:
    """Show the peers that announce themselves in the local network.

    Those are daemons started with --lan. Joining one still needs a ticket, unless its
    swarm takes peers without.
    """
    from p2pfusion.daemon.lan import Network

    network = Network()
    try:
        time.sleep(listen_s)
        found = network.found.all()
    finally:
        network.close()
    rows: list[Data] = [
        {
            "id": said.peer,
            "name": said.name,
            "swarm": said.swarm or None,
            "addresses": [write_address(host, said.port) for host in said.addresses],
        }
        for said in found
    ]
    show({"found": rows}, lambda: _text(rows, listen_s))


def _text(rows: list[Data], listen_s: float) -> str:
    if not rows:
        return (
            f"Nobody has announced itself within {listen_s:g} s. Peers do that are "
            "started with --lan, where the network lets multicast through."
        )
    lines = []
    for row in rows:
        addresses = row["addresses"]
        assert isinstance(addresses, list)
        name, swarm = str(row["name"]), str(row["swarm"] or "none yet")
        lines.append(
            [name, shorten(str(row["id"]), ID_WIDTH), swarm, " ".join(addresses)]
        )
    return table(HEAD, lines, screen_width())
