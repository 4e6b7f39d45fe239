"""The daemon's log, as lines for people or as lines of JSON for collectors.

The profile's ``log_format`` decides for the file and for standard error alike. A line
of JSON has ``at``, ``level`` and ``message``; what the chronicle writes also has
``event``, with number, kind and details, so that nobody has to read them out of words.
"""

from __future__ import annotations

import json
import logging
import sys
from datetime import UTC, datetime
from logging.handlers import RotatingFileHandler
from pathlib import Path

from p2pfusion.limits import KEPT_LOGS, MAX_LOG_BYTES

LOG_FORMATS = ("text", "json")
FOR_PEOPLE = "%(asctime)s %(levelname)s %(message)s"

log = logging.getLogger("p2pfusion")


class LogFile(RotatingFileHandler):
    """A log that a full disk does not disturb: what cannot be written is lost."""

    def handleError(self, record: logging.LogRecord) -> None:
        """Lets a bug be heard, and a disk that is full be full."""
        if not isinstance(sys.exc_info()[1], OSError):
            super().handleError(record)


class JsonLines(logging.Formatter):
    """One JSON object per line."""

    def format(self, record: logging.LogRecord) -> str:
        """The line, without its end."""
        at = datetime.fromtimestamp(record.created, UTC).isoformat("T", "milliseconds")
        told: dict[str, object] = {
            "at": at.replace("+00:00", "Z"),
            "level": record.levelname.lower(),
            "message": record.getMessage(),
        }
        event = getattr(record, "event", None)
        if event is not None:
            told["event"] = event
        if record.exc_info:
            told["traceback"] = self.formatException(record.exc_info)
        return json.dumps(told, default=str)


def log_to_file(path: Path, log_format: str) -> None:
    """From now on everything of level INFO and above goes into this file."""
    handler = LogFile(path, maxBytes=MAX_LOG_BYTES, backupCount=KEPT_LOGS)
    handler.setFormatter(_formatter(log_format, FOR_PEOPLE))
    log.addHandler(handler)
    log.setLevel(logging.INFO)


def log_to_stderr(log_format: str) -> None:
    """The same on standard error, where a terminal or a service manager reads it.

    Without the time in text: both of them add their own.
    """
    handler = logging.StreamHandler()
    handler.setFormatter(_formatter(log_format, "%(message)s"))
    log.addHandler(handler)


def _formatter(log_format: str, text: str) -> logging.Formatter:
    return JsonLines() if log_format == "json" else logging.Formatter(text)
