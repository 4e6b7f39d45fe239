"""Lines of the log, for people and for programs."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pfusion.cli.daemon_shapes import EVENT
from p2pfusion.daemon.chronicle import Chronicle
from p2pfusion.daemon.config import parse_profile
from p2pfusion.daemon.logs import (
    LOG_FORMATS,
    JsonLines,
    log,
    log_to_file,
    log_to_stderr,
)
from p2pfusion.errors import ConfigError
from tests.documents import differences


@pytest.fixture(autouse=True)
def handlers() -> Iterator[None]:
    """The package's logger is as it was afterwards."""
    before, level = list(log.handlers), log.level
    yield
    for handler in set(log.handlers) - set(before):
        log.removeHandler(handler)
        handler.close()
    log.setLevel(level)


@given(st.text(), st.sampled_from(["INFO", "WARNING", "ERROR"]))
def test_whatever_is_said_is_one_line_of_json(message: str, level: str) -> None:
    record = logging.LogRecord("p2pfusion", 20, "", 0, "%s", (message,), None)
    record.levelname = level
    line = JsonLines().format(record)
    assert "\n" not in line
    told = json.loads(line)
    assert (told["message"], told["level"]) == (message, level.lower())
    assert told["at"].endswith("Z")


def test_an_event_stands_beside_its_words(tmp_path: Path) -> None:
    log_to_file(tmp_path / "daemon.log", "json")
    chronicle = Chronicle(tmp_path, lambda peer: f"<{peer}>")
    chronicle.note("peer-online", {"peer": "p1"})
    (line,) = (tmp_path / "daemon.log").read_text().splitlines()
    told = json.loads(line)
    assert told["message"] == "peer-online: <p1> is online"
    assert told["event"] == chronicle.since(0)[0]
    assert not differences(told["event"], EVENT)


def test_text_is_for_people(tmp_path: Path) -> None:
    log_to_file(tmp_path / "daemon.log", "text")
    log.warning("cannot reach %r", "bob")
    (line,) = (tmp_path / "daemon.log").read_text().splitlines()
    assert line.endswith(" WARNING cannot reach 'bob'")


@pytest.mark.parametrize("log_format", LOG_FORMATS)
def test_standard_error_has_the_same_format(
    log_format: str, capsys: pytest.CaptureFixture[str]
) -> None:
    log_to_stderr(log_format)
    try:
        1 / 0  # noqa: B018
    except ZeroDivisionError:
        log.error("it broke", exc_info=True)
    err = capsys.readouterr().err
    if log_format == "json":
        assert "ZeroDivisionError" in json.loads(err)["traceback"]
    else:
        assert err.startswith("it broke\nTraceback")


def test_a_profile_chooses_among_them() -> None:
    assert parse_profile("", "x").peer.log_format == "text"
    chosen = parse_profile('[peer]\nlog_format = "json"', "x")
    assert chosen.peer.log_format == "json"
    with pytest.raises(ConfigError, match="must be one of text, json"):
        parse_profile('[peer]\nlog_format = "xml"', "x")
