"""What every command has in common: the JSON envelope, errors and exit codes.

A command gives its data once and says how it reads as text. With ``--json`` the data
goes out in the envelope of the interface, errors too; otherwise an error is one line on
standard error that says what happened and what to do. Nothing slow is imported here.
"""

from __future__ import annotations

import errno
import json
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

import click

from p2pfusion.daemon.home import Home, find_home
from p2pfusion.errors import P2PFusionError

Data = dict[str, object]

READY_VARIABLE = "P2PFUSION_READY_FD"
"""Names the pipe on which a daemon in the background reports READY or its error."""

USAGE_EXIT, INTERRUPT_EXIT, RESOURCES_EXIT = 2, 130, 12
_RESOURCE_ERRORS = {
    errno.ENOSPC,
    errno.ENOMEM,
    errno.EMFILE,
    errno.ENFILE,
    errno.EDQUOT,
}


@dataclass
class Settings:
    """What ``--home`` and ``--json`` said, before the command or after it."""

    home: str | None = None
    as_json: bool = False

    @property
    def chosen_home(self) -> Home:
        """The home directory of this call."""
        return find_home(self.home)


@dataclass(frozen=True)
class Failure:
    """An error as the user sees it."""

    code: int
    name: str
    message: str
    hint: str = ""

    @classmethod
    def of(cls, error: BaseException) -> Failure | None:
        """What to tell the user; None for an error that is a bug of ours."""
        if isinstance(error, P2PFusionError):
            return cls(error.exit_code, error.name, error.message, error.hint)
        if isinstance(error, click.ClickException):
            return _usage(error)
        if isinstance(error, (click.Abort, KeyboardInterrupt)):
            return cls(INTERRUPT_EXIT, "interrupted", "interrupted")
        if isinstance(error, OSError):
            code = RESOURCES_EXIT if error.errno in _RESOURCE_ERRORS else 1
            place = f"{error.filename}: " if error.filename else ""
            return cls(code, "system", f"{place}{error.strerror or error}")
        return None

    @property
    def line(self) -> str:
        """What happened, and what to do, on one line."""
        told = f"{self.message}; {self.hint}" if self.hint else self.message
        return "p2pfusion: " + " ".join(told.split())

    def to_data(self) -> Data:
        """For the envelope."""
        return {
            "code": self.code,
            "name": self.name,
            "message": self.message,
            "hint": self.hint,
        }


def _usage(error: click.ClickException) -> Failure:
    context = getattr(error, "ctx", None)
    path = context.command_path if context is not None else "p2pfusion"
    message = " ".join(error.format_message().split()).rstrip(".")
    return Failure(USAGE_EXIT, "usage", message, f"see `{path} --help`")


def settings() -> Settings:
    """The settings of the command that runs."""
    return click.get_current_context().find_root().ensure_object(Settings)


def command_name(context: click.Context) -> str:
    """The command as schemas name it: ``round-show``."""
    return "-".join(context.command_path.split()[1:]) or "p2pfusion"


def show(data: object, text: Callable[[], str], failure: Failure | None = None) -> None:
    """Prints a command's result: the envelope with ``--json``, else the text."""
    if settings().as_json:
        name = command_name(click.get_current_context())
        print_envelope(name, data=data, failure=failure)
        return
    written = text()
    if written:
        print(written, flush=True)


def note(text: str) -> None:
    """A line for the person at the terminal that is not the result."""
    print(text, file=sys.stderr, flush=True)


def print_envelope(command: str, *, data: object, failure: Failure | None) -> None:
    """One JSON document on standard output."""
    document = {
        "schema": f"p2pfusion.{command}/v1",
        "ok": failure is None,
        "error": None if failure is None else failure.to_data(),
        "generated_at": timestamp(),
        "data": data,
    }
    print(json.dumps(document, indent=2, ensure_ascii=False), flush=True)


def timestamp() -> str:
    """Now, in RFC 3339, UTC."""
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def report(failure: Failure, *, as_json: bool, command: str) -> int:
    """Tells the user about an error; gives the exit code."""
    try:
        if as_json:
            print_envelope(command, data=None, failure=failure)
        else:
            print(failure.line, file=sys.stderr, flush=True)
    except BrokenPipeError:
        discard_output()
    return failure.code


def discard_output() -> None:
    """After the reader of our output went away: nothing more is written to it."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)
