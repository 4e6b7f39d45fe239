"""Numbers, durations, sizes and tables as people read them. Pure: data in, text out.

Unknown is a word, never a dash or a zero: the caller says which word.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Sequence
from typing import TextIO

ELLIPSIS = "…"
NARROWEST_COLUMN = 6
WIDEST_SCREEN = 160
_COLOURS = {"error": "31", "warn": "33", "ok": "32", "bold": "1"}


def size(count: float | None, unknown: str = "unknown") -> str:
    """Bytes in decimal units: ``41 MB``."""
    if count is None:
        return unknown
    value, unit = float(count), "B"
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if value < 999.5 or unit == "TB":
            break
        value /= 1000
    digits = 1 if value < 9.95 and unit != "B" else 0
    return f"{value:.{digits}f} {unit}"


def duration(seconds: float | None, unknown: str = "unknown") -> str:
    """``0.8s``, ``12s``, ``1m04s``, ``3h12m``, ``2d05h``."""
    if seconds is None:
        return unknown
    if seconds < 0.0995:
        return f"{max(0.0, seconds) * 1000:.0f}ms"
    if seconds < 9.95:
        return f"{seconds:.1f}s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m{whole % 60:02}s"
    if whole < 86_400:
        return f"{whole // 3600}h{whole % 3600 // 60:02}m"
    return f"{whole // 86_400}d{whole % 86_400 // 3600:02}h"


def perplexity(value: object) -> str:
    """What is said of running text beside the accuracy; nothing of other data."""
    return f", perplexity {value:.4g}" if isinstance(value, (int, float)) else ""


def number(value: object, unknown: str = "unknown", digits: int = 3) -> str:
    """A number of any kind, or text as it is."""
    if value is None:
        return unknown
    if isinstance(value, float):
        return f"{value:.{digits}f}"
    return f"{value:,}" if isinstance(value, int) else str(value)


def percent(part: float | None, unknown: str = "unknown") -> str:
    """A part of one in percent; 100 % means all of it."""
    if part is None:
        return unknown
    shown = part * 100
    if 99.95 <= shown < 100:
        return "99.9 %"
    return f"{shown:.0f} %" if shown in (0, 100) else f"{shown:.1f} %"


def plural(count: int, noun: str) -> str:
    """``1 peer``, ``2 peers``."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def shorten(text: str, width: int) -> str:
    """The text in so many columns at most, cut in the middle."""
    if len(text) <= width:
        return text
    front = (width - 1) - (width - 1) // 3
    back = width - 1 - front
    return text[:front] + ELLIPSIS + (text[-back:] if back else "")


def table(
    head: Sequence[str],
    rows: Sequence[Sequence[str]],
    width: int,
    spare: Sequence[str] = (),
) -> str:
    """Columns two spaces apart, made to fit.

    Where there is no room, the ``spare`` columns go first, in their order; after that
    the widest cells are shortened.
    """
    columns = [list(column) for column in zip(head, *rows, strict=True)]
    for name in spare:
        if _whole_width(columns) <= width:
            break
        columns = [column for column in columns if column[0] != name]
    widths = [max(map(len, column)) for column in columns]
    while sum(widths) + 2 * (len(widths) - 1) > width:
        widest = max(range(len(widths)), key=lambda i: widths[i])
        if widths[widest] <= NARROWEST_COLUMN:
            break
        widths[widest] -= 1
    lines = (
        "  ".join(
            shorten(cell, w).ljust(w) for cell, w in zip(row, widths, strict=True)
        )
        for row in zip(*columns, strict=True)
    )
    return "\n".join(line.rstrip() for line in lines)


def _whole_width(columns: Sequence[Sequence[str]]) -> int:
    return sum(max(map(len, column)) for column in columns) + 2 * (len(columns) - 1)


def screen_width() -> int:
    """Columns of the terminal; 100 where there is none."""
    return min(shutil.get_terminal_size((100, 24)).columns, WIDEST_SCREEN)


def is_terminal(stream: TextIO | None = None) -> bool:
    """Whether a person looks at the stream (default: standard output)."""
    stream = sys.stdout if stream is None else stream
    return stream.isatty() and os.environ.get("TERM") != "dumb"


def coloured(text: str, kind: str) -> str:
    """The text in the colour of its kind, on a terminal whose owner wants colour."""
    if not is_terminal() or os.environ.get("NO_COLOR"):
        return text
    return f"\x1b[{_COLOURS[kind]}m{text}\x1b[0m"
