"""Running the command blocks of a page, line by line in a shell, with real daemons.

The machines are homes of one machine here, so of each line only this is replaced: the
address that all of them would listen at, the ticket and the ids that a person would
copy from another screen. What goes on is interrupted once it has said something, and
what asks is answered.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tests.end_to_end.programs import (
    MARK,
    PATIENCE_S,
    ROOT,
    Done,
    Program,
    answered_at_a_terminal,
    end_marked,
)

WAIT = ("--timeout", "240")
ENDLESS = ("p2pfusion watch", "p2pfusion events --follow")
EVERYWHERE, SOMEWHERE = "0.0.0.0:7788", "127.0.0.1:0"
"""Where all machines of a page listen, and all daemons of one machine can."""

TICKET = re.compile(r"p2pf1\w+\.\.\.")
ONE_THREAD = {"OMP_THREAD_LIMIT": "1"}
"""Three laptops with two threads each are one machine here: threads that wait for each
other by spinning would take its cores from those that compute."""

ASKING = {"p2pfusion leave": "leave", "p2pfusion trust revoke": "y"}
"""What commands are answered that ask somebody at a terminal."""


@dataclass(frozen=True)
class Page:
    """The blocks of one page."""

    blocks: tuple[tuple[str, ...], ...]
    """The commands of each, without the comments behind them."""
    files: dict[str, str]
    """What the reader is to write, by the names behind the language of a block."""

    @classmethod
    def read(cls, path: Path) -> Page:
        """Commands are in blocks without a language."""
        found = re.findall(r"^```(.*?)\n(.*?)^```$", path.read_text(), re.M | re.S)
        commands = [text for head, text in found if not head]
        named = {head.split()[1]: text for head, text in found if " " in head}
        return cls(tuple(_lines_of(text) for text in commands), named)

    def block_with(self, command: str) -> tuple[str, ...]:
        """The one block that has a line which begins so."""
        (found,) = (
            block
            for block in self.blocks
            if any(line.startswith(command) for line in block)
        )
        return found


def _lines_of(block: str) -> tuple[str, ...]:
    return tuple(line for line in re.sub(r" +#.*", "", block).splitlines() if line)


@dataclass
class Machine:
    """A home, a directory to work in, and a shell that knows the program."""

    folder: Path
    program: Program
    copied: dict[str, str] = field(default_factory=dict)
    """What a person writes in place of what the page shows."""

    def written(self, line: str) -> str:
        """A line as it is typed here."""
        for shown, typed in {**self.copied, EVERYWHERE: SOMEWHERE}.items():
            line = line.replace(shown, typed)
        return line

    def write(self, name: str, text: str) -> None:
        """Writes a file of the page."""
        (self.folder / name).write_text(text.replace(EVERYWHERE, SOMEWHERE))

    def open(self, line: str) -> subprocess.Popen[str]:
        """Types a line and lets it run; its complaints go into a file."""
        with open(self.folder / "stderr", "w") as errors:
            return subprocess.Popen(
                ["bash", "-c", self.written(line)],
                cwd=self.folder,
                env=self.program.environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
            )

    def run(self, line: str) -> Done:
        """Types a line; what goes on is ended, and what asks is answered."""
        for command, answer in ASKING.items():
            if line.startswith(command):
                words = subprocess.check_output(
                    ["bash", "-c", f'printf "%s\\n" {self.written(line)}'], text=True
                )
                _, *arguments = words.splitlines()
                return answered_at_a_terminal(self.program, answer, *arguments)
        with self.open(line) as process:
            assert process.stdout is not None
            first = ""
            if line in ENDLESS:
                first = process.stdout.readline()
                process.send_signal(signal.SIGINT)
            out, _ = process.communicate(timeout=PATIENCE_S)
        complaints = (self.folder / "stderr").read_text()
        return Done(process.returncode, first + out, complaints)

    def succeeds(self, line: str) -> str:
        """Types a line that must work; what it printed."""
        if line.startswith("export "):
            return self._exported(line)
        done = self.run(line)
        assert done.code == 0, (line, done)
        assert done.out or "invite create" not in line
        return done.out

    def _exported(self, line: str) -> str:
        """A variable of this shell, for the lines that follow."""
        name = line.removeprefix("export ").partition("=")[0]
        value = self.run(f'{line}; printf "%s" "${name}"').out
        self.program.environment[name] = value
        if name == "P2PFUSION_HOME":
            self.program.home = Path(value)
        return value


@contextmanager
def machines_in(folder: Path) -> Iterator[Callable[[str], Machine]]:
    """Machines by name, in a checkout; what still runs there afterwards is ended."""
    mark = f"{os.getpid()}-{folder.name}"
    (folder / "bin").mkdir()
    program = folder / "bin" / "p2pfusion"
    # A link to a virtual environment's python is not always in that environment.
    for file, words in ((program, str(ROOT / "cli.py")), (folder / "bin/python", "")):
        file.write_text(f'#!/bin/sh\nexec {sys.executable} {words} "$@"\n')
        file.chmod(0o755)

    def make(name: str) -> Machine:
        work = folder / name
        work.mkdir()
        (work / "peers").mkdir()
        found = Program(folder / f"{name}-home", mark)
        path = f"{program.parent}{os.pathsep}{os.environ['PATH']}"
        found.environment |= {"PATH": path, MARK: mark, **ONE_THREAD}
        machine = Machine(work, found)
        for profile in (ROOT / "peers").glob("*.toml"):
            machine.write(f"peers/{profile.name}", profile.read_text())
        return machine

    with ExitStack() as stack:
        stack.callback(end_marked, mark)
        yield make


def begun(machine: Machine, line: str) -> None:
    """Types a line that starts a daemon in the foreground, and waits for READY."""
    daemon = machine.open(line)
    assert daemon.stdout is not None
    told = daemon.stdout.readline()
    assert told.startswith("READY"), (machine.folder / "stderr").read_text()
