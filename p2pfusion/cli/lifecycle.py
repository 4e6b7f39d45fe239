"""Commands that bring a peer to life and end it: init, start, stop, join, version."""

from __future__ import annotations

import ipaddress
import platform
from pathlib import Path

import click

from p2pfusion import __version__
from p2pfusion.cli.command import command
from p2pfusion.cli.connection import ask, stop_daemon
from p2pfusion.cli.output import note, settings, show
from p2pfusion.daemon.address import parse_address
from p2pfusion.errors import ConfigError, ConflictError

STOP_TIMEOUT_S = 30.0
"""A daemon that stops hangs up on its trainer and flushes its store: seconds."""

JOIN_MARGIN_S = 5.0
"""The daemon itself answers when the time is over; the socket waits a little longer."""


@command("init", example="p2pfusion init --name lab-a")
@click.option("--name", metavar="NAME", help="What people call it (default: the host).")
def init(name: str | None) -> None:
    """Create the home directory and the identity of a peer; print its id."""
    from p2pfusion.daemon.config import Profile
    from p2pfusion.daemon.home import create_identity, read_identity

    Profile().with_overrides(name=name)  # the same rule for names everywhere
    home = settings().chosen_home
    known = read_identity(home)
    if known is not None and name not in (None, known.name):
        raise ConflictError(
            f"{home.root} already is the peer {known.name!r} ({known.peer})",
            hint="use another --home for another peer, or `start --name` to rename it",
        )
    identity = create_identity(home, name)
    data = {
        "id": identity.peer,
        "name": identity.name,
        "home": str(home.root),
        "created": known is None,
    }
    show(data, lambda: identity.peer)


@command("start", example="p2pfusion start peers/laptop-cpu.toml --join 10.0.0.5:7788")
@click.argument("profile", required=False, type=click.Path(path_type=Path))
@click.option(
    "--swarm",
    type=click.Path(path_type=Path),
    metavar="MANIFEST",
    help="Found a swarm: a TOML file with a [swarm] section.",
)
@click.option("--join", multiple=True, metavar="HOST:PORT", help="A member to join by.")
@click.option("--listen", metavar="HOST:PORT", help="Where to listen (port 0: any).")
@click.option("--advertise", metavar="HOST:PORT", help="Where others reach this peer.")
@click.option("--name", metavar="NAME", help="What people call this peer.")
@click.option("--detach", is_flag=True, help="Run in the background.")
def start(
    profile: Path | None,
    swarm: Path | None,
    join: tuple[str, ...],
    listen: str | None,
    advertise: str | None,
    name: str | None,
    detach: bool,
) -> None:
    """Run the daemon of this home; READY is printed once it can be asked."""
    from p2pfusion.cli import launch
    from p2pfusion.daemon.config import Profile, load_profile

    for address in join:
        parse_address(address, "--join")
    chosen = Profile() if profile is None else load_profile(profile)
    founding = None if swarm is None else load_profile(swarm).swarm
    if swarm is not None and founding is None:
        raise ConfigError(
            f"{swarm}: there is no [swarm] section",
            hint="peers/demo.toml shows what one looks like",
        )
    chosen = chosen.with_overrides(
        name=name, listen=listen, advertise=advertise, swarm=founding
    )
    _warn_if_open(parse_address(chosen.peer.listen, "listen")[0])
    home = settings().chosen_home
    home.create()
    if detach:
        arguments = _start_arguments(profile, swarm, join, listen, advertise, name)
        data = launch.start_in_background(home, arguments).ready()
        show(data, lambda: launch.ready_line(data))
        return
    launch.run_in_foreground(home, chosen, join, as_json=settings().as_json)


@command("stop", example="p2pfusion stop")
def stop() -> None:
    """End the daemon of this home and wait until it is gone."""
    pid = stop_daemon(settings().chosen_home, timeout_s=STOP_TIMEOUT_S)
    show({"pid": pid}, lambda: f"Stopped the daemon (pid {pid}).")


@command("join", example="p2pfusion join 10.0.0.5:7788 --timeout 60")
@click.argument("address", metavar="HOST:PORT")
@click.option(
    "--timeout",
    "timeout_s",
    type=click.FloatRange(0, min_open=True),
    default=30.0,
    show_default=True,
    metavar="S",
    help="Wait so long for the answer; the daemon goes on trying afterwards.",
)
def join(address: str, timeout_s: float) -> None:
    """Make the running daemon join a swarm by the address of one of its members."""
    parse_address(address, "the address")
    data = ask(
        settings().chosen_home,
        "join",
        {"address": address, "limit_s": timeout_s},
        timeout_s=timeout_s + JOIN_MARGIN_S,
    )
    swarm = data.get("swarm")
    joined = swarm.get("name") if isinstance(swarm, dict) else "unknown"
    show(
        data,
        lambda: (
            f"Joined the swarm {joined} by {address}; "
            f"member from epoch {data.get('member_from_epoch')}."
        ),
    )


@command("version", example="p2pfusion version")
def version() -> None:
    """Print the version."""
    data = {"version": __version__, "python": platform.python_version()}
    show(data, lambda: f"p2pfusion {__version__} (Python {platform.python_version()})")


def _start_arguments(
    profile: Path | None,
    swarm: Path | None,
    join: tuple[str, ...],
    listen: str | None,
    advertise: str | None,
    name: str | None,
) -> list[str]:
    """The same words again, for the process in the background."""
    arguments = [] if profile is None else [str(profile)]
    for option, value in (
        ("--swarm", swarm),
        ("--listen", listen),
        ("--advertise", advertise),
        ("--name", name),
        *(("--join", address) for address in join),
    ):
        if value is not None:
            arguments += [option, str(value)]
    return arguments


def _warn_if_open(host: str) -> None:
    try:
        loopback = ipaddress.ip_address(host).is_loopback
    except ValueError:
        loopback = host == "localhost"
    if not loopback:
        note(
            f"p2pfusion: warning: listening on {host}: this version has neither "
            "encryption nor admission; use it only inside a network that you trust"
        )
