"""What has happened to this peer: typed events, numbered, in order, within bounds.

Everything that the protocol reports, and what the daemon itself has to say, is one
event: a number, an instant, a kind, the same in words, and details. The newest are in
memory; the file ``events.jsonl`` and the one before it survive a restart, and the
numbers go on from there. An event that cannot be written is kept in memory alone: a
full disk must not stop a peer from serving.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

from p2pfusion import __version__
from p2pfusion.daemon.health import Trouble
from p2pfusion.daemon.last_words import EVENTS, STOPPED
from p2pfusion.daemon.telling import told
from p2pfusion.limits import (
    MAX_EVENTS_FILE_BYTES,
    MAX_EVENTS_IN_MEMORY,
    MAX_ROSTER,
)

log = logging.getLogger("p2pfusion")

Event = dict[str, object]
Details = Mapping[str, object]

BY_OTHERS = {"protocol-error", "newcomer-pending", "newcomer-denied"}
"""Kinds that others can cause as often as they like: they must not push out the rest.
Every one of them is counted in ``status``."""

BY_ITSELF = {"peer-online", "peer-silent"}
"""Kinds that a member can cause about itself as often as it likes."""

BY_OTHERS_INTERVAL_S = 1.0
"""At most one of each such kind in so long; of the latter, about each member."""

MAX_EVENT_BYTES = MAX_EVENTS_FILE_BYTES // 256
"""One event as a line; of a larger one only the words are kept."""

OLDER = "events.1.jsonl"


class Chronicle:
    """The events of one home."""

    def __init__(
        self,
        directory: Path,
        name_of: Callable[[str], str],
        clock: Callable[[], float] = time.time,
    ) -> None:
        """``clock``: Unix time, for people; no decision uses it."""
        self._directory = directory
        self._name_of = name_of
        self._clock = clock
        known = read_events(directory)
        self._events: deque[Event] = deque(known, maxlen=MAX_EVENTS_IN_MEMORY)
        self.newest = number_of(self._events[-1]) if self._events else 0
        """The number of the newest event; the first one has number 1."""
        self._troubles: dict[str, Trouble] = {}
        self._is_writable = True
        self._said: dict[str, str] = {}
        self._noted_at: dict[str, float] = {}

    def begin(self) -> None:
        """The daemon runs; says so if the last run did not end as it should."""
        if self._events and self._events[-1].get("kind") != STOPPED:
            self.note("ended-unseen", {})
        self.note("daemon-started", {"version": __version__, "pid": os.getpid()})

    def end(self, why: str) -> None:
        """The daemon ends."""
        self.note(STOPPED, {"why": why})

    def note(self, kind: str, details: Details) -> None:
        """Something happened."""
        text = told(kind, details, self._name_of)
        if kind in BY_OTHERS and self._says_nothing_new(kind, text):
            return
        if kind in BY_ITSELF and self._comes_too_soon(f"{kind} {details['peer']}"):
            return
        self.newest += 1
        event: Event = {
            "number": self.newest,
            "at": timestamp(self._clock()),
            "kind": kind,
            "text": text,
            "details": self._named(details),
        }
        if len(_line(event)) > MAX_EVENT_BYTES:
            event["details"] = {}
        self._events.append(event)
        self._write(_line(event))
        log.info("%s: %s", kind, text, extra={"event": event})

    def _says_nothing_new(self, kind: str, text: str) -> bool:
        """Whether it is what was said last, or the next word within a moment."""
        if text == self._said.get(kind, ""):
            return True
        if self._comes_too_soon(kind):
            return True
        self._said[kind] = text
        return False

    def _comes_too_soon(self, key: str) -> bool:
        """Whether there was one of these within a moment; if not, this is one."""
        now = self._clock()
        if 0 <= now - self._noted_at.get(key, 0.0) < BY_OTHERS_INTERVAL_S:
            return True
        self._noted_at.pop(key, None)
        self._noted_at[key] = now
        if len(self._noted_at) > 2 * MAX_ROSTER:
            del self._noted_at[next(iter(self._noted_at))]
        return False

    def _named(self, details: Details) -> Event:
        """The details; beside the id of a peer stands its name."""
        peer = details.get("peer")
        named = {"name": self._name_of(peer)} if isinstance(peer, str) else {}
        return {**details, **named}

    def compare(self, troubles: Mapping[str, Trouble]) -> None:
        """What has gone wrong, or is over, since the last call."""
        if troubles == self._troubles:
            return
        before, self._troubles = self._troubles, dict(troubles)
        for code, trouble in troubles.items():
            if before.get(code) != trouble:
                details = {"code": code, "level": trouble.level}
                self.note("trouble", {**details, "message": trouble.message})
        for code in before.keys() - troubles.keys():
            self.note("trouble-over", {"code": code, "message": before[code].message})

    def since(self, number: int, count: int = MAX_EVENTS_IN_MEMORY) -> list[Event]:
        """At most so many events after the one with this number: the newest of them."""
        new = [event for event in self._events if number_of(event) > number]
        return new[-count:]

    def _write(self, line: bytes) -> None:
        path = self._directory / EVENTS
        try:
            if _append(path, line) > MAX_EVENTS_FILE_BYTES:
                path.replace(self._directory / OLDER)
            self._is_writable = True
        except OSError as error:
            if self._is_writable:
                log.warning("cannot write %s: %s", path, error.strerror or error)
            self._is_writable = False


def _append(path: Path, line: bytes) -> int:
    """Adds a line; how long the file is then. Not by Python's own files, which make
    three times as many calls of the system for it."""
    file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o666)
    try:
        while line:
            line = line[os.write(file, line) :]
        return os.fstat(file).st_size
    finally:
        os.close(file)


def read_events(directory: Path) -> list[Event]:
    """The events in the files of a home, in order; a damaged line is left out."""
    events: list[Event] = []
    newest = 0
    for name in (OLDER, EVENTS):
        for event in _read(directory / name):
            if number_of(event) > newest:
                newest = number_of(event)
                events.append(event)
    return events[-MAX_EVENTS_IN_MEMORY:]


def number_of(event: Event) -> int:
    """The event's number; 0 for what is no event."""
    number = event.get("number")
    return number if isinstance(number, int) else 0


def timestamp(unix_s: float) -> str:
    """RFC 3339, in UTC, to the millisecond."""
    at = datetime.fromtimestamp(unix_s, UTC)
    return at.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _read(path: Path) -> Iterator[Event]:
    lines: Sequence[bytes] = ()
    with contextlib.suppress(OSError):
        lines = path.read_bytes().splitlines()
    for line in lines:
        with contextlib.suppress(ValueError):
            event = json.loads(line)
            if isinstance(event, dict):
                yield event


def _line(event: Event) -> bytes:
    return json.dumps(event, default=str).encode() + b"\n"
