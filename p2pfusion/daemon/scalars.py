"""Every sealed round in numbers, for TensorBoard: one event file per run of the daemon.

Written as the round is sealed, by the daemon itself, which has the numbers; a file that
cannot be written stops no round. The only file that imports tensorboard, an extra, and
itself imported only if somebody wants it: tensorboard's own writer needs neither torch
nor TensorFlow.
"""

from __future__ import annotations

import logging
import os
import socket
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

from p2pfusion.errors import ConfigError

try:
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.compat.proto.summary_pb2 import Summary
    from tensorboard.summary.writer.record_writer import RecordWriter
except ImportError:
    raise ConfigError(
        "--tensorboard needs tensorboard, which is not installed",
        hint="install it with: pip install 'p2pfusion[tensorboard]'",
    ) from None

Row = Mapping[str, object]

VERSION = "brain.Event:2"
"""What the first record of an event file says."""

TAGS = {
    "loss": "loss",
    "accuracy": "accuracy",
    "round/seconds": "seconds",
    "round/training_seconds": "training_s",
    "round/stale_ranges": "stale_ranges",
    "traffic/sent_bytes": "sent_bytes",
    "traffic/received_bytes": "received_bytes",
}
"""The names in TensorBoard, and the numbers of ``p2pfusion rounds``."""

CONTRIBUTORS = "round/contributors"

log = logging.getLogger("p2pfusion")


class ScalarFile:
    """An event file in a directory; ``ConfigError`` if there can be none."""

    def __init__(self, directory: Path) -> None:
        name = f"events.out.tfevents.{time.time():.0f}.{socket.gethostname()}"
        self._path = directory / f"{name}.{os.getpid()}.p2pfusion"
        try:
            directory.mkdir(parents=True, exist_ok=True)
            self._file = self._path.open("xb")
        except OSError as error:
            raise ConfigError(
                f"--tensorboard: cannot write to {directory}: {error.strerror}",
                hint="name a directory of your own",
            ) from None
        self._records = RecordWriter(self._file)
        self._is_writable = True
        self._write(Event(wall_time=time.time(), file_version=VERSION))

    def note(self, row: Row) -> None:
        """Writes what is known of a round; what is known later is a row of its own."""
        values = [Summary.Value(tag=t, simple_value=v) for t, v in scalars(row)]
        step = int(str(row["number"]))
        event = Event(wall_time=time.time(), step=step, summary=Summary(value=values))
        self._write(event)

    def close(self) -> None:
        """Nothing more is written."""
        self._file.close()

    def _write(self, event: Event) -> None:
        try:
            self._records.write(event.SerializeToString())
            self._records.flush()
            self._is_writable = True
        except OSError as error:
            if self._is_writable:
                log.warning("cannot write %s: %s", self._path, error.strerror)
            self._is_writable = False


def scalars(row: Row) -> Iterator[tuple[str, float]]:
    """Names and values; what is unknown is left out."""
    for tag, key in TAGS.items():
        value = row.get(key)
        if isinstance(value, int | float):
            yield tag, float(value)
    contributors = row.get("contributors")
    if isinstance(contributors, list):
        yield CONTRIBUTORS, float(len(contributors))
