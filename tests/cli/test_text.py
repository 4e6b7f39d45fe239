"""Numbers, durations, sizes and tables for people."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pfusion.cli import text


@pytest.mark.parametrize(
    ("count", "shown"),
    [
        (None, "unknown"),
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1.0 kB"),
        (9_949, "9.9 kB"),
        (9_950, "10 kB"),
        (999_499, "999 kB"),
        (999_500, "1.0 MB"),
        (41_000_000, "41 MB"),
        (5e15, "5000 TB"),
    ],
)
def test_sizes(count: float | None, shown: str) -> None:
    assert text.size(count) == shown


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (None, "unknown"),
        (0.0004, "0ms"),
        (0.018, "18ms"),
        (0.0996, "0.1s"),
        (9.94, "9.9s"),
        (9.96, "10s"),
        (59.4, "59s"),
        (59.6, "1m00s"),
        (3599.6, "1h00m"),
        (11_520, "3h12m"),
        (190_800, "2d05h"),
        (-1.0, "0ms"),
    ],
)
def test_durations(seconds: float | None, shown: str) -> None:
    assert text.duration(seconds) == shown


@pytest.mark.parametrize(
    ("part", "shown"),
    [
        (None, "unknown"),
        (0.0, "0 %"),
        (1.0, "100 %"),
        (0.9999, "99.9 %"),
        (0.951, "95.1 %"),
    ],
)
def test_only_all_is_a_hundred_percent(part: float | None, shown: str) -> None:
    assert text.percent(part) == shown


def test_numbers() -> None:
    assert text.number(None) == "unknown"
    assert text.number(None, "not yet") == "not yet"
    assert text.number(26_122) == "26,122"
    assert text.number(0.41234) == "0.412"
    assert text.number("sealed") == "sealed"
    assert (text.plural(1, "peer"), text.plural(2, "peer")) == ("1 peer", "2 peers")


@given(st.text(max_size=40), st.integers(2, 50))
def test_a_shortened_text_fits_and_keeps_its_ends(word: str, width: int) -> None:
    shown = text.shorten(word, width)
    assert len(shown) == min(len(word), width)
    assert shown[0:1] == word[0:1]
    if len(word) <= width:
        assert shown == word


CELLS = st.lists(st.text(alphabet="abc", max_size=30), min_size=3, max_size=3)


@given(st.lists(CELLS, max_size=4), st.integers(22, 120))
def test_a_table_fits_and_loses_no_row(rows: list[list[str]], width: int) -> None:
    lines = text.table(("A", "B", "C"), rows, width).split("\n")
    assert len(lines) == 1 + len(rows)
    assert max(map(len, lines)) <= width


def test_spare_columns_go_in_their_order_and_only_if_they_must() -> None:
    head, rows = ("NAME", "ID", "STATE"), [["a", "b" * 20, "c" * 10]]
    assert text.table(head, rows, 80, ("ID",)).split("\n")[0].split() == list(head)
    narrow = text.table(head, rows, 20, ("ID", "STATE"))
    assert narrow.split("\n") == ["NAME  STATE", "a     cccccccccc"]


def test_colour_needs_a_terminal_and_consent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    assert text.coloured("warn", "warn") == "warn"
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    assert text.coloured("warn", "warn") == "\x1b[33mwarn\x1b[0m"
    monkeypatch.setenv("NO_COLOR", "1")
    assert text.coloured("warn", "warn") == "warn"
