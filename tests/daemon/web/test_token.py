"""The token of a home: made once, for its owner alone."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from p2pfusion.daemon.home import Home
from p2pfusion.daemon.web.token import chosen_token, read_access, save_access
from p2pfusion.errors import VerificationError


def test_the_token_stays_and_is_for_its_owner_alone(tmp_path: Path) -> None:
    home = Home(tmp_path)
    assert read_access(home) is None
    token = chosen_token(home)
    assert len(token) > 40 and chosen_token(home) != token  # until one is kept
    save_access(home, token, "http://127.0.0.1:8477/")
    found = read_access(home)
    assert found is not None and found.pid == os.getpid()
    assert found.link == f"http://127.0.0.1:8477/#token={token}"
    assert chosen_token(home) == token
    assert stat.S_IMODE(home.web.stat().st_mode) == 0o600


@pytest.mark.parametrize(
    "text", ["", "{", "[]", '{"token": ""}', '{"token": "", "url": "", "pid": 1}']
)
def test_a_damaged_file_is_named(text: str, tmp_path: Path) -> None:
    home = Home(tmp_path)
    home.web.write_text(text)
    with pytest.raises(VerificationError, match=r"web\.json is damaged"):
        chosen_token(home)
