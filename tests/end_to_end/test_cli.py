"""The life of a daemon through its command line, with real processes."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.end_to_end.programs import PATIENCE_S, Program, end_marked, profile

pytestmark = pytest.mark.slow

SWARM = """
name = "pair"
model = "mlp"
model_arguments = { hidden = [32] }
rounds = 3
min_peers = 2
learning_rate = 0.1
"""


def sections(share: int, *, founder: bool = False) -> dict[str, str]:
    data = f'partition = {{ rule = "iid", share = "{share}/2" }}\nlimit = 200'
    return {"peer": "split_fraction = 0.5", "data": data} | (
        {"swarm": SWARM} if founder else {}
    )


@pytest.fixture
def programs(tmp_path: Path) -> Iterator[tuple[Program, Program]]:
    """Two homes; whatever still runs in them afterwards is ended."""
    mark = f"{os.getpid()}-{tmp_path.name}"
    with ExitStack() as stack:
        stack.callback(end_marked, mark)
        yield Program(tmp_path / "a", mark), Program(tmp_path / "b", mark)


def test_a_peer_is_born_once(programs: tuple[Program, Program]) -> None:
    program, _ = programs
    first = program.run("init", "--name", "lab-a", "--json")
    assert first.data["created"] is True and first.data["name"] == "lab-a"
    again = program.run("init")
    assert (again.code, again.out.strip()) == (0, first.data["id"])
    assert program.run("init", "--name", "other").code == 10
    assert (program.home.stat().st_mode & 0o777) == 0o700


def test_a_swarm_of_two_from_first_start_to_evaluation(
    programs: tuple[Program, Program], tmp_path: Path
) -> None:
    first, second = programs
    founder = str(profile(tmp_path / "a.toml", sections(0, founder=True)))
    member = str(profile(tmp_path / "b.toml", sections(1)))

    ready = first.run("start", founder, "--name", "ann", "--detach", "--json").data
    assert ready["name"] == "ann"
    assert first.run("wait", "--for", "joined", "--timeout", "240").code == 0
    assert first.run("status", "--check").code == 0

    other = second.run("start", member, "--name", "bob", "--detach")
    assert other.code == 0 and other.out.startswith("READY  pid ")
    assert second.run("status", "--check").code == 7
    ticket = first.run("invite", "create").out.strip()
    assert second.run("join", ticket).code == 0
    assert second.run("join", ticket).code == 10

    for program in programs:
        done = program.run("wait", "--for", "done", "--timeout", "240")
        assert done.code == 0, done
    status = first.run("status", "--json").data
    assert status["round"]["phase"] == "done"  # type: ignore[index]
    assert status["roster"]["members"] == 2  # type: ignore[index]
    names = [p["name"] for p in first.run("peers", "--json").data["peers"]]  # type: ignore[attr-defined]
    assert sorted(names) == ["ann", "bob"]
    rounds = first.run("rounds", "--json").data["rounds"]
    assert [done["number"] for done in rounds] == [0, 1, 2]  # type: ignore[attr-defined]
    assert first.run("round", "show", "1").out.startswith("Round 1 ")
    shown = second.run("split", "show", "--json").data
    assert {p["name"] for p in shown["peers"]} == {"ann", "bob"}  # type: ignore[attr-defined]

    file = tmp_path / "model.safetensors"
    exported = second.run("export", str(file), "--json").data
    assert exported["bytes"] == file.stat().st_size
    measured = second.run("evaluate", str(file), "--data", "digits", "--json").data
    assert measured["held_out"] is True and measured["model"] == "mlp"

    for program in programs:
        assert program.run("stop").code == 0
        assert program.run("status").code == 3
        assert not (program.home / "control.sock").exists()


def test_a_home_and_a_port_have_one_daemon(programs: tuple[Program, Program]) -> None:
    first, second = programs
    ready = first.run("start", "--detach", "--json").data
    again = first.run("start")
    assert again.code == 10 and f"pid {ready['pid']}" in again.err
    assert first.run("start", "--detach").code == 10
    taken = second.run("start", "--listen", str(ready["address"]), "--detach")
    assert taken.code == 10 and str(ready["address"]).split(":")[1] in taken.err
    assert first.run("stop").code == 0


def test_joining_nobody_goes_on_and_says_so(
    programs: tuple[Program, Program],
) -> None:
    program, _ = programs
    with socket.socket() as free:  # bound, and nobody listens: nothing answers there
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
        assert program.run("start", "--join", address, "--detach").code == 0
        waited = program.run("wait", "--for", "joined", "--timeout", "0.1")
        assert waited.code == 6 and address in waited.err
        status = program.run("status")
    assert status.code == 0
    assert f"joining  {address}" in status.out and "do this:" in status.out
    assert program.run("stop").code == 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_daemon_in_the_foreground_says_ready_and_ends_when_told(
    programs: tuple[Program, Program], number: signal.Signals
) -> None:
    program, _ = programs
    with program.open("start") as daemon:
        assert daemon.stdout is not None
        line = daemon.stdout.readline()
        assert line.startswith(f"READY  pid {daemon.pid}  peer ")
        assert program.run("status").code == 0
        daemon.send_signal(number)
        assert daemon.wait(PATIENCE_S) == 0
    assert not (program.home / "control.sock").exists()


def test_an_open_port_needs_no_warning(programs: tuple[Program, Program]) -> None:
    program, _ = programs
    refused = program.run("start", "--insecure-loopback", "--listen", "0.0.0.0:0")
    assert refused.code == 8 and "--insecure-loopback" in refused.err
    started = program.run("start", "--listen", "0.0.0.0:0", "--detach")
    assert (started.code, started.err) == (0, "")
    assert program.run("stop").code == 0


def test_unusable_data_ends_the_daemon_with_a_reason(
    programs: tuple[Program, Program], tmp_path: Path
) -> None:
    program, _ = programs
    bad = {**sections(0, founder=True), "data": 'kind = "npz"\npath = "none.npz"'}
    done = program.run("start", str(profile(tmp_path / "x.toml", bad)))
    assert done.code == 8
    assert "none.npz" in done.err.splitlines()[-1]


def test_a_checkout_runs_from_anywhere(tmp_path: Path) -> None:
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run(
        [sys.executable, str(root / "cli.py"), "version"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.startswith("p2pfusion ")
