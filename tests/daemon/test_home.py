"""The home directory: where it is, and that nobody else looks into it."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from p2pfusion.daemon.home import (
    ENVIRONMENT_KEY,
    Home,
    find_home,
    platform_home,
)
from p2pfusion.errors import ConfigError, ResourceError


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_the_option_wins_over_the_environment_over_the_platform(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv(ENVIRONMENT_KEY, "/from/environment")
    assert find_home("/from/option").root == Path("/from/option")
    assert find_home(None).root == Path("/from/environment")
    monkeypatch.delenv(ENVIRONMENT_KEY)
    assert find_home(None).root == platform_home()
    assert platform_home().name == "p2pfusion"


def test_a_home_is_for_its_owner_alone(tmp_path: Path) -> None:
    home = Home(tmp_path / "deep" / "home")
    home.create()
    assert mode(home.root) == 0o700
    assert not list(home.root.iterdir())


def test_an_open_directory_is_closed(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    Home(tmp_path).create()
    assert mode(tmp_path) == 0o700


def test_a_path_too_long_for_a_socket_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="too long"):
        Home(tmp_path / ("x" * 120)).create()


def test_a_file_in_the_way_is_named(tmp_path: Path) -> None:
    (tmp_path / "home").write_text("")
    with pytest.raises(ConfigError, match="is a file"):
        Home(tmp_path / "home").create()
    with pytest.raises(ResourceError, match="cannot create"):
        Home(tmp_path / "home" / "below").create()
