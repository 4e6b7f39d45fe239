"""Leaving and recovering, against a daemon that says what a test tells it to."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from p2pfusion.cli.departure import losses_text
from p2pfusion.cli.main import main
from p2pfusion.daemon.control import Request
from p2pfusion.errors import ConflictError
from tests.cli.stub import answering

Capture = pytest.CaptureFixture[str]

LOST = {
    "lost": [{"id": "9zc4l0tx", "name": "lab-c", "state": "silent for 90 s"}],
    "staying": 2,
    "parameters": 1_000,
    "parameters_lost": 125,
}


def leave(request: Request) -> None:
    for epoch in (3, 4):
        request.progress({"round": 2 * epoch, "epoch": epoch, "leave_epoch": 5})
    request.reply({"swarm": "blue-heron", "members": 3, "epoch": 5, "leave_epoch": 5})


def test_leaving_tells_how_far_it_is(tmp_path: Path, capsys: Capture) -> None:
    with answering(tmp_path, {"leave": leave}) as asked:
        assert main(["--home", str(tmp_path), "leave", "--yes"]) == 0
    out, err = capsys.readouterr()
    assert out == "Left the swarm blue-heron.\n"
    assert err.splitlines() == [
        "Round 6, epoch 3: it leaves with epoch 5 ...",
        "Round 8, epoch 4: it leaves with epoch 5 ...",
    ]
    assert [request.arguments for request in asked] == [{}]


def test_leaving_with_json_is_one_document(tmp_path: Path, capsys: Capture) -> None:
    with answering(tmp_path, {"leave": leave}):
        assert main(["--home", str(tmp_path), "leave", "--yes", "--json"]) == 0
    out, err = capsys.readouterr()
    assert json.loads(out)["data"]["leave_epoch"] == 5 and err == ""


def test_recovering_names_the_lost(tmp_path: Path, capsys: Capture) -> None:
    arguments = ["recover", "lab-c", "--reason", "burnt", "--yes"]
    with answering(tmp_path, {"recover": LOST}) as asked:
        assert main(["--home", str(tmp_path), *arguments]) == 0
    assert asked[0].arguments == {"peers": ["lab-c"], "reason": "burnt"}
    assert capsys.readouterr().out.startswith("Declared lost: lab-c. The rest goes on")


def test_nobody_to_declare_lost(tmp_path: Path, capsys: Capture) -> None:
    def nobody(request: Request) -> None:
        request.fail(ConflictError("every member is there", hint="see: peers"))

    with answering(tmp_path, {"recover": nobody}):
        assert main(["--home", str(tmp_path), "recover", "--yes"]) == 10


@pytest.mark.parametrize(
    ("gone", "told"),
    [
        (125, "125 parameters (12.5 %) have no other copy"),
        (0, "somebody else has, too"),
        (None, "is not known"),
    ],
)
def test_what_would_be_lost_is_said_before(gone: int | None, told: str) -> None:
    text = losses_text({**LOST, "parameters_lost": gone})
    assert told in text
    assert "lab-c  9zc4l0tx  silent for 90 s" in text and "2 members would go" in text
