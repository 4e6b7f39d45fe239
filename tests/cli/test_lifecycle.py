"""What ``init``, ``id``, ``start`` and ``join`` do before a daemon is involved."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from p2pfusion import __version__
from p2pfusion.cli.main import main
from p2pfusion.security import DeviceKey, Ticket
from tests.cli.samples import ANN
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


def ticket(expires: int = 0) -> str:
    return Ticket(
        addresses=("127.0.0.1:7788",),
        issuer=DeviceKey.from_seed(bytes(32)).peer,
        transport_key=bytes(32),
        swarm="k3v9",
        invite="7kq2m4rx",
        secret=bytes(16),
        role="member",
        uses=1,
        expires=expires,
    ).encode()


def test_join_passes_address_and_limit_on(tmp_path: Path, capsys: Capture) -> None:
    answer = {
        "swarm": {"id": "k3", "name": "blue-heron"},
        "member_from_epoch": 2,
        "role": "member",
        "first_contacts": {"10.0.0.5:7788": ANN},
    }
    with answering(tmp_path, {"join": answer}) as asked:
        arguments = ["join", "10.0.0.5:7788", "--timeout", "5"]
        assert main(["--home", str(tmp_path), *arguments]) == 0
    assert asked[0].arguments == {"address": "10.0.0.5:7788", "limit_s": 5.0}
    told = capsys.readouterr().out
    assert told.startswith("Joined the swarm blue-heron; member from epoch 2.\n")
    assert "At 10.0.0.5:7788 answered" in told and ANN in told


def test_join_by_ticket_does_not_show_it(tmp_path: Path, capsys: Capture) -> None:
    answer = {
        "swarm": {"id": "k3", "name": "blue-heron"},
        "member_from_epoch": 0,
        "role": "admin",
        "first_contacts": {},
    }
    given = f" {ticket().upper()}\n"
    with answering(tmp_path, {"join": answer}) as asked:
        assert main(["--home", str(tmp_path), "join", given]) == 0
    assert asked[0].arguments["address"] == given
    text = "Joined the swarm blue-heron as an admin; member from epoch 0.\n"
    assert capsys.readouterr().out == text


@pytest.mark.parametrize("command", [["join"], ["start", "--join"]])
def test_a_bad_ticket_is_refused_before_anybody_is_asked(
    command: list[str], tmp_path: Path, capsys: Capture
) -> None:
    good, over = ticket(), ticket(expires=1_000_000_000)
    last = "a" if good[-1] != "a" else "b"
    for given, told in (
        (good[:-1] + last, "mistyped or cut off"),
        (good[:-20], "mistyped or cut off"),
        (over, "2001-09-09 at 01:46 UTC, and this machine's clock says 20"),
    ):
        # No daemon runs: reaching for one would be exit 3.
        assert main(["--home", str(tmp_path / "home"), *command, given]) == 5
        error = capsys.readouterr().err
        assert told in error and error.count("\n") == 1 and given not in error
    assert not (tmp_path / "home").exists()


def test_the_id_needs_no_daemon(tmp_path: Path, capsys: Capture) -> None:
    home = ["--home", str(tmp_path)]
    assert main(["id", *home]) == 4
    assert "p2pfusion init" in capsys.readouterr().err
    assert main(["init", "--name", "lab-a", *home]) == 0
    peer = capsys.readouterr().out.strip()
    assert main(["id", *home]) == 0
    assert capsys.readouterr().out.strip() == peer
    assert main(["id", "--json", *home]) == 0
    data = json.loads(capsys.readouterr().out)["data"]
    assert data == {"id": peer, "name": "lab-a", "home": str(tmp_path)}


def test_a_key_that_others_can_read_is_not_used(
    tmp_path: Path, capsys: Capture
) -> None:
    home = ["--home", str(tmp_path)]
    assert main(["init", *home]) == 0
    key = tmp_path / "device.key"
    key.chmod(0o644)
    capsys.readouterr()
    for command in ("id", "init"):
        assert main([command, *home]) == 8
        assert f"chmod 600 {key}" in capsys.readouterr().err


def test_the_version(capsys: Capture) -> None:
    assert main(["version"]) == 0
    assert capsys.readouterr().out.startswith(f"p2pfusion {__version__} (Python 3.")
