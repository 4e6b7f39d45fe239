"""Asking a daemon, and waiting for one to end."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from p2pfusion.cli.connection import ask, daemon_pid, stop_daemon, wait_for_exit
from p2pfusion.daemon.control import Request
from p2pfusion.daemon.home import Home
from p2pfusion.errors import (
    ConflictError,
    IncompatibleError,
    NotRunningError,
    WaitTimeoutError,
)
from tests.cli.samples import JOINED
from tests.cli.stub import answering

SLEEPER = [sys.executable, "-c", "input()"]


def test_the_answer_and_its_arguments(tmp_path: Path) -> None:
    with answering(tmp_path, {"rounds": {"rounds": []}}) as asked:
        assert ask(Home(tmp_path), "rounds", {"count": 3}) == {"rounds": []}
    assert asked[0].arguments == {"count": 3}


def test_progress_reaches_the_listener(tmp_path: Path) -> None:
    def answer(request: Request) -> None:
        request.progress({"event": "progress", "done_bytes": 1})
        request.reply({"path": "x"})

    heard: list[object] = []
    with answering(tmp_path, {"export": answer}):
        ask(Home(tmp_path), "export", {"path": "x"}, on_event=heard.append)
    assert heard == [{"event": "progress", "done_bytes": 1}]


def test_no_daemon_and_no_answer_are_different_errors(tmp_path: Path) -> None:
    with pytest.raises(NotRunningError):
        ask(Home(tmp_path), "status")
    with (
        answering(tmp_path, {"status": lambda request: None}),
        pytest.raises(WaitTimeoutError),
    ):
        ask(Home(tmp_path), "status", timeout_s=0.05)


def test_an_answer_that_is_no_table_is_another_version(tmp_path: Path) -> None:
    with answering(tmp_path, {"peers": [1]}), pytest.raises(IncompatibleError):
        ask(Home(tmp_path), "peers")


def test_the_pid_comes_from_the_daemon(tmp_path: Path) -> None:
    assert daemon_pid(Home(tmp_path)) is None
    with answering(tmp_path, {"status": JOINED}):
        assert daemon_pid(Home(tmp_path)) == 4711


def test_stopping_waits_for_the_process(tmp_path: Path) -> None:
    process = subprocess.Popen(SLEEPER, stdin=subprocess.PIPE)
    assert process.stdin is not None

    def stop(request: Request) -> None:
        request.reply({})
        process.stdin.close()  # type: ignore[union-attr]

    status = {**JOINED, "daemon": {"pid": process.pid}}
    with answering(tmp_path, {"status": status, "stop": stop}):
        assert stop_daemon(Home(tmp_path), timeout_s=20) == process.pid
    assert process.wait(0.1) is not None


def test_a_daemon_that_stays_is_named_with_its_pid(tmp_path: Path) -> None:
    process = subprocess.Popen(SLEEPER, stdin=subprocess.PIPE)
    status = {**JOINED, "daemon": {"pid": process.pid}}
    with (
        answering(tmp_path, {"status": status, "stop": {}}),
        pytest.raises(ConflictError, match=f"pid {process.pid}"),
    ):
        stop_daemon(Home(tmp_path), timeout_s=0.05)
    process.communicate(b"\n")


@pytest.mark.parametrize("pidfd", [True, False])
def test_waiting_for_the_end_of_a_process(
    pidfd: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not pidfd:
        monkeypatch.delattr("os.pidfd_open", raising=False)
    process = subprocess.Popen(SLEEPER, stdin=subprocess.PIPE)
    assert not wait_for_exit(process.pid, timeout_s=0.06)
    process.communicate(b"\n")
    assert wait_for_exit(process.pid, timeout_s=20)
