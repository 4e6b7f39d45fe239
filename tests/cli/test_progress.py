"""How a running demo looks."""

from __future__ import annotations

import io

import pytest

from p2pfusion.cli.progress import (
    HEAD,
    Lines,
    LiveDisplay,
    Quiet,
    choose_display,
    finished_rounds,
    peer_cells,
    slowest_round,
)
from tests.cli.samples import ALONE, JOINED


def at(number: int, phase: str = "train") -> dict[str, object]:
    return {**JOINED, "round": {"number": number, "phase": phase}}


def test_in_a_pipe_a_round_is_one_line_at_most(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with choose_display(20, as_json=False) as display:
        assert isinstance(display, Lines)
        for first, second in ((0, 0), (1, 0), (1, 1), (1, 1), (3, 2), (20, 20)):
            display.show([("a", at(first)), ("b", at(second))], 2.0)
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[1] for line in lines] == ["1", "2", "20"]
    assert lines[0].startswith("Round 1 of 20 done after 2.0s: mean loss 0.412")


def test_json_is_alone_on_its_output(capsys: pytest.CaptureFixture[str]) -> None:
    with choose_display(20, as_json=True) as display:
        assert type(display) is Quiet
        display.say("hello")
        display.show([("a", at(3))], 1.0)
    assert capsys.readouterr() == ("", "")


def test_a_terminal_shows_a_table_and_a_bar() -> None:
    stream = io.StringIO()
    with LiveDisplay(20, stream) as display:
        display.show([("ann", at(3)), ("bob", {})], 1.0)
        display.say("Killed bob")
        shown = display._group([("ann", at(3))])  # type: ignore[attr-defined]
    table = shown.renderables[0]
    assert [column.header for column in table.columns] == list(HEAD)
    assert "Killed bob" in stream.getvalue()


@pytest.mark.parametrize("status", [{}, ALONE, JOINED])
def test_a_row_has_a_cell_per_column(status: dict[str, object]) -> None:
    cells = peer_cells("ann", status)
    assert len(cells) == len(HEAD)
    assert "None" not in cells


def test_rounds_are_counted_when_they_are_finished() -> None:
    assert finished_rounds({}) == finished_rounds(ALONE) == 0
    assert finished_rounds(at(7)) == 7
    assert finished_rounds(at(19, "done")) == 20
    assert slowest_round([("a", at(7)), ("b", at(5)), ("c", {})]) == 5
    assert slowest_round([]) == 0
