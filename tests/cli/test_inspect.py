"""The commands that look at a daemon, against a real local socket."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from p2pfusion.cli.main import main
from p2pfusion.daemon.control import Request
from p2pfusion.errors import WaitTimeoutError
from tests.cli.samples import ALONE, JOINED, PEERS, ROUNDS
from tests.cli.stub import answering

Capture = pytest.CaptureFixture[str]
ROOT = Path(__file__).resolve().parents[2]


def test_status_shows_self_and_peers(tmp_path: Path, capsys: Capture) -> None:
    with answering(tmp_path, {"status": JOINED, "peers": PEERS}):
        assert main(["--home", str(tmp_path), "status"]) == 0
    out = capsys.readouterr().out
    assert "blue-heron" in out and "silent for 3 s" in out


def test_a_check_of_a_healthy_member_passes(tmp_path: Path, capsys: Capture) -> None:
    with answering(tmp_path, {"status": JOINED, "peers": PEERS}):
        assert main(["--home", str(tmp_path), "status", "--check"]) == 0
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("status", "told"),
    [
        (ALONE, "no answer yet; check the address"),
        ({**ALONE, "health": []}, "this peer is not in a swarm"),
        (
            {**JOINED, "health": [{"level": "error", "message": "trainer failed"}]},
            "trainer failed",
        ),
    ],
)
def test_a_check_says_what_is_wrong(
    status: dict[str, object], told: str, tmp_path: Path, capsys: Capture
) -> None:
    arguments = ["--home", str(tmp_path), "status", "--check"]
    with answering(tmp_path, {"status": status, "peers": PEERS}):
        assert main(arguments) == 7
        out, err = capsys.readouterr()
        assert told in err and err.count("\n") == 1 and out.count("\n") > 1
        assert main([*arguments, "--json"]) == 7
    out, err = capsys.readouterr()
    document = json.loads(out)
    assert err == ""
    assert (document["ok"], document["error"]["code"]) == (False, 7)
    assert document["data"] == status


def test_information_is_no_trouble(tmp_path: Path) -> None:
    calm = {**JOINED, "health": [{"level": "info", "message": "unencrypted"}]}
    with answering(tmp_path, {"status": calm, "peers": PEERS}):
        assert main(["--home", str(tmp_path), "status", "--check"]) == 0


def test_one_round_is_found_by_its_number(tmp_path: Path, capsys: Capture) -> None:
    with answering(tmp_path, {"rounds": ROUNDS}):
        assert main(["--home", str(tmp_path), "round", "show", "12", "--json"]) == 0
        data = json.loads(capsys.readouterr().out)["data"]
        assert data == ROUNDS["rounds"][1]  # type: ignore[index]
        assert main(["--home", str(tmp_path), "round", "show", "13"]) == 4
    assert "it knows rounds 11 to 12" in capsys.readouterr().err


def test_the_count_of_rounds_is_passed_on(tmp_path: Path, capsys: Capture) -> None:
    with answering(tmp_path, {"rounds": ROUNDS}) as asked:
        main(["--home", str(tmp_path), "rounds", "-n", "2"])
        main(["--home", str(tmp_path), "rounds"])
    assert [request.arguments for request in asked] == [{"count": 2}, {"count": 10}]
    assert capsys.readouterr().out.count("1m37s") == 2


def test_waiting_passes_goal_and_limit_on(tmp_path: Path, capsys: Capture) -> None:
    with answering(tmp_path, {"wait": {"reached": "round=3", "round": 3}}) as asked:
        arguments = ["wait", "--for", "round=3", "--timeout", "5"]
        assert main(["--home", str(tmp_path), *arguments]) == 0
    assert asked[0].arguments == {"for": "round=3", "limit_s": 5.0}
    assert capsys.readouterr().out == "Reached: round=3 (round 3)\n"


def test_a_wait_that_fails_says_for_whom(tmp_path: Path, capsys: Capture) -> None:
    def late(request: Request) -> None:
        request.fail(WaitTimeoutError("still waiting for: lab-c", hint="see: status"))

    with answering(tmp_path, {"wait": late}):
        arguments = ["wait", "--for", "done", "--timeout", "0"]
        assert main(["--home", str(tmp_path), *arguments]) == 6
    assert "still waiting for: lab-c" in capsys.readouterr().err


def test_a_peer_is_shown_by_its_name(tmp_path: Path, capsys: Capture) -> None:
    peer = {
        **PEERS["peers"][1],  # type: ignore[index]
        "role": "member",
        "admitted_by": "lab-a",
        "heard_s_ago": 3.1,
        "observers": ["lab-a", "gpu-2"],
        "accused_by": ["gpu-2"],
        "join_epoch": 2,
        "leave_epoch": 9,
        "starts": 4,
    }
    with answering(tmp_path, {"peer": peer}) as asked:
        assert main(["--home", str(tmp_path), "peer", "show", "lab-c"]) == 0
    assert asked[0].arguments == {"peer": "lab-c"}
    assert capsys.readouterr().out == PEER


PEER = """\
lab-c  9zc4l0txabcdefgh
State   silent for 3 s
Heard   3.1s ago   round trip 18ms   at unknown
Round   not yet
Split   fraction 0.25   shares unknown parameters with this peer
Net     1.0 kB sent, 0 B received
Watched by lab-a, gpu-2   accused by gpu-2
Member  member, let in by lab-a   from epoch 2 on   start 4   leaves with epoch 9
"""


@pytest.mark.parametrize("options", [(), ("--json",)])
def test_watching_goes_on_until_the_keyboard_ends_it(
    options: tuple[str, ...], tmp_path: Path
) -> None:
    command = [sys.executable, "cli.py", "--home", str(tmp_path), "watch", *options]
    with (
        answering(tmp_path, {"status": JOINED, "peers": PEERS}) as asked,
        subprocess.Popen(
            [*command, "--every", "0.1"],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as process,
    ):
        assert process.stdout is not None and process.stderr is not None
        seen = 0
        while seen < 2:
            line = process.stdout.readline()
            assert line, process.stderr.read()
            seen += "blue-heron" in line
        process.send_signal(signal.SIGINT)
        process.stdout.read()
        assert process.wait(30) == 0 and process.stderr.read() == ""
    assert {request.command for request in asked} <= {"status", "peers"}
