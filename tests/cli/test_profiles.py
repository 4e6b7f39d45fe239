"""Profiles: the ready ones are in order, and the command that says so can say no."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from p2pfusion.cli import profiles
from p2pfusion.cli.main import main
from p2pfusion.cli.profiles import READY_ONES, effective, purpose
from p2pfusion.cli.toml_text import toml_text
from p2pfusion.cli.trainer import Description
from p2pfusion.daemon.config import load_profile, parse_profile
from tests.documents import check_document
from tests.layouts import resnet18

READY = sorted(READY_ONES.glob("*.toml"))
PAGE = (READY_ONES.parent / "docs" / "profiles.md").read_text()


def run(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> tuple[int, str, str]:
    code = main(["profiles", *arguments])
    out, err = capsys.readouterr()
    return code, out, err


@pytest.mark.slow  # a founder's model is described by a trainer
def test_the_ready_profiles_are_in_order(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(["check", *map(str, READY), "--json"], capsys)
    assert code == 0, out
    assert check_document(out) == "profiles-check"
    found = json.loads(out)["data"]["profiles"]
    assert [each["path"] for each in found] == list(map(str, READY))
    founders = {Path(each["path"]).stem for each in found if each["model"]}
    assert founders == {"demo", "founder"}


def test_every_class_of_machine_has_a_profile_and_a_reason(
    capsys: pytest.CaptureFixture[str],
) -> None:
    code, out, _ = run(["ls"], capsys)
    assert code == 0
    for path in READY:
        assert path.stem in out and f"`{path.stem}`" in PAGE
        assert purpose(path.read_text()), path
    machines = {"laptop-cpu", "raspberry-pi-5", "jetson-8gb", "jetson-16gb"}
    machines |= {"gpu-workstation", "multi-gpu-server"}
    assert machines <= {path.stem for path in READY}
    for name in machines:
        assert load_profile(READY_ONES / f"{name}.toml").peer.memory, name


@pytest.mark.parametrize("path", READY, ids=lambda path: path.stem)
def test_what_is_shown_is_the_same_profile(
    path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, _ = run(["show", str(path)], capsys)
    again = parse_profile(out, str(path))
    assert code == 0 and again == load_profile(path)
    assert toml_text({"peer": effective(again)["peer"]}) in out + "\n"  # type: ignore[dict-item]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ('[peer]\nmemory = "much"', "it must be a size"),
        ("[peer]\nsplit_fractoin = 1", "did you mean 'split_fraction'?"),
        ('[data]\nkind = "npz"\npath = "none.npz"', "nothing is there"),
        ("[peer", "not a TOML file"),
    ],
)
def test_a_profile_that_is_not_in_order_is_named_with_the_others(
    text: str, told: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    good, bad = tmp_path / "good.toml", tmp_path / "bad.toml"
    good.write_text("")
    bad.write_text(text)
    code, out, _ = run(["check", str(good), str(bad)], capsys)
    first, second = out.splitlines()
    assert code == 8
    assert first == f"{good}: in order"
    assert second.startswith(f"{bad}: NOT in order: ") and told in second


def layered(model: str, arguments: object, data: object) -> Description:
    """A model of 11 million parameters, as a trainer would describe it."""
    assert model == "mlp"
    return Description(resnet18(), {}, is_deep=False, held=())


def needs(
    text: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> tuple[int, str]:
    monkeypatch.setattr(profiles, "describe", layered)
    (tmp_path / "x.toml").write_text(text)
    code, out, _ = run(["check", str(tmp_path / "x.toml"), "--model", "mlp"], capsys)
    return code, out


@pytest.mark.parametrize(
    ("text", "code", "told"),
    [
        ('[peer]\nsplit_fraction = "auto"\nmemory = "1 GiB"', 0, "trains 1 of"),
        ('[peer]\nsplit_fraction = 0.5\nmemory = "1 GiB"', 0, "trains 1/2 of"),
        ('[peer]\nsplit_fraction = 0.5\nmemory = "64 MiB"', 12, "takes about"),
        ("[peer]\nsplit_fraction = 0.001", 8, "0.001"),
    ],
)
def test_memory_and_fraction_must_suit_the_model(
    text: str,
    code: int,
    told: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    found, out = needs(text, tmp_path, capsys, monkeypatch)
    assert (found, told in out) == (code, True), out


def test_a_directory_that_is_not_there(capsys: pytest.CaptureFixture[str]) -> None:
    code, _, err = run(["ls", "nowhere"], capsys)
    assert code == 4 and "there is no directory nowhere" in err


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("# A laptop. It is slow.\n\n[peer]\n", "A laptop"),
        ("# Two\n# lines: and more\n", "Two lines"),
        ("[peer]\n# A comment that is not at the head.\n", ""),
    ],
)
def test_the_purpose_is_the_first_sentence(text: str, told: str) -> None:
    assert purpose(text) == told
