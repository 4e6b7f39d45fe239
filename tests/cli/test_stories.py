"""Events and logs, from a daemon and without one."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from p2pfusion.cli.main import main
from p2pfusion.cli.stories import READ_BYTES, last_lines
from p2pfusion.daemon.chronicle import Chronicle
from p2pfusion.daemon.control import Request
from tests.cli.stub import answering

Capture = pytest.CaptureFixture[str]
ROOT = Path(__file__).resolve().parents[2]
EVENT = {
    "number": 17,
    "at": "2026-11-20T20:15:03.250Z",
    "kind": "peer-silent",
    "text": "lab-c: silent for 4 s",
    "details": {"peer": "9zc4l0tx", "name": "lab-c"},
}
LINE = "17  2026-11-20 20:15:03  peer-silent: lab-c: silent for 4 s\n"


def follow(request: Request) -> None:
    request.progress(EVENT)
    request.reply({"newest": 17})


def test_events_are_lines(tmp_path: Path, capsys: Capture) -> None:
    answer = {"events": [EVENT], "newest": 17}
    with answering(tmp_path, {"events": answer}) as asked:
        assert main(["--home", str(tmp_path), "events"]) == 0
        assert capsys.readouterr().out == LINE
        assert main(["--home", str(tmp_path), "events", "--since", "3"]) == 0
        assert main(["--home", str(tmp_path), "events", "-n", "0", "--json"]) == 0
    assert [request.arguments for request in asked] == [
        {"since": 0, "count": 50},
        {"since": 3},
        {"since": 0, "count": 0},
    ]
    out = capsys.readouterr().out
    assert json.loads(out[out.index("{") :])["data"] == answer


def test_events_are_followed_until_the_daemon_ends(
    tmp_path: Path, capsys: Capture
) -> None:
    with answering(tmp_path, {"events": follow}):
        assert main(["--home", str(tmp_path), "events", "--follow"]) == 0
        assert capsys.readouterr().out == LINE
        assert main(["--home", str(tmp_path), "events", "--follow", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == EVENT


def test_whoever_follows_ends_it_with_the_keyboard(tmp_path: Path) -> None:
    command = [sys.executable, "cli.py", "--home", str(tmp_path), "events", "-f"]
    with (
        answering(tmp_path, {"events": lambda request: request.progress(EVENT)}),
        subprocess.Popen(
            command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        ) as process,
    ):
        assert process.stdout is not None
        assert process.stdout.readline() == LINE
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 0
        assert process.stderr is not None and process.stderr.read() == ""


def test_without_a_daemon_the_last_run_tells(tmp_path: Path, capsys: Capture) -> None:
    chronicle = Chronicle(tmp_path, str)
    chronicle.begin()
    chronicle.end("it was told to")
    assert main(["--home", str(tmp_path), "events"]) == 0
    assert capsys.readouterr().out.count("\n") == 2
    assert main(["--home", str(tmp_path), "events", "--since", "1", "--json"]) == 0
    data = json.loads(capsys.readouterr().out)["data"]
    assert [event["number"] for event in data["events"]] == [2]
    assert main(["--home", str(tmp_path), "events", "-n", "0"]) == 0
    assert capsys.readouterr().out == ""


def test_logs_are_the_end_of_the_log(tmp_path: Path, capsys: Capture) -> None:
    (tmp_path / "daemon.log").write_text("one\ntwo\nthree\n")
    assert main(["--home", str(tmp_path), "logs", "-n", "2"]) == 0
    assert capsys.readouterr().out == "two\nthree\n"
    assert main(["--home", str(tmp_path), "logs", "--json", "-n", "1"]) == 0
    assert json.loads(capsys.readouterr().out)["data"]["lines"] == ["three"]
    assert main(["--home", str(tmp_path), "logs", "--trainer"]) == 4


@pytest.mark.parametrize("count", [0, 1, 2, 999, 5_000])
def test_the_last_lines_of_a_long_file(tmp_path: Path, count: int) -> None:
    lines = [f"line {number} {'x' * (number % 97)}" for number in range(3_000)]
    path = tmp_path / "log"
    path.write_text("\n".join(lines) + "\n")
    assert path.stat().st_size > 2 * READ_BYTES
    with open(path, "rb") as file:
        found = last_lines(file, count)
        assert file.read() == b"", "what comes next is new"
    assert found == lines[len(lines) - min(count, len(lines)) :]


def test_a_followed_log_goes_on_in_the_file_that_takes_its_place(
    tmp_path: Path,
) -> None:
    path = tmp_path / "daemon.log"
    path.write_text("one\n")
    command = [sys.executable, "cli.py", "--home", str(tmp_path), "logs", "-f"]
    with subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "one\n"
        with open(path, "a") as file:
            file.write("two\n")
        assert process.stdout.readline() == "two\n"
        os.replace(path, tmp_path / "daemon.log.1")
        path.write_text("three\n")
        assert process.stdout.readline() == "three\n"
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 0
