"""What ``status`` says of a daemon in each state, as text and as JSON.

A change of these files is a change of what people read and scripts parse: look at it,
then write them anew with ``pytest tests/golden --rewrite-golden``.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from p2pfusion.daemon.diagnosis import STATES
from tests.golden.onlooker import status_of
from tests.golden.states import BUILDERS

FILES = Path(__file__).parent / "status"


@pytest.mark.parametrize("name", BUILDERS)
def test_status_says_what_it_said(name: str, rewrites_golden: bool) -> None:
    with BUILDERS[name]().node() as node:
        data, text = status_of(node)
    assert_golden(FILES / f"{name}.json", data, rewrites=rewrites_golden)
    assert_golden(FILES / f"{name}.txt", text, rewrites=rewrites_golden)


def assert_golden(path: Path, found: str, *, rewrites: bool) -> None:
    if rewrites:
        path.write_text(found)
    assert found == path.read_text(), f"{path.name} differs"


def test_every_state_has_its_golden_files() -> None:
    names = {path.stem for path in FILES.iterdir()}
    assert names == set(BUILDERS)
    told = {json.loads(path.read_text())["state"]["code"] for path in _documents()}
    assert told == set(STATES)


def test_whoever_is_not_done_says_what_is_waited_for() -> None:
    for path in _documents():
        found = json.loads(path.read_text())
        waits = found["round"]["waiting_for"]
        assert waits or found["state"]["code"] in IDLE, path.name
        assert all(wait["peer"] and wait["reason"] for wait in waits), path.name


IDLE = {"done", "put-out", "left"}
"""States in which nothing is waited for."""


def test_every_trouble_comes_with_advice() -> None:
    for path in _documents():
        for row in json.loads(path.read_text())["health"]:
            assert row["level"] in ("info", "warn", "error"), path.name
            assert row["code"] and row["message"] and row["hint"], path.name


def _documents() -> list[Path]:
    return sorted(FILES.glob("*.json"))


def test_the_page_of_operations_explains_every_state_and_every_trouble() -> None:
    page = OPERATIONS.read_text()
    rows = [line.split("|")[1] for line in page.splitlines() if line.startswith("| `")]
    explained = {word.strip("` ") for row in rows for word in row.split(",")}
    codes = {
        row["code"]
        for path in _documents()
        for row in json.loads(path.read_text())["health"]
    }
    assert explained >= {*STATES, *codes}


OPERATIONS = Path(__file__).resolve().parents[2] / "docs" / "operations.md"
