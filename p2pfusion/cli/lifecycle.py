"""A peer's life, from its first to its last command: init, id, start, stop, join."""

from __future__ import annotations

import contextlib
import platform
import time
from pathlib import Path

import click

from p2pfusion import __version__
from p2pfusion.cli.access_screens import first_contact_text
from p2pfusion.cli.command import command
from p2pfusion.cli.connection import ask, stop_daemon
from p2pfusion.cli.output import Data, note, settings, show
from p2pfusion.cli.text import shorten
from p2pfusion.daemon.address import is_loopback, parse_address, write_address
from p2pfusion.daemon.home import Home
from p2pfusion.daemon.outlets import Outlets
from p2pfusion.errors import (
    ConfigError,
    ConflictError,
    DeniedError,
    NotFoundError,
    StartInterruptedError,
)

STOP_TIMEOUT_S = 30.0
"""A daemon that stops hangs up on its trainer and flushes its store: seconds."""

JOIN_MARGIN_S = 5.0
"""The daemon itself answers when the time is over; the socket waits a little longer."""

LOOPBACK = "127.0.0.1"
"""Where metrics and the page are served unless a host is named: to nobody else."""

OPEN_METRICS = (
    "p2pfusion: warning: --metrics: whoever reaches that address reads how this peer "
    "does; nothing there asks who it is"
)

OPEN_WEB = (
    "p2pfusion: warning: --web: nothing on the way to that address is encrypted, and "
    "who listens in can read the page as well; better reach it through a tunnel"
)

TICKET_MARK = "p2pf"
"""What begins so is perhaps a ticket: only then the ciphers are imported."""

SHOWN_CHARACTERS = 40
"""Of a mistyped ticket, an error shows no more."""

INSECURE = (
    "p2pfusion: warning: --insecure-loopback: NOTHING between the peers is encrypted; "
    "for measuring on this machine alone"
)


class ServedAddress(click.ParamType):
    """``HOST:PORT``, or a port of this machine alone."""

    name = "address"

    def __init__(self, option: str) -> None:
        self._option = option

    def convert(
        self,
        value: object,
        param: click.Parameter | None,
        ctx: click.Context | None,
    ) -> tuple[str, int]:
        """Host and port; ``ConfigError`` for what is neither."""
        text = str(value)
        return parse_address(
            f"{LOOPBACK}:{text}" if text.isdigit() else text, self._option
        )


@command("init", example="p2pfusion init --name lab-a")
@click.option("--name", metavar="NAME", help="What people call it (default: the host).")
def init(name: str | None) -> None:
    """Create the home directory and the identity of a peer; print its id."""
    from p2pfusion.daemon.config import Profile
    from p2pfusion.daemon.identity import create_identity, read_identity

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


@command("id", example="p2pfusion id")
def identify() -> None:
    """Print the id of this home's peer; needs no daemon."""
    from p2pfusion.daemon.identity import read_identity

    home = settings().chosen_home
    identity = read_identity(home)
    if identity is None:
        raise NotFoundError(
            f"no peer lives in {home.root} yet", hint="make one with: p2pfusion init"
        )
    data = {"id": identity.peer, "name": identity.name, "home": str(home.root)}
    show(data, lambda: identity.peer)


@command("start", example="p2pfusion start peers/laptop-cpu.toml --join TICKET")
@click.argument("profile", required=False, type=click.Path(path_type=Path))
@click.option(
    "--swarm",
    type=click.Path(path_type=Path),
    metavar="MANIFEST",
    help="Found a swarm: a TOML file with a [swarm] section.",
)
@click.option(
    "--join",
    multiple=True,
    metavar="ADDRESS|TICKET",
    help="A ticket; or HOST:PORT of an admin of a swarm that does without.",
)
@click.option("--listen", metavar="HOST:PORT", help="Where to listen (port 0: any).")
@click.option(
    "--advertise",
    metavar="HOST:PORT|none",
    help="Where others reach this peer; none: it can only dial out.",
)
@click.option("--lan", is_flag=True, help="Announce this peer in the local network.")
@click.option("--name", metavar="NAME", help="What people call this peer.")
@click.option(
    "--metrics",
    type=ServedAddress("--metrics"),
    metavar="[HOST:]PORT",
    help="Serve metrics for Prometheus there; on loopback without a host.",
)
@click.option(
    "--web",
    type=ServedAddress("--web"),
    metavar="[HOST:]PORT",
    help="Serve a page for browsers there; `p2pfusion web` prints the link.",
)
@click.option(
    "--tensorboard",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="DIR",
    help="Write every round's numbers there, for TensorBoard.",
)
@click.option("--detach", is_flag=True, help="Run in the background.")
@click.option(
    "--insecure-loopback",
    is_flag=True,
    help="Encrypt nothing; for measuring, refused anywhere but on loopback.",
)
def start(
    profile: Path | None,
    swarm: Path | None,
    join: tuple[str, ...],
    listen: str | None,
    advertise: str | None,
    lan: bool,
    name: str | None,
    metrics: tuple[str, int] | None,
    web: tuple[str, int] | None,
    tensorboard: Path | None,
    detach: bool,
    insecure_loopback: bool,
) -> None:
    """Run the daemon of this home; READY is printed once it can be asked."""
    from p2pfusion.cli import launch
    from p2pfusion.daemon.config import Profile, load_profile

    home = settings().chosen_home
    ways = [typed for typed in join if _leads_in(typed, home)]
    chosen = Profile() if profile is None else load_profile(profile)
    chosen.check_data()
    founding = None if swarm is None else load_profile(swarm).swarm
    if swarm is not None and founding is None:
        raise ConfigError(
            f"{swarm}: there is no [swarm] section",
            hint="peers/demo.toml shows what one looks like",
        )
    chosen = chosen.with_overrides(
        name=name,
        listen=listen,
        advertise=advertise,
        lan=lan,
        insecure_loopback=insecure_loopback,
        swarm=founding,
    )
    if chosen.peer.insecure_loopback:
        note(INSECURE)
    if metrics is not None and not is_loopback(metrics[0]):
        note(OPEN_METRICS)
    if web is not None and not is_loopback(web[0]):
        note(OPEN_WEB)
    home.create()
    if detach:
        arguments = _start_arguments(profile, swarm, ways, listen, advertise, name)
        arguments += ["--lan"] if lan else []
        arguments += ["--insecure-loopback"] if insecure_loopback else []
        arguments += [] if metrics is None else ["--metrics", write_address(*metrics)]
        arguments += [] if web is None else ["--web", write_address(*web)]
        arguments += [] if tensorboard is None else ["--tensorboard", str(tensorboard)]
        _detached(home, arguments)
        return
    as_json = settings().as_json
    launch.run_in_foreground(
        home,
        chosen,
        ways,
        outlets=Outlets(metrics, web, tensorboard),
        as_json=as_json,
    )


