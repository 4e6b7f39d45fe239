"""Who lives in a home: drawn once, kept closed, never guessed."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from p2pfusion.daemon.home import Home
from p2pfusion.daemon.identity import create_identity, read_identity
from p2pfusion.errors import ConfigError
from p2pfusion.security import is_peer_id


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_home_and_key_are_for_the_owner_alone(tmp_path: Path) -> None:
    home = Home(tmp_path / "deep" / "home")
    create_identity(home, "lab-a")
    assert mode(home.root) == 0o700
    assert mode(home.key) == mode(home.identity) == 0o600
    names = sorted(path.name for path in home.root.iterdir())
    assert names == ["device.key", "identity.json"]


def test_an_identity_is_drawn_once(tmp_path: Path) -> None:
    home = Home(tmp_path)
    assert read_identity(home) is None
    first = create_identity(home, "lab-a")
    again = create_identity(home, "other")
    assert (again.peer, again.name) == (first.peer, "lab-a")
    assert again.transport_key == first.transport_key
    assert is_peer_id(first.peer)
    other = create_identity(Home(tmp_path / "b"))
    assert other.peer != first.peer and other.transport_key != first.transport_key


@pytest.mark.parametrize("loose", [0o644, 0o640, 0o604, 0o660])
def test_a_key_that_others_can_read_is_refused_with_the_mending_command(
    tmp_path: Path, loose: int
) -> None:
    home = Home(tmp_path)
    create_identity(home)
    home.key.chmod(loose)
    with pytest.raises(ConfigError, match=f"mode 0{loose:o}") as caught:
        create_identity(home)
    assert f"chmod 600 {home.key}" in caught.value.hint
    home.key.chmod(0o600)
    create_identity(home)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"peer": 3, "name": "a"}', "{}"])
def test_a_damaged_identity_is_an_error_and_stays(tmp_path: Path, text: str) -> None:
    home = Home(tmp_path)
    create_identity(home)
    home.identity.write_text(text)
    with pytest.raises(ConfigError, match=r"identity\.json"):
        create_identity(home)
    assert home.identity.read_text() == text


def test_a_damaged_key_is_an_error_and_stays(tmp_path: Path) -> None:
    home = Home(tmp_path)
    create_identity(home)
    home.key.write_bytes(b"-----BEGIN NONSENSE-----")
    with pytest.raises(ConfigError, match=r"device\.key"):
        create_identity(home)
    assert home.key.read_bytes().startswith(b"-----BEGIN NONSENSE")


def test_a_lost_key_does_not_make_a_new_peer_silently(tmp_path: Path) -> None:
    home = Home(tmp_path)
    create_identity(home)
    home.key.unlink()
    with pytest.raises(ConfigError, match=r"device\.key is missing"):
        create_identity(home)


def test_a_first_start_that_was_cut_short_between_the_files_goes_on(
    tmp_path: Path,
) -> None:
    home = Home(tmp_path)
    first = create_identity(home, "lab-a")
    home.identity.unlink()
    again = create_identity(home, "lab-a")
    assert again.peer == first.peer and again.name


def test_the_key_of_another_peer_is_noticed(tmp_path: Path) -> None:
    home, other = Home(tmp_path / "a"), Home(tmp_path / "b")
    create_identity(home)
    create_identity(other)
    home.key.write_bytes(other.key.read_bytes())
    with pytest.raises(ConfigError, match="names another peer"):
        create_identity(home)
