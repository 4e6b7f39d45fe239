"""Running a daemon, in this process or in the background, until READY or an error.

READY means that the local socket answers. A signal that comes earlier ends the start
with exit code 130 and no READY, a later one ends the daemon with 0. In the background
the child tells its parent over a pipe: one JSON line, READY or the error. So nobody
polls, and a daemon that dies while starting is noticed at once, because the pipe
closes.
"""

from __future__ import annotations

import contextlib
import gc
import json
import os
import select
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from p2pfusion.cli.output import READY_VARIABLE, Data, Failure, print_envelope
from p2pfusion.daemon.config import Profile
from p2pfusion.daemon.home import ENVIRONMENT_KEY, Home
from p2pfusion.daemon.outlets import Outlets
from p2pfusion.daemon.signals import EndingSignals
from p2pfusion.errors import P2PFusionError, WaitTimeoutError

READY_TIMEOUT_S = 60.0
"""A daemon that has not answered by then will not: it only opens some files."""

LOG_TAIL_LINES = 5
PACKAGE_PARENT = Path(__file__).resolve().parents[2]
PROGRAM = (sys.executable, "-m", "p2pfusion.cli.main")


def run_in_foreground(
    home: Home,
    profile: Profile,
    join: Sequence[str],
    *,
    outlets: Outlets,
    as_json: bool,
) -> None:
    """Runs the daemon until it is stopped; tells the parent or the terminal READY."""
    signals = EndingSignals()  # before the import, which takes a moment
    from p2pfusion.daemon.assemble import run_daemon
    from p2pfusion.daemon.logs import log_to_stderr

    gc.freeze()  # what was imported stays: collections need not look at it

    parent = waiting_parent()
    if parent is None:
        log_to_stderr(profile.peer.log_format)

    def ready(told: Mapping[str, object]) -> None:
        data = {**told, "home": str(home.root)}
        if parent is not None:
            tell_parent(parent, {"ready": data})
        elif as_json:
            print_envelope("start", data=data, failure=None)
        else:
            print(ready_line(data), flush=True)

    run_daemon(home, profile, join, ready, signals, outlets)


def start_in_background(
    home: Home, arguments: Sequence[str], path: Sequence[str] = ()
) -> Launched:
    """Runs ``p2pfusion start`` with these arguments in a session of its own.

    ``path``: directories to import from, beside those of this process.
    """
    reading, writing = os.pipe()
    with open(home.log, "ab") as log:
        process = subprocess.Popen(
            [*PROGRAM, "start", *arguments],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
            pass_fds=(writing,),
            env={
                **python_environment(path),
                ENVIRONMENT_KEY: str(home.root.absolute()),
                READY_VARIABLE: str(writing),
            },
        )
    os.close(writing)
    return Launched(home, process, reading)


@dataclass
class Launched:
    """A daemon in the background, which has yet to say READY."""

    home: Home
    process: subprocess.Popen[bytes]
    pipe: int

    def ready(self) -> Data:
        """What READY says; raises the error that the daemon ended with instead."""
        with open(self.pipe, encoding="utf-8") as pipe:
            if not select.select([pipe], [], [], READY_TIMEOUT_S)[0]:
                raise WaitTimeoutError(
                    f"the daemon (pid {self.process.pid}) runs and did not answer "
                    f"within {READY_TIMEOUT_S:.0f} s",
                    hint=f"look into {self.home.log}",
                )
            line = pipe.readline()
        told = json.loads(line) if line.endswith("\n") else {}
        if "ready" in told:
            return dict(told["ready"])
        self.process.wait()
        if "error" in told:
            raise ReportedError(Failure(**told["error"]))
        raise P2PFusionError(
            f"the daemon ended while it started: {last_line(self.home.log)}",
            hint=f"the whole story is in {self.home.log}",
        )

    def end(self) -> None:
        """Ends it, whether it is ready by now or not, and waits until it is gone."""
        # SIGINT would be an exception, which an interpreter that starts may swallow.
        self.process.terminate()
        self.process.wait()


class ReportedError(P2PFusionError):
    """An error that a process started by this one has reported."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.message, hint=failure.hint)
        self.name, self.exit_code = failure.name, failure.code


def python_environment(path: Sequence[str] = ()) -> dict[str, str]:
    """This process's environment, with the way to a package that is not installed, and
    to these directories."""
    paths = [str(PACKAGE_PARENT), os.environ.get("PYTHONPATH", ""), *path]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in paths if path)}


def last_lines(path: Path, count: int = LOG_TAIL_LINES) -> list[str]:
    """The end of a log; nothing if there is no log."""
    try:
        with open(path, "rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - 4096))
            return file.read().decode(errors="replace").splitlines()[-count:]
    except OSError:
        return []


def last_line(path: Path) -> str:
    """The last line of a log, or words that say there is none."""
    return next(iter(last_lines(path, 1)), "its log is empty")


def ready_line(data: Data) -> str:
    """What a daemon that can be asked says of itself."""
    served = "".join(
        f"  {key} {data[key]}" for key in ("metrics", "web") if data.get(key)
    )
    return (
        f"READY  pid {data['pid']}  peer {data['id']}  "
        f"address {data['address'] or 'unknown'}{served}"
    )


def waiting_parent() -> int | None:
    """The pipe to a process that waits for READY or an error; None without one."""
    number = os.environ.get(READY_VARIABLE)
    return None if number is None else int(number)


def tell_parent(pipe: int, message: Data) -> None:
    """Writes one line, once; a parent that has gone does not matter."""
    del os.environ[READY_VARIABLE]
    with contextlib.suppress(BrokenPipeError), open(pipe, "w") as file:
        file.write(json.dumps(message) + "\n")
