"""The daemon's local socket: accepts clients, yields requests, carries the answers.

A request is one JSON line ``{"command", "arguments"}``; the answer is any number of
``{"event": ...}`` lines and one ``{"ok", "error", "data"}`` line. A client asks one
thing at a time, and may ask again on the same connection. Nothing blocks: the daemon's
loop waits on ``descriptors`` and calls ``ready``. One daemon per home: it holds a lock
on ``daemon.lock``, which the kernel lets go when the daemon dies.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import math
import os
import selectors
import socket
from collections.abc import Mapping
from pathlib import Path

from p2pfusion.daemon.client import READ_BYTES, check_socket_path
from p2pfusion.errors import (
    ConfigError,
    ConflictError,
    LocalProtocolError,
    P2PFusionError,
    RemoteProtocolError,
    ResourceError,
)
from p2pfusion.limits import (
    MAX_LOCAL_CLIENTS,
    MAX_LOCAL_REPLY_BYTES,
    MAX_LOCAL_REQUEST_BYTES,
)

LOCK_FILE = "daemon.lock"
"""Name of the lock file in a home; its content is the daemon's process id."""


class Request:
    """A local client's question. Answer it once, now or later."""

    def __init__(
        self, client: _Client, command: str, arguments: Mapping[str, object]
    ) -> None:
        self.command = command
        self.arguments = arguments
        self._client = client
        self._answered = False

    @property
    def closed(self) -> bool:
        """Whether the client has gone, so that nobody waits for the answer."""
        return self._client.closed

    def progress(self, event: Mapping[str, object]) -> None:
        """Tells the client something before the answer."""
        self._check_open()
        self._client.write({"event": event})

    def reply(self, data: object) -> None:
        """Answers; ``data`` is what JSON can say, and NaN becomes null."""
        self._finish({"ok": True, "error": None, "data": data})

    def fail(self, error: P2PFusionError) -> None:
        """Answers with an error, which the client raises as the same class."""
        self._finish(_failure(error))

    def _finish(self, answer: Mapping[str, object]) -> None:
        self._check_open()
        self._answered = True
        self._client.open_request = None
        self._client.write(answer)

    def _check_open(self) -> None:
        if self._answered:
            raise LocalProtocolError(f"{self.command!r} has been answered already")


class ControlServer:
    """The listening socket and its clients. ``ConflictError`` if a daemon runs here."""

    def __init__(self, path: Path) -> None:
        """``path`` is the socket's; its directory is the home, made private here."""
        check_socket_path(path)
        self._path = path
        self._clients: dict[int, _Client] = {}
        self._lock = HomeLock(path.parent)
        try:
            self._listener = _listen(path)
        except BaseException:
            self._lock.release()
            raise

    def descriptors(self) -> dict[int, int]:
        """What to wait for: descriptor to ``selectors.EVENT_...``."""
        self._forget_closed()
        waiting = {number: client.interest for number, client in self._clients.items()}
        return {self._listener.fileno(): selectors.EVENT_READ} | waiting

    def ready(self, descriptor: int) -> list[Request]:
        """Serves one descriptor that is ready; the requests that are now complete."""
        if descriptor == self._listener.fileno():
            self._accept()
            return []
        client = self._clients.get(descriptor)
        return [] if client is None else client.serve()

    def close(self) -> None:
        """Hangs up on everyone and frees the home for another daemon."""
        for client in self._clients.values():
            client.close()
        self._clients.clear()
        self._listener.close()
        self._path.unlink(missing_ok=True)
        self._lock.release()

    def _accept(self) -> None:
        self._forget_closed()
        with contextlib.suppress(OSError):
            channel, _ = self._listener.accept()
            client = _Client(channel)
            if len(self._clients) < MAX_LOCAL_CLIENTS or self._hang_up_on_idle():
                self._clients[channel.fileno()] = client
                return
            client.refuse(
                ResourceError(
                    f"the daemon serves {MAX_LOCAL_CLIENTS} local clients already",
                    hint="end some of the commands that follow it",
                )
            )

    def _hang_up_on_idle(self) -> bool:
        """The oldest client that waits for no answer gives way, if there is one."""
        for number, client in self._clients.items():
            if client.is_idle:
                client.close()
                del self._clients[number]
                return True
        return False

    def _forget_closed(self) -> None:
        open_clients = (item for item in self._clients.items() if not item[1].closed)
        self._clients = dict(open_clients)


