"""What a person at a terminal sees, and a program in a pipe: width, colour, no bars."""

from __future__ import annotations

import fcntl
import os
import pty
import struct
import subprocess
import sys
import termios
from pathlib import Path

import pytest

from tests.cli.samples import ALONE, JOINED, PEERS
from tests.cli.stub import answering

ROOT = Path(__file__).resolve().parents[2]
ESCAPE = "\x1b["
ANSWERS = {"status": JOINED, "peers": PEERS}


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "p2pfusion.cli.main", *arguments]


def environment(home: Path, **more: str) -> dict[str, str]:
    left_out = ("NO_COLOR", "COLUMNS", "LINES", "TERM")
    kept = {key: value for key, value in os.environ.items() if key not in left_out}
    return {**kept, "P2PFUSION_HOME": str(home), "TERM": "xterm", **more}


def at_terminal(home: Path, *arguments: str, columns: int = 100, **more: str) -> str:
    """What a command writes to a terminal of so many columns."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    with subprocess.Popen(
        command(*arguments),
        cwd=ROOT,
        env=environment(home, **more),
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
    ) as process:
        os.close(theirs)
        written = b""
        while True:
            try:
                data = os.read(ours, 4096)
            except OSError:  # the last of those that write to it has ended
                break
            if not data:
                break
            written += data
        process.wait()
    os.close(ours)
    return written.decode().replace("\r\n", "\n")


def in_a_pipe(home: Path, *arguments: str, **more: str) -> str:
    """What a command writes to a pipe."""
    done = subprocess.run(
        command(*arguments),
        cwd=ROOT,
        env=environment(home, **more),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )
    return done.stdout + done.stderr


@pytest.mark.parametrize("columns", [40, 60, 80, 160])
def test_tables_are_as_wide_as_the_terminal_allows(
    columns: int, tmp_path: Path
) -> None:
    with answering(tmp_path, ANSWERS):
        shown = at_terminal(tmp_path, "peers", columns=columns)
    lines = shown.splitlines()
    assert len(lines) == 3 and lines[0].startswith("NAME")
    assert max(map(len, lines)) <= columns


def test_a_wide_terminal_shows_what_a_narrow_one_leaves_out(tmp_path: Path) -> None:
    with answering(tmp_path, ANSWERS):
        wide = at_terminal(tmp_path, "peers", columns=160)
        narrow = at_terminal(tmp_path, "peers", columns=40)
    assert len(wide.split("\n")[0].split()) > len(narrow.split("\n")[0].split())


def test_colour_is_for_a_terminal_whose_owner_wants_it(tmp_path: Path) -> None:
    with answering(tmp_path, {"status": ALONE}):
        assert ESCAPE in at_terminal(tmp_path, "status")
        assert ESCAPE not in at_terminal(tmp_path, "status", NO_COLOR="1")
        assert ESCAPE not in at_terminal(tmp_path, "status", TERM="dumb")
        assert ESCAPE not in in_a_pipe(tmp_path, "status")


def test_doctor_has_no_colour_in_a_pipe(tmp_path: Path) -> None:
    with answering(tmp_path, {**ANSWERS, "ping": {"answered": 1}}):
        assert ESCAPE in at_terminal(tmp_path, "doctor")
        assert ESCAPE not in in_a_pipe(tmp_path, "doctor")


def test_watch_writes_no_escapes_into_a_pipe(tmp_path: Path) -> None:
    with (
        answering(tmp_path, ANSWERS),
        subprocess.Popen(
            command("watch", "--every", "0.1"),
            cwd=ROOT,
            env=environment(tmp_path),
            stdout=subprocess.PIPE,
            text=True,
        ) as process,
    ):
        assert process.stdout is not None
        assert ESCAPE not in process.stdout.readline()
        process.terminate()
