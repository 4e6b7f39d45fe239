"""Commands that look at a running daemon: status, peers, rounds, round show, wait."""

from __future__ import annotations

import contextlib
import json
import re
import time

import click

from p2pfusion.cli import screens
from p2pfusion.cli.command import LazyGroup, command
from p2pfusion.cli.completion import peer_names
from p2pfusion.cli.connection import ask
from p2pfusion.cli.fields import rows
from p2pfusion.cli.output import Data, Failure, settings, show
from p2pfusion.cli.status_screen import status_screen
from p2pfusion.cli.text import is_terminal, screen_width
from p2pfusion.daemon.home import Home
from p2pfusion.errors import NotFoundError, UnhealthyError
from p2pfusion.limits import ROUND_HISTORY

GOALS = re.compile(r"joined|done|(peers|round)=[0-9]{1,9}")
WAIT_MARGIN_S = 5.0
"""The daemon itself answers when the time is over; the socket waits a little longer."""

FOREVER_S = 1e9
"""The daemon has a limit of its own, of some weeks."""

peer_group = LazyGroup(
    "peer",
    {"show": "p2pfusion.cli.inspect:peer_show"},
    text="Look at one peer.",
    example="p2pfusion peer show lab-c",
)

round_group = LazyGroup(
    "round",
    {"show": "p2pfusion.cli.inspect:round_show"},
    text="Look at one round.",
    example="p2pfusion round show 12",
)


@command("status", example="p2pfusion status --check")
@click.option("--check", is_flag=True, help="Exit with 7 unless all is well.")
def status(check: bool) -> None:
    """One screen: this peer, its swarm, the round and what it waits for."""
    home = settings().chosen_home
    data = ask(home, "status")
    trouble = _trouble(data) if check else None
    failure = None if trouble is None else Failure.of(trouble)

    show(data, lambda: _screen(home, data), failure)
    if trouble is None:
        return
    if settings().as_json:
        raise click.exceptions.Exit(trouble.exit_code)
    raise trouble


@command("watch", example="p2pfusion watch")
@click.option(
    "--every",
    "interval_s",
    type=click.FloatRange(0.1),
    default=1.0,
    show_default=True,
    metavar="S",
    help="Seconds between two looks.",
)
def watch(interval_s: float) -> None:
    """The screen of status, again and again; Ctrl-C ends it.

    With --json, each look is a line of JSON by itself.
    """
    home, as_json = settings().chosen_home, settings().as_json
    with contextlib.suppress(KeyboardInterrupt):
        while True:
            data = ask(home, "status")
            if as_json:
                print(json.dumps(data, ensure_ascii=False), flush=True)
            else:
                clear = CLEAR_SCREEN if is_terminal() else ""
                print(f"{clear}{_screen(home, data)}\n", flush=True)
            time.sleep(interval_s)


CLEAR_SCREEN = "\x1b[H\x1b[2J"
"""To the upper left corner, and everything empty."""


def _screen(home: Home, status: Data) -> str:
    joined = status.get("swarm") is not None
    peers = rows(ask(home, "peers"), "peers") if joined else []
    return status_screen(status, peers, screen_width())


@command("peers", example="p2pfusion peers")
def peers() -> None:
    """Who is in the swarm, in what state, and what is exchanged with whom."""
    data = ask(settings().chosen_home, "peers")
    show(data, lambda: screens.peers_table(rows(data, "peers"), screen_width()))


@command("show", example="p2pfusion peer show lab-c")
@click.argument("peer", metavar="PEER", shell_complete=peer_names)
def peer_show(peer: str) -> None:
    """Everything about one peer: its name, or the beginning of its id."""
    data = ask(settings().chosen_home, "peer", {"peer": peer})
    show(data, lambda: screens.peer_screen(data))


@command("rounds", example="p2pfusion rounds -n 5")
@click.option(
    "-n",
    "count",
    type=click.IntRange(1, ROUND_HISTORY),
    default=10,
    show_default=True,
    metavar="N",
    help="How many, counted back from the newest.",
)
def rounds(count: int) -> None:
    """The last rounds: who contributed, who was missing, bytes and loss."""
    data = ask(settings().chosen_home, "rounds", {"count": count})
    show(data, lambda: screens.rounds_table(rows(data, "rounds"), screen_width()))


@command("show", example="p2pfusion round show 12")
@click.argument("number", type=click.IntRange(0), metavar="T")
def round_show(number: int) -> None:
    """Everything about round T."""
    answer = ask(settings().chosen_home, "rounds", {"count": ROUND_HISTORY})
    known = {row.get("number"): row for row in rows(answer, "rounds")}
    if number not in known:
        numbers = [n for n in known if isinstance(n, int)]
        raise NotFoundError(
            f"this peer has no round {number}",
            hint=f"it knows rounds {min(numbers)} to {max(numbers)}"
            if numbers
            else "no round is complete yet",
        )
    found: Data = dict(known[number])
    show(found, lambda: screens.round_screen(found))


@command("wait", example="p2pfusion wait --for round=3 --timeout 60")
@click.option(
    "--for",
    "goal",
    required=True,
    metavar="joined|peers=K|round=T|done",
    help="In a swarm; K members online; round T reached; all rounds done.",
)
@click.option(
    "--timeout",
    "timeout_s",
    type=click.FloatRange(0),
    default=None,
    metavar="S",
    help="Give up after so many seconds (default: never).",
)
def wait(goal: str, timeout_s: float | None) -> None:
    """Wait until something is so; for scripts."""
    if not GOALS.fullmatch(goal):
        raise click.BadParameter(
            f"{goal!r} is not one of joined, peers=K, round=T, done", param_hint="--for"
        )
    data = ask(
        settings().chosen_home,
        "wait",
        {"for": goal, "limit_s": FOREVER_S if timeout_s is None else timeout_s},
        timeout_s=None if timeout_s is None else timeout_s + WAIT_MARGIN_S,
    )
    show(data, lambda: f"Reached: {goal} (round {data.get('round')})")


def _trouble(data: Data) -> UnhealthyError | None:
    """What is wrong according to a status, if anything is."""
    bad = [row for row in rows(data, "health") if row.get("level") in ("warn", "error")]
    if bad:
        hint = bad[0].get("hint")
        return UnhealthyError(
            str(bad[0].get("message")), hint=str(hint) if hint else "see the list above"
        )
    if data.get("swarm") is None:
        return UnhealthyError(
            "this peer is not in a swarm",
            hint="join one with `p2pfusion join TICKET`",
        )
    return None
