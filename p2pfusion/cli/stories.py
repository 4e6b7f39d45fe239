"""Commands that tell what has happened: events, logs."""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import BinaryIO

import click

from p2pfusion.cli.command import command
from p2pfusion.cli.connection import ask
from p2pfusion.cli.fields import Table, rows, word
from p2pfusion.cli.output import note, settings, show
from p2pfusion.daemon.home import Home
from p2pfusion.errors import NotFoundError, NotRunningError

SHOWN_EVENTS = 50
SHOWN_LINES = 50
LOG_LOOK_S = 0.2
"""Between two looks at the end of a log that is followed."""

READ_BYTES = 64 * 1024


@command("events", example="p2pfusion events --follow")
@click.option("--follow", "-f", is_flag=True, help="Go on, with each as it happens.")
@click.option(
    "--since",
    type=click.IntRange(0),
    metavar="N",
    help="Only those after number N (default: the newest ones).",
)
@click.option(
    "-n",
    "count",
    type=click.IntRange(0),
    default=SHOWN_EVENTS,
    show_default=True,
    metavar="COUNT",
    help="At most so many, counted back from the newest; not with --since.",
)
def events(follow: bool, since: int | None, count: int) -> None:
    """What has happened to this peer; works without a daemon, too.

    With --follow and --json, each event is a line of JSON by itself.
    """
    home = settings().chosen_home
    wanted: dict[str, object] = {"since": 0, "count": count}
    if since is not None:
        wanted = {"since": since}
    if follow:
        _follow(home, wanted)
        return
    try:
        data = ask(home, "events", wanted)
    except NotRunningError:
        data = _of_last_run(home, since, count)
    show(data, lambda: "\n".join(map(event_line, rows(data, "events"))))


def event_line(event: Table) -> str:
    """``17 2026-11-20 20:15:03 peer-silent: lab-c: silent for 4 s``."""
    at = word(event.get("at"))[:19].replace("T", " ")
    return (
        f"{word(event.get('number'))}  {at}  {word(event.get('kind'))}: "
        f"{word(event.get('text'))}"
    )


def _follow(home: Home, wanted: Mapping[str, object]) -> None:
    as_json = settings().as_json

    def tell(event: Mapping[str, object]) -> None:
        line = json.dumps(event, ensure_ascii=False) if as_json else event_line(event)
        print(line, flush=True)

    with contextlib.suppress(KeyboardInterrupt):
        arguments = {**wanted, "follow": True}
        ask(home, "events", arguments, timeout_s=None, on_event=tell)


def _of_last_run(home: Home, since: int | None, count: int) -> dict[str, object]:
    from p2pfusion.daemon.chronicle import number_of, read_events

    known = read_events(home.root)
    if not known:
        raise NotRunningError(
            f"no daemon runs in {home.root}, and none has left events there",
            hint="start one with: p2pfusion start",
        )
    new = [event for event in known if number_of(event) > (since or 0)]
    shown = new if since is not None else new[len(new) - min(count, len(new)) :]
    return {"events": shown, "newest": number_of(known[-1])}


@command("logs", example="p2pfusion logs -n 100")
@click.option("--follow", "-f", is_flag=True, help="Go on, with each line as it comes.")
@click.option(
    "-n",
    "count",
    type=click.IntRange(0),
    default=SHOWN_LINES,
    show_default=True,
    metavar="COUNT",
    help="The last so many lines.",
)
@click.option("--trainer", is_flag=True, help="The trainer's log instead.")
def logs(follow: bool, count: int, trainer: bool) -> None:
    """The log of this home's daemon; works without a daemon, too."""
    home = settings().chosen_home
    path = home.trainer_log if trainer else home.log
    if not path.exists():
        raise NotFoundError(
            f"there is no log {path}", hint="start a daemon with: p2pfusion start"
        )
    with open(path, "rb") as file:
        lines = last_lines(file, count)
        show({"path": str(path), "lines": lines}, lambda: "\n".join(lines))
        if follow and settings().as_json:
            note("p2pfusion: with --json, logs are not followed")
        elif follow:
            with contextlib.suppress(KeyboardInterrupt):
                for text in _new_text(path, file):
                    print(text, end="", flush=True)


def last_lines(file: BinaryIO, count: int) -> list[str]:
    """The end of a file, line by line; leaves the file at its end."""
    end = position = file.seek(0, os.SEEK_END)
    text = b""
    while position > 0 and text.count(b"\n") <= count:
        step = min(READ_BYTES, position)
        position -= step
        file.seek(position)
        text = file.read(step) + text
    file.seek(end)
    lines = text.decode(errors="replace").splitlines()
    return lines[len(lines) - min(count, len(lines)) :]


def _new_text(path: Path, file: BinaryIO) -> Iterator[str]:
    """What is written to a file from now on, also after another took its place."""
    yield from _rest(path, file)
    while True:
        with open(path, "rb") as following:
            yield from _rest(path, following)


def _rest(path: Path, file: BinaryIO) -> Iterator[str]:
    """What is written to a file until another one has its name.

    Nothing tells a reader when a file grows, so it is looked at now and then.
    """
    while True:
        is_replaced = _is_replaced(path, file.fileno())
        data = file.read(READ_BYTES)
        if data:
            yield data.decode(errors="replace")
        elif is_replaced:
            return
        else:
            time.sleep(LOG_LOOK_S)


def _is_replaced(path: Path, descriptor: int) -> bool:
    try:
        return not os.path.samestat(path.stat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False
