"""Reading what a daemon told, field by field, and the lines that are made of it.

An answer is plain data of perhaps another version: what is missing is unknown, and
unknown is a word. Pure.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from p2pfusion.cli.text import number, size

Table = Mapping[str, object]

LABEL_WIDTH = 8


def word(value: object) -> str:
    """The value as text."""
    return "unknown" if value is None else str(value)


def real(data: Table, key: str) -> float | None:
    """A number, or None for what is none."""
    value = data.get(key)
    return float(value) if isinstance(value, (int, float)) else None


def part(data: Table, key: str) -> Table:
    """A table in the answer; an empty one where there is none."""
    value = data.get(key)
    return value if isinstance(value, Mapping) else {}


def items(data: Table, key: str) -> Sequence[object]:
    """A list in the answer; an empty one where there is none."""
    value = data.get(key)
    return value if isinstance(value, (list, tuple)) else ()


def rows(data: Table, key: str) -> list[Table]:
    """The tables in a list of the answer; nothing where there is none."""
    return [row for row in items(data, key) if isinstance(row, Mapping)]


def labelled(label: str, text: str) -> str:
    """A line of a screen: what it is about, and what there is to say."""
    return f"{label:<{LABEL_WIDTH}}{text}"


def traffic(data: Table, sent: str, received: str) -> str:
    """Bytes in both directions, from these two fields."""
    return f"{size(real(data, sent))} sent, {size(real(data, received))} received"


def fraction(data: Table) -> str:
    """A split fraction."""
    value = real(data, "split_fraction")
    return "unknown" if value is None else f"{value:g}"


def stale(count: object) -> str:
    """A number of ranges of which the newest version was not to be had."""
    return "none" if count == 0 else number(count)
