"""Every command block of README.md, line by line in a shell, with real daemons.

The machines are homes of one machine here, so of each line only this is replaced: the
address that all of them would listen at, the ticket and the ids that a person would
copy from another screen. What goes on is interrupted once it has said something, and
what asks is answered. ``make`` only says what it would do: it would install.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.end_to_end.programs import (
    MARK,
    PATIENCE_S,
    ROOT,
    Done,
    Program,
    answered_at_a_terminal,
    end_marked,
)

pytestmark = pytest.mark.slow

README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"^```\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
WAIT = ("--timeout", "240")
ENDLESS = ("p2pfusion watch", "p2pfusion events --follow")
ONE_THREAD = {"OMP_THREAD_LIMIT": "1"}
"""Three laptops with two threads each are one machine here: threads that wait for each
other by spinning would take its cores from those that compute."""

ASKING = {"p2pfusion leave": "leave", "p2pfusion trust revoke": "y"}
"""What commands are answered that ask somebody at a terminal."""


def lines_of(block: str) -> list[str]:
    """The commands of a block, without the comments behind them."""
    return [line for line in re.sub(r" +#.*", "", block).splitlines() if line]


def block_with(command: str) -> list[str]:
    """The one block that has a line which begins so."""
    (found,) = (
        b for b in map(lines_of, BLOCKS) if any(x.startswith(command) for x in b)
    )
    return found


@dataclass
class Machine:
    """A home, a directory to work in, and a shell that knows the program."""

    folder: Path
    program: Program
    copied: dict[str, str] = field(default_factory=dict)
    """What a person writes in place of what the README shows."""

    def written(self, line: str) -> str:
        """A line as it is typed here."""
        for shown, typed in {**self.copied, "0.0.0.0:7788": "127.0.0.1:0"}.items():
            line = line.replace(shown, typed)
        return line

    def open(self, line: str) -> subprocess.Popen[str]:
        """Types a line and lets it run; its complaints go into a file."""
        with open(self.folder / "stderr", "w") as errors:
            return subprocess.Popen(
                ["bash", "-c", f"exec {self.written(line)}"],
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
        done = self.run(line)
        assert done.code == 0, (line, done)
        assert done.out or "invite create" not in line
        return done.out


@pytest.fixture
def machines(tmp_path: Path) -> Iterator[Callable[[str], Machine]]:
    """Machines by name, in a checkout; what still runs there afterwards is ended."""
    mark = f"{os.getpid()}-{tmp_path.name}"
    (tmp_path / "bin").mkdir()
    program = tmp_path / "bin" / "p2pfusion"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} {ROOT / "cli.py"} "$@"\n')
    program.chmod(0o755)

    def make(name: str) -> Machine:
        folder = tmp_path / name
        folder.mkdir()
        (folder / "peers").symlink_to(ROOT / "peers")
        found = Program(tmp_path / f"{name}-home", mark)
        path = f"{program.parent}{os.pathsep}{os.environ['PATH']}"
        found.environment |= {"PATH": path, MARK: mark, **ONE_THREAD}
        assert found.run("init", "--name", name).code == 0
        return Machine(folder, found)

    with ExitStack() as stack:
        stack.callback(end_marked, mark)
        yield make


def begun(machine: Machine, line: str) -> None:
    """Types a line that starts a daemon in the foreground, and waits for READY."""
    daemon = machine.open(line)
    assert daemon.stdout is not None
    told = daemon.stdout.readline()
    assert told.startswith("READY"), (machine.folder / "stderr").read_text()


def test_the_blocks_are_those_that_are_run_here() -> None:
    beginnings = [lines_of(block)[0].split(" ")[:3] for block in BLOCKS]
    assert beginnings == [
        ["make", "demo"],
        ["p2pfusion", "start", "peers/founder.toml"],
        ["p2pfusion", "start", "peers/laptop-cpu.toml"],
        ["p2pfusion", "status"],
        ["p2pfusion", "invite", "create"],
        ["p2pfusion", "pending", "ls"],
    ]


def test_make_has_what_the_first_block_says() -> None:
    told = {}
    for line in block_with("make"):
        make, target = line.split()
        done = subprocess.run(
            [make, "--dry-run", target], cwd=ROOT, capture_output=True, text=True
        )
        assert done.returncode == 0, done
        told[target] = done.stdout
    assert "cli.py demo" in told["demo"] and "-m pytest" in told["test"]


def test_two_machines_and_all_that_follows(
    machines: Callable[[str], Machine],
) -> None:
    founder, lab_b, lab_c = (machines(name) for name in ("first", "lab-b", "lab-c"))
    start, invite = block_with("p2pfusion start peers/founder.toml")
    founder.succeeds(start)
    ticket = founder.succeeds(invite).strip()

    (join,) = block_with("p2pfusion start peers/laptop-cpu.toml")
    shown = join.split()[-1]
    assert shown.endswith("...") and ticket.startswith(shown[:5])
    for machine in (lab_c, lab_b):
        machine.copied[shown] = ticket
        begun(machine, join)
    assert lab_b.program.run("wait", "--for", "peers=3", *WAIT).code == 0

    printed = {line: lab_b.succeeds(line) for line in block_with("p2pfusion status")}
    assert printed["p2pfusion status"].startswith("Swarm   digits")
    assert "of it ever trained" in printed["p2pfusion export model.safetensors"]
    assert (lab_b.folder / "model.safetensors").stat().st_size > 0
    evaluated = printed["p2pfusion evaluate model.safetensors --data digits"]
    assert evaluated.startswith("Accuracy ")
    assert lab_b.program.run("status").code == 3, "it was stopped"

    for line in block_with("p2pfusion invite create --uses 1"):
        if "revoke ID" in line:
            rows = founder.program.run("invite", "ls", "--json").data["invites"]
            founder.copied["ID"] = rows[-1]["id"]  # type: ignore[index]
        founder.succeeds(line)
    assert "put out" in founder.program.run("peers").out


def test_knocking_without_a_ticket(machines: Callable[[str], Machine]) -> None:
    admin, knocker = machines("admin"), machines("knocker")
    text = (ROOT / "peers" / "founder.toml").read_text()
    changed = text.replace('admission = "ticket"', 'admission = "pending"')
    assert changed != text
    (admin.folder / "founder.toml").write_text(changed)
    start = "p2pfusion start founder.toml --listen 0.0.0.0:7788 --detach"
    address = admin.succeeds(start).split("address ")[1].split()[0]
    assert admin.program.run("wait", "--for", "joined", *WAIT).code == 0
    begun(knocker, f"p2pfusion start --join {address}")

    listing, asking, accepting = block_with("p2pfusion pending ls")
    peer = knocker.succeeds(asking).strip()
    while peer not in admin.succeeds(listing):
        pass  # the knock is on its way
    admin.copied["ID"] = peer
    admin.succeeds(accepting)
    assert knocker.program.run("wait", "--for", "joined", *WAIT).code == 0
