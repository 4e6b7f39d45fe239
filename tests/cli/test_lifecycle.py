"""What ``init``, ``start`` and ``join`` do before a daemon is involved."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from p2pfusion import __version__
from p2pfusion.cli.main import main
from tests.cli.stub import answering

Capture = pytest.CaptureFixture[str]
PEER_ONLY = Path(__file__).parents[2] / "peers" / "laptop-cpu.toml"


def test_init_gives_an_id_once(tmp_path: Path, capsys: Capture) -> None:
    home = ["--home", str(tmp_path / "home")]
    assert main(["init", "--name", "lab-a", "--json", *home]) == 0
    data = json.loads(capsys.readouterr().out)["data"]
    assert (data["name"], data["created"]) == ("lab-a", True)
    for name in ([], ["--name", "lab-a"]):
        assert main(["init", *name, *home]) == 0
        assert capsys.readouterr().out.strip() == data["id"]
    assert main(["init", "--name", "other", *home]) == 10
    assert "'lab-a'" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["", "x" * 65, "a\tb"])
def test_init_refuses_a_name_that_tables_cannot_show(
    name: str, tmp_path: Path, capsys: Capture
) -> None:
    assert main(["--home", str(tmp_path), "init", "--name", name]) == 8
    assert "--name" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--swarm", str(PEER_ONLY)], "there is no [swarm] section"),
        (["--listen", "nowhere"], "--listen is 'nowhere'"),
        (["--advertise", "x:y"], "--advertise is 'x:y'"),
        (["--join", "10.0.0.5"], "--join is '10.0.0.5'"),
    ],
)
def test_start_refuses_what_it_cannot_use(
    arguments: list[str], told: str, tmp_path: Path, capsys: Capture
) -> None:
    assert main(["--home", str(tmp_path), "start", *arguments]) == 8
    assert told in capsys.readouterr().err


def test_join_passes_address_and_limit_on(tmp_path: Path, capsys: Capture) -> None:
    answer = {"swarm": {"id": "k3", "name": "blue-heron"}, "member_from_epoch": 2}
    with answering(tmp_path, {"join": answer}) as asked:
        arguments = ["join", "10.0.0.5:7788", "--timeout", "5"]
        assert main(["--home", str(tmp_path), *arguments]) == 0
    assert asked[0].arguments == {"address": "10.0.0.5:7788", "limit_s": 5.0}
    text = "Joined the swarm blue-heron by 10.0.0.5:7788; member from epoch 2.\n"
    assert capsys.readouterr().out == text


def test_the_version(capsys: Capture) -> None:
    assert main(["version"]) == 0
    assert capsys.readouterr().out.startswith(f"p2pfusion {__version__} (Python 3.")
