"""A daemon in the background tells its parent how its start went."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from p2pfusion.cli.launch import last_line, last_lines, start_in_background
from p2pfusion.daemon.home import Home
from p2pfusion.errors import P2PFusionError


@pytest.fixture
def home(tmp_path: Path) -> Home:
    made = Home(tmp_path / "home")
    made.create()
    return made


@pytest.mark.parametrize(
    ("arguments", "code", "name"),
    [
        (["none.toml"], 8, "bad-configuration"),
        (["--nonsense"], 2, "usage"),
        (["--listen", "192.0.2.1:7788"], None, None),
    ],
)
def test_an_error_arrives_with_its_name_and_code(
    home: Home, arguments: list[str], code: int | None, name: str | None
) -> None:
    launched = start_in_background(home, arguments)
    with pytest.raises(P2PFusionError) as caught:
        launched.ready()
    assert launched.process.poll() not in (None, 0)
    if code is not None:
        assert (caught.value.exit_code, caught.value.name) == (code, name)
        assert launched.process.returncode == code


def test_a_silent_end_is_told_with_the_logs_last_line(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = ("python3", "-c", "raise SystemExit('its last words')")
    monkeypatch.setattr("p2pfusion.cli.launch.PROGRAM", broken)
    with pytest.raises(P2PFusionError, match="its last words"):
        start_in_background(home, []).ready()


def test_no_descriptor_is_left_open(home: Home) -> None:
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(3):
        with pytest.raises(P2PFusionError):
            start_in_background(home, ["none.toml"]).ready()
    assert len(os.listdir("/proc/self/fd")) == before


def test_the_end_of_a_log(tmp_path: Path) -> None:
    log = tmp_path / "daemon.log"
    assert last_lines(log) == []
    assert last_line(log) == "its log is empty"
    log.write_text("".join(f"line {number}\n" for number in range(2_000)))
    assert last_lines(log, 2) == ["line 1998", "line 1999"]
    assert last_line(log) == "line 1999"
