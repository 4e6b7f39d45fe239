"""Ping and doctor, against a daemon that says what a test tells it to, and without."""

from __future__ import annotations

import json
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from p2pfusion import __version__
from p2pfusion.cli import checkup
from p2pfusion.cli.main import main
from p2pfusion.daemon.control import Request
from p2pfusion.errors import NotFoundError
from tests.cli.samples import JOINED
from tests.cli.stub import answering

Capture = pytest.CaptureFixture[str]

TOLD = {
    "id": "9zc4l0tx",
    "name": "lab-c",
    "answered": 2,
    "unanswered": 1,
    "unsent": 0,
    "round_trips_s": [0.02, 0.03],
    "heard_s_ago": 0.1,
    "asymmetric": False,
}


@pytest.fixture
def ports() -> Iterator[int]:
    """The first of two neighbouring ports at which somebody listens."""
    for _ in range(100):
        with socket.create_server(("127.0.0.1", 0)) as first:
            port = first.getsockname()[1]
            try:
                with socket.create_server(("127.0.0.1", port + 1)):
                    yield port
                    return
            except OSError:
                continue
    pytest.fail("no two neighbouring ports are free")


@pytest.fixture
def free_port() -> Iterator[int]:
    """A port at which nobody listens."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield bound.getsockname()[1]


# --- ping ----------------------------------------------------------------------------


def test_a_peer_that_answers(tmp_path: Path, capsys: Capture) -> None:
    def answer(request: Request) -> None:
        request.progress({"round_trip_s": 0.02})
        request.reply({**TOLD, "address": "10.0.0.5:7788"})

    with answering(tmp_path, {"ping": answer}) as asked:
        assert main(["--home", str(tmp_path), "ping", "lab-c", "-c", "3"]) == 0
        out = capsys.readouterr().out
        assert main(["--home", str(tmp_path), "ping", "lab-c", "--json"]) == 0
    assert asked[0].arguments == {"peer": "lab-c", "count": 3}
    assert out.startswith("lab-c answers: 20ms\n2 answers from lab-c at 10.0.0.5:7788")
    assert "1 lost: shortest 20ms, median 30ms, longest 30ms" in out
    data = json.loads(capsys.readouterr().out)["data"]
    assert data == {**TOLD, "address": "10.0.0.5:7788", "way": None}


NONE = {**TOLD, "answered": 0, "unanswered": 3, "round_trips_s": []}


@pytest.mark.parametrize(
    ("changes", "step"),
    [
        ({"heard_s_ago": None}, "handshake"),
        ({"heard_s_ago": 7.0}, "silent"),
        ({"asymmetric": True}, "asymmetric"),
        ({"address": "no-such-host.invalid:1"}, "resolve"),
    ],
)
def test_where_the_way_ends(
    changes: dict[str, object], step: str, ports: int, tmp_path: Path, capsys: Capture
) -> None:
    told = {**NONE, "address": f"127.0.0.1:{ports}", **changes}
    with answering(tmp_path, {"ping": told}):
        assert main(["--home", str(tmp_path), "ping", "lab-c"]) == 6
        out, err = capsys.readouterr()
        assert out == "" and err.count("\n") == 1 and "; " in err
        assert main(["--home", str(tmp_path), "ping", "lab-c", "--json"]) == 6
    document = json.loads(capsys.readouterr().out)
    assert document["data"]["way"]["step"] == step
    assert document["error"]["code"] == 6 and document["error"]["hint"]


def test_nobody_at_the_port(free_port: int, tmp_path: Path, capsys: Capture) -> None:
    told = {**NONE, "address": f"127.0.0.1:{free_port}"}
    with answering(tmp_path, {"ping": told}):
        assert main(["--home", str(tmp_path), "ping", "lab-c"]) == 6
    assert "nobody listens there" in capsys.readouterr().err


def test_a_peer_that_nobody_knows(tmp_path: Path, capsys: Capture) -> None:
    def unknown(request: Request) -> None:
        request.fail(NotFoundError("nobody is called 'x'", hint="see: peers"))

    with answering(tmp_path, {"ping": unknown}):
        assert main(["--home", str(tmp_path), "ping", "x"]) == 4


# --- doctor --------------------------------------------------------------------------


def findings(capsys: Capture) -> dict[str, dict[str, object]]:
    rows = json.loads(capsys.readouterr().out)["data"]["findings"]
    return {row["subject"]: row for row in rows}


def test_a_home_where_nobody_lives(tmp_path: Path, capsys: Capture) -> None:
    home = tmp_path / "nowhere"
    assert main(["--home", str(home), "doctor", "none.toml", "--json"]) == 7
    found = findings(capsys)
    assert found["home"]["level"] == "error"
    assert found["home"]["hint"] == "make it with: p2pfusion init"
    assert found["profile"]["level"] == "error"
    assert found["daemon"]["level"] == "info"
    assert found["trainer"]["level"] == "ok"
    assert found["clock"]["level"] == "ok"
    assert not home.exists()


@pytest.mark.slow
def test_a_profile_s_device_is_looked_for(tmp_path: Path, capsys: Capture) -> None:
    assert main(["--home", str(tmp_path / "home"), "init"]) == 0
    capsys.readouterr()
    profile, lacking = tmp_path / "x.toml", "mps" if sys.platform == "linux" else "cuda"
    for device, level in (("cpu", "ok"), (lacking, "error")):
        lines = f'device = "{device}"\nprecision = "bfloat16"\nprocesses = 2'
        profile.write_text(f"[peer]\n{lines}")
        main(["--home", str(tmp_path / "home"), "doctor", str(profile), "--json"])
        found = findings(capsys)
        assert found["profile"]["level"] == "ok"
        assert found["device"]["level"] == level, found["device"]
        wanted = "cpu, in bfloat16, 2 processes" if level == "ok" else "not available"
        assert wanted in str(found["device"]["message"])


def test_a_running_peer_and_its_members(
    ports: int, free_port: int, tmp_path: Path, capsys: Capture
) -> None:
    assert main(["--home", str(tmp_path), "init"]) == 0
    capsys.readouterr()
    here = {"addresses": [f"127.0.0.1:{ports}"]}
    row = {"rtt_s": 0.02, "online": True, "address": f"127.0.0.1:{ports}"}
    peers = [
        {**row, "id": "a", "name": "ann", "state": "self"},
        {**row, "id": "b", "name": "bob", "state": "online"},
    ]

    def echo(request: Request) -> None:
        request.reply({"answered": int(request.arguments["peer"] == "b")})

    answers = {
        "status": {**JOINED, "self": here},
        "peers": {"peers": peers},
        "ping": echo,
    }
    with answering(tmp_path, answers):
        assert main(["--home", str(tmp_path), "doctor"]) == 0
        out = capsys.readouterr().out
        assert out.endswith("All is well.\n") and "peer: bob: online, 20ms" in out
        gone = {**row, "id": "c", "name": "cat", "state": "silent for 9 s"}
        peers.append({**gone, "online": False, "address": f"127.0.0.1:{free_port}"})
        assert main(["--home", str(tmp_path), "doctor"]) == 7
    out = capsys.readouterr().out
    assert "warn  peer: cat: 127.0.0.1" in out and "nobody listens there; see" in out


def test_troubles_of_the_daemon_are_findings(
    ports: int, tmp_path: Path, capsys: Capture
) -> None:
    full = {"level": "error", "code": "disk-full", "message": "no room", "hint": "make"}
    here = {"addresses": [f"127.0.0.1:{ports}"]}
    status = {**JOINED, "self": here, "health": [full]}
    with answering(tmp_path, {"status": status, "peers": {"peers": []}}):
        assert main(["--home", str(tmp_path), "doctor", "--json"]) == 7
    assert findings(capsys)["disk-full"] == {
        "level": "error",
        "subject": "disk-full",
        "message": "no room",
        "hint": "make",
    }


def looked(tmp_path: Path, capsys: Capture, **changes: object) -> list[dict[str, str]]:
    """What doctor finds where status says this."""
    here = {"self": {"addresses": []}}
    with answering(tmp_path, {"status": {**JOINED, **here, **changes}, "peers": {}}):
        main(["--home", str(tmp_path), "doctor", "--json"])
    found = json.loads(capsys.readouterr().out)["data"]["findings"]
    assert isinstance(found, list)
    return found


def of(found: list[dict[str, str]], subject: str) -> list[tuple[str, str]]:
    return [(f["level"], f["message"]) for f in found if f["subject"] == subject]


def test_a_daemon_of_another_version(tmp_path: Path, capsys: Capture) -> None:
    daemon = {"pid": 1, "version": "0.0.1", "uptime_s": 9.0}
    ((level, text),) = of(looked(tmp_path, capsys, daemon=daemon), "version")
    assert level == "warn" and text.startswith("the daemon is version 0.0.1, and this")
    same = {**daemon, "version": __version__}
    assert not of(looked(tmp_path, capsys, daemon=same), "version")


@pytest.mark.parametrize(
    ("copies", "members", "level"),
    [(0, 3, "warn"), (1, 3, "warn"), (2, 3, "ok"), (3, 3, "ok"), (1, 1, "ok")],
)
def test_copies_that_are_lacking(
    copies: int, members: int, level: str, tmp_path: Path, capsys: Capture
) -> None:
    said = {
        "store": {"version_max": 7, "replication_min": copies, "stale_ranges": 2},
        "swarm": {"replication": 2},
        "roster": {"members": members},
    }
    found = looked(tmp_path, capsys, **said)
    ((found_level, text),) = of(found, "replication")
    assert found_level == level and f"at {copies} peer" in text
    assert of(found, "stale")[0][1].startswith("2 ranges here are older")
    before = {**said, "store": {"version_max": 0, "replication_min": 0}}
    assert not of(looked(tmp_path, capsys, **before), "replication")


def test_who_was_put_out_and_what_was_turned_away(
    tmp_path: Path, capsys: Capture
) -> None:
    refused = {"bad-mac": 2, "late": 9, "other": 1, "rest": 1}
    found = looked(tmp_path, capsys, security={"revoked": 1, "refused": refused})
    assert of(found, "put out") == [("info", "1 peer put out by an admin")]
    ((_, text),) = of(found, "refused")
    assert text.startswith("turned away: late (9), bad-mac (2)") and "rest" not in text


def test_memory_that_is_short(
    tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = tmp_path / "meminfo"
    monkeypatch.setattr(checkup, "MEMORY", said)
    for free_kb, level in ((100, "warn"), (8 << 20, "ok")):
        said.write_text(f"MemTotal: 9 kB\nMemAvailable:   {free_kb} kB\n")
        assert of(looked(tmp_path, capsys), "memory")[0][0] == level
    said.unlink()
    assert of(looked(tmp_path, capsys), "memory")[0][0] == "ok", "not known"
