"""What newcomers do wrong first, each as a process: the answer says what helps.

Where the answer names a command or an option, doing that is tried as well.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.end_to_end.programs import ROOT, Done, Program, end_marked

pytestmark = pytest.mark.slow

FOUNDER = str(ROOT / "peers" / "founder.toml")
HERE = ("--listen", "127.0.0.1:0", "--detach")
ELSEWHERE = "198.51.100.7:7788"
"""An address for documentation, which no machine has."""

Make = Callable[[str], Program]


@pytest.fixture
def peer(tmp_path: Path) -> Iterator[Make]:
    """Homes by name; what still runs in them afterwards is ended."""
    mark = f"{os.getpid()}-{tmp_path.name}"
    with ExitStack() as stack:
        stack.callback(end_marked, mark)
        yield lambda name: Program(tmp_path / name, mark)


def told(done: Done, code: int, *words: str) -> None:
    """It is one line, with what happened and what to do."""
    assert done.code == code and done.err.count("\n") == 1, done
    assert "; " in done.err and all(word in done.err for word in words), done


def test_an_older_python_is_told_which_is_needed() -> None:
    script = (
        "import runpy, sys\n"
        "sys.version_info = (3, 10, 12)\n"
        "runpy.run_path('cli.py', run_name='__main__')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 1 and done.stderr.count("\n") == 1
    assert "this is Python 3.10, and 3.11 or newer is needed" in done.stderr


def test_make_says_so_too() -> None:
    command = ["make", "--always-make", ".venv", "PYTHON=false"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode != 0
    assert "needs Python 3.11 or newer: make PYTHON=/path/to" in done.stdout


@pytest.mark.parametrize("taken", [0, 1], ids=["control", "data"])
def test_a_port_that_is_in_use(taken: int, peer: Make) -> None:
    """Either of the two that a daemon needs."""
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        address = f"127.0.0.1:{port - taken}"
        done = peer("ann").run("start", "--listen", address, "--detach")
        told(done, 10, f"port {port} on 127.0.0.1 is in use", "--listen")
    assert peer("ann").run("start", *HERE).code == 0


def test_a_home_that_is_in_use(peer: Make) -> None:
    ann = peer("ann")
    assert ann.run("start", *HERE).code == 0
    told(ann.run("start", *HERE), 10, "already runs", "p2pfusion stop", "--home")
    assert ann.run("start", *HERE, "--home", str(ann.home.parent / "b")).code == 0


def test_a_misspelt_key(peer: Make, tmp_path: Path) -> None:
    profile = tmp_path / "mine.toml"
    profile.write_text('[peer]\nlissten = "0.0.0.0:7788"\n')
    done = peer("ann").run("start", str(profile))
    told(done, 8, f"{profile}: unknown key 'lissten' in [peer]", "mean 'listen'?")


def test_data_that_is_not_there(peer: Make, tmp_path: Path) -> None:
    """Said at once, also of a daemon in the background."""
    profile = tmp_path / "mine.toml"
    profile.write_text('[data]\nkind = "npz"\npath = "mine.npz"\n')
    done = peer("ann").run("start", str(profile), "--detach")
    where = str(tmp_path / "mine.npz")
    told(done, 8, "key 'path' in [data]", where, "starts at the profile's directory")


def test_a_daemon_that_ended_by_itself_says_why(peer: Make, tmp_path: Path) -> None:
    """The trainer reads the data after READY: nobody looks at the terminal then."""
    (tmp_path / "mine.npz").write_bytes(b"no numbers")
    profile = tmp_path / "mine.toml"
    swarm = '[swarm]\nname = "x"\nmodel = "mlp"\n'
    profile.write_text(f'[data]\nkind = "npz"\npath = "mine.npz"\n{swarm}')
    ann = peer("ann")
    assert ann.run("start", str(profile), "--detach").code == 0
    ann.run("wait", "--for", "done")
    told(ann.run("status"), 3, "no daemon runs", "the last one ended: ", "mine.npz")
    assert ann.run("start", *HERE).code == 0
    assert ann.run("stop").code == 0
    assert "last one" not in ann.run("status").err, "it was stopped"


def test_one_machine_where_two_are_needed(peer: Make) -> None:
    ann = peer("ann")
    assert ann.run("start", FOUNDER, *HERE).code == 0
    assert ann.run("wait", "--for", "joined", "--timeout", "240").code == 0
    screen = ann.run("status").out
    assert "waits for the start: 1 of 2 members are connected" in screen
    assert "let some in: p2pfusion invite create" in screen
    done = ann.run("wait", "--for", "round=1", "--timeout", "0.5")
    told(done, 6, "1 of 2 members are connected")


def test_a_ticket_for_this_machine_alone(peer: Make) -> None:
    """The maker is warned; who uses it elsewhere, where nobody answers, reads why."""
    ann, bob = peer("ann"), peer("bob")
    assert ann.run("start", FOUNDER, *HERE).code == 0
    done = ann.run("invite", "create")
    assert "works on this machine only" in done.err
    assert "--listen 0.0.0.0:7788" in done.err
    assert ann.run("stop").code == 0  # as if it were somewhere else
    assert bob.run("start", "--join", done.out.strip(), *HERE).code == 0
    advice = told_by(bob, "not-joined")
    assert "that address is this machine itself" in advice and "new ticket" in advice


def test_listening_at_loopback_and_joining_others(peer: Make) -> None:
    ann = peer("ann")
    assert ann.run("start", "--join", ELSEWHERE, *HERE).code == 0
    advice = told_by(ann, "loopback")
    assert f"{ELSEWHERE} is on another machine" in advice
    assert "--listen 0.0.0.0:7788" in advice
    assert advice in ann.run("status").out.replace("; ", "\n")


def told_by(program: Program, code: str) -> str:
    """The message and the hint of a health code, once it is there."""
    while True:
        health = program.run("status", "--json").data["health"]
        assert isinstance(health, list)
        for row in health:
            if row["code"] == code:
                return f"{row['message']}\n{row['hint']}"


def test_a_ticket_that_is_over_or_a_clock_that_is_wrong(peer: Make) -> None:
    """The tolerance for clocks is minutes: the clock of who joins is set ahead."""
    ann = peer("ann")
    assert ann.run("start", FOUNDER, *HERE).code == 0
    ticket = ann.run("invite", "create", "--expires", "1h").out.strip()
    script = (
        "import sys, time\n"
        "now = time.time\n"
        "time.time = lambda: now() + 86_400\n"
        "from p2pfusion.cli.main import main\n"
        "sys.exit(main())\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, "start", "--join", ticket, *HERE],
        env=peer("bob").environment,
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    words = ("the ticket ended on", "this machine's clock says", "a new ticket")
    told(Done(done.returncode, done.stdout, done.stderr), 5, *words)
