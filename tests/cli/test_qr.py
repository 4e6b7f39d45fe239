"""A ticket as a QR code in the terminal."""

from __future__ import annotations

import segno

from p2pfusion.cli.qr import terminal_code

TICKET = "p2pf1" + "tgi26mjsg4xdalrqfyytumzwhe3ttwjjnbzgc2tggmwxs6dcnrzd" * 6
BORDER = 2
DARK = {" ": (1, 1), "▀": (0, 1), "▄": (1, 0), "█": (0, 0)}
"""Half blocks are light; what they leave out is dark."""


def modules(drawn: str) -> list[list[int]]:
    """The rows of dark and light modules in a drawing, without its border."""
    rows: list[list[int]] = []
    for line in drawn.split("\n"):
        halves = [DARK[character] for character in line]
        rows += [[upper for upper, _ in halves], [lower for _, lower in halves]]
    size = len(rows[0])
    return [row[BORDER:-BORDER] for row in rows[BORDER : size - BORDER]]


def test_the_drawing_is_the_code_of_the_ticket_in_capitals() -> None:
    code = segno.make_qr(TICKET.upper(), boost_error=False)
    assert code.mode == "alphanumeric"
    assert modules(terminal_code(TICKET)) == [list(row) for row in code.matrix]


def test_an_ordinary_ticket_fits_a_terminal() -> None:
    lines = terminal_code(TICKET).split("\n")
    assert len(lines) <= 36 and max(map(len, lines)) <= 72
