"""The only place where the daemon meets the trainer: a process and a line of JSON.

The trainer is a child in a process group of its own, with one end of a socket pair. The
socket is also its life line: when the daemon dies, however it dies, the trainer reads
the end of file and leaves. A trainer that dies, floods or babbles is reported once as
``{"died": why, "log": last lines}``; the daemon then makes a new link.
"""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from p2pfusion.errors import LocalProtocolError, TrainerError
from p2pfusion.limits import (
    MAX_TRAINER_LINE_BYTES,
    MAX_TRAINER_LOG_BYTES,
    TRAINER_LOG_TAIL_LINES,
    TRAINER_REAP_S,
    TRAINER_TERMINATE_S,
)

READ_BYTES = 256 * 1024

TAIL_BYTES = 16 * 1024
"""How far back in the log the last lines are looked for."""

QUIET = {"TORCH_CPP_LOG_LEVEL": "ERROR"}
"""Torch's libraries warn, once a round, of traversals that training wants."""

PACKAGE_PARENT = Path(__file__).resolve().parents[2]
"""Where the trainer finds the package when a checkout runs without installing."""


class TrainerLink:
    """A running trainer. ``TrainerError`` if it cannot be started."""

    def __init__(
        self,
        log_path: Path,
        *,
        environment: Mapping[str, str] | None = None,
        command: Sequence[str] | None = None,
    ) -> None:
        """``environment`` is added to this process's own. ``command`` gets the number
        of its end of the socket as last argument."""
        self._log_path = log_path
        self._incoming = bytearray()
        self._searched_bytes = 0
        self._outgoing = bytearray()
        self._channel, theirs = socket.socketpair()
        self._channel.setblocking(False)
        _set_aside(log_path)
        with theirs, open(log_path, "ab") as log:
            self._log_start = log.tell()
            try:
                self._process = subprocess.Popen(
                    [*(command or _worker_command()), str(theirs.fileno())],
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    pass_fds=(theirs.fileno(),),
                    env=_environment(environment or {}),
                    process_group=0,
                )
            except OSError as error:
                self._channel.close()
                raise TrainerError(
                    f"the trainer process cannot be started: {error}",
                    hint="check that this machine has memory and processes left",
                ) from error

    @property
    def pid(self) -> int:
        """Process id of the trainer."""
        return self._process.pid

    @property
    def descriptor(self) -> int:
        """The socket's descriptor, or -1 after the trainer has gone."""
        return self._channel.fileno()

    def descriptors(self) -> dict[int, int]:
        """What to wait for: descriptor to ``selectors.EVENT_...``; none once gone."""
        if self.descriptor < 0:
            return {}
        writing = selectors.EVENT_WRITE if self._outgoing else 0
        return {self.descriptor: selectors.EVENT_READ | writing}

    def send(self, message: Mapping[str, object]) -> None:
        """Queues a message. To a trainer that has gone it goes nowhere; ``ready``
        says so."""
        line = json.dumps(message, allow_nan=False).encode() + b"\n"
        if len(line) + len(self._outgoing) > MAX_TRAINER_LINE_BYTES:
            raise LocalProtocolError("too much is waiting for the trainer")
        if self.descriptor >= 0:
            self._outgoing += line
            self._flush()

    def ready(self) -> list[dict[str, object]]:
        """What the trainer said since the last call, and at last how it ended."""
        if self.descriptor < 0:
            return []
        self._flush()
        ended = self._read()
        messages: list[dict[str, object]] = []
        try:
            messages.extend(self._objects())
        except TrainerError as error:
            self._signal(signal.SIGKILL)
            return [*messages, self._died(error.message)]
        return [*messages, self._died("")] if ended else messages

    def stop(self, timeout_s: float) -> None:
        """Hangs up and waits; after ``timeout_s``, and a second more, by force."""
        self._channel.close()
        for waited_s, ending in (
            (timeout_s, signal.SIGTERM),
            (TRAINER_TERMINATE_S, signal.SIGKILL),
        ):
            try:
                self._process.wait(waited_s)
                return
            except subprocess.TimeoutExpired:
                self._signal(ending)
        self._process.wait()

    def _flush(self) -> None:
        with contextlib.suppress(BlockingIOError):
            try:
                while self._outgoing:
                    del self._outgoing[: self._channel.send(self._outgoing)]
            except (BrokenPipeError, ConnectionResetError):
                # Its last words may still wait to be read.
                self._outgoing.clear()

    def _read(self) -> bool:
        """Takes what is there; whether that was the end.

        Stops after one line's bound, so that the buffer is bounded too.
        """
        while len(self._incoming) <= MAX_TRAINER_LINE_BYTES:
            try:
                data = self._channel.recv(READ_BYTES)
            except BlockingIOError:
                return False
            except ConnectionResetError:
                return True
            if not data:
                return True
            self._incoming += data
        return False

    def _objects(self) -> list[dict[str, object]]:
        *lines, rest = self._split()
        if len(rest) > MAX_TRAINER_LINE_BYTES:
            raise TrainerError("it sent a line without end")
        self._incoming = rest
        self._searched_bytes = len(rest)
        return [_object(line) for line in lines]

    def _split(self) -> list[bytearray]:
        # Only new bytes are searched: a long line arrives in many pieces.
        if self._incoming.find(b"\n", self._searched_bytes) < 0:
            return [self._incoming]
        return self._incoming.split(b"\n")

    def _died(self, reason: str) -> dict[str, object]:
        self._channel.close()
        try:
            code = self._process.wait(TRAINER_REAP_S)
        except subprocess.TimeoutExpired:
            # It hung up and stays, where nobody can ask it anything any more.
            self._signal(signal.SIGKILL)
            self._process.wait()
            return {"died": reason or "it hung up", "log": self._last_lines()}
        return {"died": reason or _exit_text(code), "log": self._last_lines()}

    def _signal(self, ending: signal.Signals) -> None:
        """To the whole group: data loaders are children of the trainer."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, ending)

    def _last_lines(self) -> list[str]:
        with open(self._log_path, "rb") as log:
            size_bytes = log.seek(0, os.SEEK_END)
            log.seek(max(self._log_start, size_bytes - TAIL_BYTES))
            lines = log.read().decode(errors="replace").splitlines()
        return lines[-TRAINER_LOG_TAIL_LINES:]


def _worker_command() -> list[str]:
    # -P keeps the current directory, which is anybody's, off the import path.
    return [sys.executable, "-P", "-m", "p2pfusion.training"]


def _environment(added: Mapping[str, str]) -> dict[str, str]:
    environment = {**QUIET, **os.environ}
    paths = [str(PACKAGE_PARENT), environment.get("PYTHONPATH", "")]
    environment["PYTHONPATH"] = os.pathsep.join(path for path in paths if path)
    return environment | dict(added)


def _set_aside(log_path: Path) -> None:
    if log_path.exists() and log_path.stat().st_size > MAX_TRAINER_LOG_BYTES:
        log_path.replace(log_path.with_name(log_path.name + ".1"))


def _object(line: bytes | bytearray) -> dict[str, object]:
    try:
        message = json.loads(line)
    except (ValueError, RecursionError):
        message = None
    if not isinstance(message, dict):
        raise TrainerError("it sent a line that is not a JSON object")
    return message


def _exit_text(code: int) -> str:
    if code >= 0:
        return f"exit code {code}"
    try:
        return f"killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"killed by signal {-code}"