class _Client:
    """One connection: a line being read, lines being written, at most one request."""

    def __init__(self, channel: socket.socket) -> None:
        channel.setblocking(False)
        self._channel = channel
        self._incoming = bytearray()
        self._outgoing = bytearray()
        self.open_request: Request | None = None
        self.closed = False

    @property
    def interest(self) -> int:
        """Reading always, to notice a client that leaves."""
        writing = selectors.EVENT_WRITE if self._outgoing else 0
        return selectors.EVENT_READ | writing

    @property
    def is_idle(self) -> bool:
        """Whether it waits for no answer, nor for the rest of one."""
        return self.open_request is None and not self._outgoing

    def serve(self) -> list[Request]:
        """Writes what can be written and reads what is there."""
        try:
            self._flush()
            return self._read()
        except OSError:
            self.close()
        except RemoteProtocolError as error:
            self.refuse(error)
        return []

    def write(self, message: Mapping[str, object]) -> None:
        """Queues a line and sends what leaves at once."""
        if self.closed:
            return
        self._outgoing += _line(message)
        try:
            self._flush()
        except OSError:
            self.close()
        if len(self._outgoing) > MAX_LOCAL_REPLY_BYTES:
            self.close()

    def refuse(self, error: P2PFusionError) -> None:
        """Says why, as far as that leaves at once, and hangs up."""
        self.write(_failure(error))
        self.close()

    def close(self) -> None:
        """Hangs up."""
        self.closed = True
        self._channel.close()

    def _flush(self) -> None:
        with contextlib.suppress(BlockingIOError):
            while self._outgoing:
                del self._outgoing[: self._channel.send(self._outgoing)]

    def _read(self) -> list[Request]:
        # One read per call, so that one client cannot keep the loop to itself.
        try:
            data = self._channel.recv(READ_BYTES)
        except BlockingIOError:
            return []
        if not data:
            self.close()
            return []
        start = len(self._incoming)
        self._incoming += data
        end = self._incoming.find(b"\n", start)
        size_bytes = len(self._incoming) if end < 0 else end
        if size_bytes > MAX_LOCAL_REQUEST_BYTES:
            raise RemoteProtocolError(
                f"a request of over {MAX_LOCAL_REQUEST_BYTES} bytes"
            )
        return [] if end < 0 else [self._take(end)]

    def _take(self, end: int) -> Request:
        line = bytes(self._incoming[:end])
        del self._incoming[: end + 1]
        if self.open_request is not None or self._incoming:
            raise RemoteProtocolError(
                "a second request before the first was answered",
                hint="wait for the answer, or open another connection",
            )
        self.open_request = Request(self, *_parse(line))
        return self.open_request


class HomeLock:
    """Held by the one daemon of a home, and let go by the kernel when it dies."""

    def __init__(self, home: Path) -> None:
        self._path = home / LOCK_FILE
        _make_private(home)
        self._file = self._acquire()
        os.ftruncate(self._file, 0)
        os.pwrite(self._file, f"{os.getpid()}\n".encode(), 0)

    def release(self) -> None:
        """Removes the file, then lets go: in this order no other can hold it."""
        self._path.unlink(missing_ok=True)
        os.close(self._file)

    def _acquire(self) -> int:
        while True:
            file = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o600)
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                holder = os.pread(file, 32, 0).decode("ascii", "replace").strip()
                os.close(file)
                raise ConflictError(
                    f"a daemon already runs in this home (pid {holder or 'unknown'})",
                    hint="stop it with: p2pfusion stop; or choose another --home",
                ) from None
            if self._is_current(file):
                return file
            # The holder removed the file between our opening and locking it.
            os.close(file)

    def _is_current(self, file: int) -> bool:
        try:
            there = os.stat(self._path)
        except FileNotFoundError:
            return False
        return os.path.samestat(there, os.fstat(file))


def _make_private(home: Path) -> None:
    try:
        home.mkdir(mode=0o700, parents=True, exist_ok=True)
        home.chmod(0o700)
    except OSError as error:
        raise ConfigError(
            f"cannot use {home} as home: {error.strerror}",
            hint="choose a directory of your own with --home or P2PFUSION_HOME",
        ) from error


def _listen(path: Path) -> socket.socket:
    """Replaces the socket of a dead daemon; the lock says that it is dead."""
    path.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        listener.bind(str(path))
        path.chmod(0o600)
        listener.listen(MAX_LOCAL_CLIENTS)
        listener.setblocking(False)
    except BaseException:
        listener.close()
        raise
    return listener


def _parse(line: bytes) -> tuple[str, Mapping[str, object]]:
    try:
        message = json.loads(line)
    except (ValueError, RecursionError):
        raise RemoteProtocolError("a request that is not JSON") from None
    if not isinstance(message, dict):
        raise RemoteProtocolError("a request that is not an object")
    command, arguments = message.get("command"), message.get("arguments", {})
    if not isinstance(command, str) or not isinstance(arguments, dict):
        raise RemoteProtocolError("a request without a command or with odd arguments")
    return command, arguments


def _failure(error: P2PFusionError) -> dict[str, object]:
    report = {
        "code": error.exit_code,
        "name": error.name,
        "message": error.message,
        "hint": error.hint,
    }
    return {"ok": False, "error": report, "data": None}


def _line(message: Mapping[str, object]) -> bytes:
    try:
        text = json.dumps(message, allow_nan=False)
    except ValueError:
        text = json.dumps(_without_nan(message), allow_nan=False)
    return text.encode() + b"\n"


def _without_nan(value: object) -> object:
    """A diverged loss is unknown to JSON, which can only say null."""
    if isinstance(value, Mapping):
        return {key: _without_nan(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nan(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
