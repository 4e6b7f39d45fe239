"""How the last daemon of a home ended, by the end of its events.

Standard library only: commands that find no daemon say it.
"""

from __future__ import annotations

import contextlib
import json
from pathlib import Path

EVENTS = "events.jsonl"
"""Name of the file of events in a home."""

STOPPED = "daemon-stopped"
TOLD_TO = "it was told to"
"""Why a daemon stops that somebody has stopped."""

TAIL_BYTES = 128 * 1024
"""More than the longest event."""


def last_words(home: Path) -> str:
    """``the last one ended: ...``, where that was nobody's wish; else nothing."""
    try:
        with open(home / EVENTS, "rb") as file:
            size = file.seek(0, 2)
            file.seek(max(0, size - TAIL_BYTES))
            lines = file.read().splitlines()
    except OSError:
        return ""
    event: object = None
    with contextlib.suppress(ValueError, IndexError):
        event = json.loads(lines[-1])
    if not isinstance(event, dict):
        return ""
    if event.get("kind") != STOPPED:
        return "the last one ended without a word: a crash, or a power failure"
    details = event.get("details")
    why = details.get("why") if isinstance(details, dict) else None
    return "" if why in (None, TOLD_TO) else f"the last one ended: {why}"
