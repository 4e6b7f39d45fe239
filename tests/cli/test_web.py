"""The link to the page: only of the daemon that runs now."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from p2pfusion.cli.main import main
from p2pfusion.daemon.home import Home
from p2pfusion.daemon.web.token import save_access
from tests.cli.stub import answering

Capture = pytest.CaptureFixture[str]
URL = "http://127.0.0.1:8477/"


def asked(home: Path, capsys: Capture, *arguments: str, pid: int) -> tuple[int, str]:
    with answering(home, {"status": {"daemon": {"pid": pid}}}):
        code = main(["--home", str(home), "web", *arguments])
    shown = capsys.readouterr()
    return code, (shown.out or shown.err).strip()


def test_the_link_has_the_token_where_no_server_is_told(
    tmp_path: Path, capsys: Capture
) -> None:
    save_access(Home(tmp_path), "t-0", URL)
    assert asked(tmp_path, capsys, pid=os.getpid()) == (0, f"{URL}#token=t-0")
    code, shown = asked(tmp_path, capsys, "--json", pid=os.getpid())
    assert (code, json.loads(shown)["data"]) == (0, {"link": f"{URL}#token=t-0"})


def test_a_link_of_an_earlier_daemon_is_none(tmp_path: Path, capsys: Capture) -> None:
    code, shown = asked(tmp_path, capsys, pid=os.getpid())
    assert code == 4 and "this daemon serves no page" in shown
    save_access(Home(tmp_path), "t-0", URL)
    code, shown = asked(tmp_path, capsys, pid=os.getpid() + 1)
    assert code == 4 and "start --web" in shown
    assert main(["--home", str(tmp_path), "web"]) == 3
    assert "start --web" in capsys.readouterr().err