@command("stop", example="p2pfusion stop --drain 30")
@click.option(
    "--drain",
    "drain_s",
    type=click.FloatRange(0),
    default=0.0,
    show_default=True,
    metavar="S",
    help="Let it finish its round first, for so many seconds at most.",
)
def stop(drain_s: float) -> None:
    """End the daemon of this home and wait until it is gone."""
    home = settings().chosen_home
    pid = stop_daemon(home, timeout_s=STOP_TIMEOUT_S, drain_s=drain_s)
    show({"pid": pid}, lambda: f"Stopped the daemon (pid {pid}).")


@command("join", example="p2pfusion join TICKET --timeout 60")
@click.argument("address", metavar="ADDRESS|TICKET")
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
    """Make the running daemon join a swarm, by ticket or by the address of an admin."""
    _check_way(address, "the way in")
    data = ask(
        settings().chosen_home,
        "join",
        {"address": address, "limit_s": timeout_s},
        timeout_s=timeout_s + JOIN_MARGIN_S,
    )
    show(data, lambda: _joined_text(data))


@command("version", example="p2pfusion version")
def version() -> None:
    """Print the version."""
    data = {"version": __version__, "python": platform.python_version()}
    show(data, lambda: f"p2pfusion {__version__} (Python {platform.python_version()})")


def _detached(home: Home, arguments: list[str]) -> None:
    """Starts it in the background and tells READY; interrupted before, it ends it."""
    from p2pfusion.cli import launch
    from p2pfusion.cli.local_swarm import Interrupts

    interrupts, launched = Interrupts(), None
    with interrupts.caught():
        try:
            with interrupts.held():
                launched = launch.start_in_background(home, arguments)
            data = launched.ready()
            with contextlib.suppress(KeyboardInterrupt), interrupts.held():
                show(data, lambda: launch.ready_line(data))
        except KeyboardInterrupt:
            if launched is not None:
                launched.end()
            raise StartInterruptedError from None


def _start_arguments(
    profile: Path | None,
    swarm: Path | None,
    join: list[str],
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


def _check_way(typed: str, where: str) -> None:
    """Refuses what cannot lead into any swarm, before anybody is asked."""
    if typed.strip()[: len(TICKET_MARK)].lower() == TICKET_MARK:
        from p2pfusion.daemon.ways import ways_of

        ways_of(typed, where, time.time())
        return
    try:
        parse_address(typed, where)
    except ConfigError:
        raise ConfigError(
            f"{where} is {shorten(typed, SHOWN_CHARACTERS)!r}: neither an address nor "
            "a ticket",
            hint="an address is HOST:PORT, and a ticket begins with p2pf1",
        ) from None


def _leads_in(typed: str, home: Home) -> bool:
    """Whether this way in is of use; raises what is wrong with it, if that matters.

    A member needs none, so its start does not fail when a ticket has ended meanwhile.
    """
    try:
        _check_way(typed, "--join")
    except DeniedError as error:
        from p2pfusion.daemon.state import SwarmState

        if SwarmState(home.swarm).load_manifest() is None:
            raise
        note(f"p2pfusion: {error.message}; this peer is a member and needs none")
        return False
    return True


def _joined_text(data: Data) -> str:
    swarm, contacts = data.get("swarm"), data.get("first_contacts")
    name = swarm.get("name") if isinstance(swarm, dict) else "unknown"
    role = " as an admin" if data.get("role") == "admin" else ""
    text = f"Joined the swarm {name}{role}; member from epoch "
    text += str(data.get("member_from_epoch")) + "."
    if isinstance(contacts, dict) and contacts:
        text += "\n" + first_contact_text(contacts)
    return text
