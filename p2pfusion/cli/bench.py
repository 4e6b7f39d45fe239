"""``bench link``: how fast the line to a peer is, by the way that values take."""

from __future__ import annotations

import statistics

import click

from p2pfusion.cli.command import LazyGroup, command
from p2pfusion.cli.completion import peer_names
from p2pfusion.cli.connection import ask
from p2pfusion.cli.doctor import PING_MARGIN_S, way_ends
from p2pfusion.cli.fields import real, word
from p2pfusion.cli.output import Data, settings, show
from p2pfusion.cli.text import duration, size
from p2pfusion.daemon.home import Home
from p2pfusion.errors import WaitTimeoutError

PINGS = 5
PATIENCE_S = 30.0
"""The daemon's, for what is under way at the end, and some more."""

MOST_SECONDS = 60.0

bench_group = LazyGroup(
    "bench",
    {"link": "p2pfusion.cli.bench:link"},
    text="Measure a running swarm.",
    example="p2pfusion bench link lab-c",
)


@command("link", example="p2pfusion bench link lab-c --seconds 10")
@click.argument("peer", metavar="PEER", shell_complete=peer_names)
@click.option(
    "--seconds",
    type=click.FloatRange(0.1, MOST_SECONDS),
    default=5.0,
    show_default=True,
    metavar="S",
    help="Send for so long.",
)
def link(peer: str, seconds: float) -> None:
    """Measure how much the line to a peer takes, and how long a word is on its way.

    Noise goes there, sealed and queued as values are, beside what rounds send. For the
    other direction, run it there.
    """
    home = settings().chosen_home
    trips = _round_trips(home, peer)
    wanted: Data = {"peer": peer, "seconds": seconds}
    told = ask(home, "bench-link", wanted, timeout_s=seconds + PATIENCE_S)
    if not told.get("arrived_bytes"):
        raise WaitTimeoutError(
            f"{word(told.get('name'))} answers pings, and took nothing of "
            f"{size(real(told, 'sent_bytes'))} in time",
            hint="see that its data port, the one after the named one, is let through, "
            "and that both run the same version",
        )
    data = {**told, "round_trips_s": trips}
    show(data, lambda: _text(data, trips))


def _round_trips(home: Home, peer: str) -> list[float]:
    """Of pings, before the line is full; raises where the way ends."""
    wanted: Data = {"peer": peer, "count": PINGS}
    told = ask(home, "ping", wanted, timeout_s=PINGS + PING_MARGIN_S)
    if not told.get("answered"):
        way = way_ends(told)
        text = f"{word(told.get('name'))}: {way['text']}"
        raise WaitTimeoutError(text, hint=str(way["hint"]))
    trips = told.get("round_trips_s")
    assert isinstance(trips, list)
    return [float(trip) for trip in trips]


def _text(data: Data, trips: list[float]) -> str:
    limit = real(data, "up_limit_bytes_per_s")
    sealed = "encrypted" if data.get("encrypted") else "NOT encrypted"
    return (
        f"To {word(data.get('name'))} at {word(data.get('address'))}: "
        f"{size(real(data, 'bytes_per_s'))}/s, {sealed} "
        f"({size(real(data, 'arrived_bytes'))} in {duration(real(data, 'seconds'))}); "
        f"round trip {duration(statistics.median(trips))}"
        + (f"; up_limit is {size(limit)}/s" if limit is not None else "")
    )
