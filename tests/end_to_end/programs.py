"""Running ``p2pfusion`` as users do: as a process, with a home of its own."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import psutil

from tests.documents import check_document

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = [sys.executable, str(ROOT / "cli.py")]
PATIENCE_S = 300.0
MARK = "P2PFUSION_TEST_MARK"
"""Variable that every process of one test inherits, however deep."""


@dataclass(frozen=True)
class Done:
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def data(self) -> dict[str, object]:
        """The data of its envelope."""
        found = json.loads(self.out)["data"]
        assert isinstance(found, dict), self
        return found


class Program:
    """The commands of one home."""

    def __init__(self, home: Path, mark: str = "") -> None:
        self.home = home
        self.environment = {**os.environ, "P2PFUSION_HOME": str(home), MARK: mark}

    def run(self, *arguments: str) -> Done:
        """Runs a command to its end.

        What it prints with --json must fit its schema, and into a pipe nothing goes
        that is for a terminal.
        """
        done = subprocess.run(
            [*PROGRAM, *arguments],
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
        )
        if "--json" in arguments and done.stdout:
            check_document(done.stdout)
        if "--qr" not in arguments:
            assert "\x1b" not in done.stdout + done.stderr, done
        return Done(done.returncode, done.stdout, done.stderr)

    def open(self, *arguments: str) -> subprocess.Popen[str]:
        """Starts a command and lets it run."""
        return subprocess.Popen(
            [*PROGRAM, *arguments],
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )


def marked(mark: str) -> list[psutil.Process]:
    """Living processes that inherited the mark."""
    found = []
    for process in psutil.process_iter():
        try:
            alive = process.status() != psutil.STATUS_ZOMBIE
            if alive and process.environ().get(MARK) == mark:
                found.append(process)
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
    return found


def end_marked(mark: str) -> None:
    """Ends what a failed test has left."""
    for process in marked(mark):
        process.send_signal(signal.SIGKILL)


def profile(path: Path, sections: Mapping[str, str]) -> Path:
    """Writes a profile."""
    text = "\n".join(f"[{name}]\n{keys}" for name, keys in sections.items())
    path.write_text(text)
    return path


def answered_at_a_terminal(program: Program, answer: str, *arguments: str) -> Done:
    """Runs a command that asks somebody at a terminal, who answers."""
    ours, theirs = pty.openpty()
    try:
        os.write(ours, answer.encode() + b"\n")
        done = subprocess.run(
            [*PROGRAM, *arguments],
            env=program.environment,
            stdin=theirs,
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
        )
    finally:
        os.close(ours)
        os.close(theirs)
    return Done(done.returncode, done.stdout, done.stderr)
