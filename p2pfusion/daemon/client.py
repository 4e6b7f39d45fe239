"""Asks the daemon of a home over its local socket: one JSON line there, lines back.

Standard library only, and little of it: the command line must answer in a quarter of a
second. The last line of an answer is ``{"ok", "error", "data"}``; lines before it are
``{"event": ...}``. An error that the daemon reports is raised here as its own class.
"""

from __future__ import annotations

import json
import os
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from p2pfusion.errors import (
    ConfigError,
    IncompatibleError,
    NotRunningError,
    WaitTimeoutError,
    reported,
)
from p2pfusion.limits import MAX_LOCAL_REPLY_BYTES, MAX_SOCKET_PATH_BYTES

CONTROL_SOCKET = "control.sock"
"""Name of the socket in a home."""

READ_BYTES = 64 * 1024

EventHandler = Callable[[Mapping[str, object]], None]


def socket_path(home: Path) -> Path:
    """The control socket of a home; ``ConfigError`` if no socket can have that path."""
    path = home / CONTROL_SOCKET
    check_socket_path(path)
    return path


def check_socket_path(path: Path) -> None:
    """``ConfigError`` if the kernel would not take the path."""
    if len(os.fsencode(path)) > MAX_SOCKET_PATH_BYTES:
        raise ConfigError(
            f"the path {path} is too long for a socket"
            f" (over {MAX_SOCKET_PATH_BYTES} bytes)",
            hint="choose a shorter directory with --home or P2PFUSION_HOME",
        )


class LocalClient:
    """Calls commands of the daemon that runs in ``home``."""

    def __init__(self, home: Path | str) -> None:
        self.home = Path(home)

    def call(
        self,
        command: str,
        /,
        *,
        timeout_s: float | None = None,
        on_event: EventHandler | None = None,
        **arguments: object,
    ) -> object:
        """The ``data`` of the daemon's answer.

        ``on_event`` sees what comes before it. Raises what the daemon reports,
        ``NotRunningError`` if none listens, ``WaitTimeoutError`` after ``timeout_s``.
        """
        request = {"command": command, "arguments": arguments}
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        try:
            with self._connect(deadline) as channel:
                channel.sendall(json.dumps(request).encode() + b"\n")
                for message in _messages(channel, deadline):
                    if "event" not in message:
                        return _outcome(message)
                    event = message["event"]
                    if on_event is not None and isinstance(event, dict):
                        on_event(event)
        except TimeoutError:
            raise WaitTimeoutError(
                f"the daemon did not answer {command!r} within {timeout_s:g} s",
                hint="try again with a longer timeout, or read the daemon's log",
            ) from None
        except (BrokenPipeError, ConnectionResetError):
            pass
        raise NotRunningError(
            f"the daemon in {self.home} stopped before it answered {command!r}",
            hint="read its log, and start it again with: p2pfusion start",
        )

    def _connect(self, deadline: float | None) -> socket.socket:
        path = socket_path(self.home)
        channel = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            channel.settimeout(_remaining_s(deadline))
            channel.connect(str(path))
        except (FileNotFoundError, ConnectionRefusedError, NotADirectoryError):
            channel.close()
            raise _nobody(self.home) from None
        except PermissionError as error:
            channel.close()
            raise ConfigError(
                f"{path} belongs to another user",
                hint="run the command as the user who started the daemon",
            ) from error
        except BaseException:
            channel.close()
            raise
        return channel


def _nobody(home: Path) -> NotRunningError:
    from p2pfusion.daemon.last_words import last_words  # seldom of use

    text, why = f"no daemon runs in {home}", last_words(home)
    hint = "start one with: p2pfusion start"
    return NotRunningError(f"{text}; {why}" if why else text, hint=hint)


def _remaining_s(deadline: float | None) -> float | None:
    if deadline is None:
        return None
    remaining_s = deadline - time.monotonic()
    if remaining_s <= 0:
        raise TimeoutError
    return remaining_s


def _messages(
    channel: socket.socket, deadline: float | None
) -> Iterator[Mapping[str, object]]:
    """The objects on the lines that come, until the other side hangs up."""
    buffer = bytearray()
    searched_bytes = 0
    while True:
        end = buffer.find(b"\n", searched_bytes)
        if end >= 0:
            line = bytes(buffer[:end])
            del buffer[: end + 1]
            searched_bytes = 0
            yield _object(line)
            continue
        if len(buffer) > MAX_LOCAL_REPLY_BYTES:
            raise _not_ours()
        searched_bytes = len(buffer)
        channel.settimeout(_remaining_s(deadline))
        data = channel.recv(READ_BYTES)
        if not data:
            return
        buffer += data


def _object(line: bytes) -> Mapping[str, object]:
    try:
        message = json.loads(line)
    except ValueError:
        raise _not_ours() from None
    if not isinstance(message, dict):
        raise _not_ours()
    return message


def _outcome(message: Mapping[str, object]) -> object:
    if message.get("ok") is True:
        return message.get("data")
    error = message.get("error")
    if not isinstance(error, dict):
        raise _not_ours()
    raise reported(error)


def _not_ours() -> IncompatibleError:
    return IncompatibleError(
        "what answers on the local socket does not speak this program's language",
        hint="stop the daemon and start it again with this version",
    )
