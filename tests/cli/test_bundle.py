"""The file for whoever is to help: what is in it, and what never is."""

from __future__ import annotations

import json
import tarfile
from pathlib import Path

import numpy
import pytest

from p2pfusion.cli.main import main
from p2pfusion.daemon.chronicle import Chronicle
from p2pfusion.daemon.home import Home
from p2pfusion.daemon.identity import create_identity
from tests.cli.samples import BOB, JOINED, PEERS, ROUNDS
from tests.cli.stub import answering

TICKET = "p2pf1tgi26mjsqqqqwwwwzzzz"
ANSWERS = {"status": JOINED, "peers": PEERS, "rounds": ROUNDS}


@pytest.fixture
def home(tmp_path: Path) -> Home:
    """A home in which something has happened."""
    found = Home(tmp_path / "home")
    found.create()
    create_identity(found, "lab-a")
    chronicle = Chronicle(found.root, lambda peer: "bóbs machine")
    chronicle.note("peer-silent", {"peer": BOB, "reason": "silent for 4 s"})
    found.log.write_text(f"10.0.0.9:7788 says no\nstart --join {TICKET}\n")
    found.invites.write_text('{"secret": "hush"}')
    return found


def bundle(home: Home, file: Path, *options: str) -> dict[str, str]:
    """The texts in a bundle of this home."""
    arguments = ["--home", str(home.root), "support-bundle", str(file), *options]
    assert main(arguments) == 0
    with tarfile.open(file) as archive:
        texts = {}
        for member in archive.getmembers():
            opened = archive.extractfile(member)
            assert opened is not None
            texts[member.name.removeprefix("p2pfusion-support/")] = (
                opened.read().decode()
            )
    return texts


@pytest.mark.parametrize("options", [(), ("--redact",)])
def test_no_key_no_secret_and_no_ticket(
    options: tuple[str, ...], home: Home, tmp_path: Path
) -> None:
    file = tmp_path / "b.tar.gz"
    with answering(home.root, ANSWERS):
        texts = bundle(home, file, *options)
    everything = "\n".join(texts.values())
    assert TICKET not in everything and "hush" not in everything
    assert home.key.read_text() not in everything
    assert file.stat().st_mode & 0o077 == 0
    assert {"versions.json", "status.json", "events.jsonl", "daemon.log"} <= set(texts)
    assert json.loads(texts["status.json"])["round"]["number"] == 12
    versions = json.loads(texts["versions.json"])["packages"]
    assert versions["numpy"] == numpy.__version__ and all(versions.values())
    assert json.loads(texts["files.json"])["device.key"] > 0, "its size is told"


def test_without_the_option_the_answers_are_as_they_were(
    home: Home, tmp_path: Path
) -> None:
    with answering(home.root, ANSWERS):
        texts = bundle(home, tmp_path / "b.tar.gz")
    assert json.loads(texts["status.json"]) == JOINED
    assert json.loads(texts["peers.json"]) == PEERS
    assert "10.0.0.9:7788 says no" in texts["daemon.log"]


def test_redacted_it_names_nobody(home: Home, tmp_path: Path) -> None:
    profile = tmp_path / "p.toml"
    profile.write_text('[peer]\nname = "lab-a"\nadvertise = "10.0.0.4:7788"\n')
    options = ("--redact", "--profile", str(profile))
    with answering(home.root, ANSWERS):
        texts = bundle(home, tmp_path / "b.tar.gz", *options)
    everything = "\n".join(texts.values())
    for word in ("lab-a", "lab-c", "blue-heron", BOB, "10.0.0.", str(home.root)):
        assert word not in everything, word
    assert "bóbs" not in everything and "b\\u00f3bs" not in everything
    (event,) = map(json.loads, texts["events.jsonl"].splitlines())
    assert event["text"] == f"{event['details']['name']}: silent for 4 s"
    status = json.loads(texts["status.json"])
    assert status["self"]["name"] == json.loads(texts["peers.json"])["peers"][0]["name"]
    assert f'name = "{status["self"]["name"]}"' in texts["profile.toml"]


def test_without_a_daemon_it_says_so_inside(home: Home, tmp_path: Path) -> None:
    texts = bundle(home, tmp_path / "b.tar.gz")
    assert texts["status.txt"].startswith("not-running: no daemon runs")
    assert "peer-silent" in texts["events.jsonl"]


def test_no_file_is_written_over_and_no_home_is_a_mistake(
    home: Home, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "b.tar.gz"
    file.write_text("mine")
    assert main(["--home", str(home.root), "support-bundle", str(file)]) == 10
    assert file.read_text() == "mine"
    assert main(["--home", str(tmp_path / "no"), "support-bundle", str(file)]) == 4
    assert "no peer lives in" in capsys.readouterr().err
