"""The way to the web page of a running daemon."""

from __future__ import annotations

from p2pfusion.cli.command import command
from p2pfusion.cli.connection import daemon_pid
from p2pfusion.cli.output import settings, show
from p2pfusion.errors import NotFoundError, NotRunningError


@command("web", example="p2pfusion web")
def web() -> None:
    """Print the link to the running daemon's page; it is good for reading only."""
    from p2pfusion.daemon.web.token import read_access

    home = settings().chosen_home
    pid = daemon_pid(home)
    if pid is None:
        raise NotRunningError(
            f"no daemon runs in {home.root}",
            hint="start one with: p2pfusion start --web 8477",
        )
    access = read_access(home)
    if access is None or access.pid != pid:
        raise NotFoundError(
            "this daemon serves no page",
            hint="stop it, and start it with: p2pfusion start --web 8477",
        )
    show({"link": access.link}, lambda: access.link)
