"""How a running demo looks: a live table on a terminal, lines in a pipe, or nothing.

Pure but for the writing: a display is told the daemons' last statuses and shows them.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Protocol, TextIO

from p2pfusion.cli.text import duration, is_terminal, number, percent, size

if TYPE_CHECKING:
    from rich.console import Group

Status = Mapping[str, object]
Row = tuple[str, Status]
"""A peer's name and its last status."""

HEAD = ("PEER", "STATE", "ROUND", "PHASE", "LOSS", "ACCURACY", "SENT", "RECEIVED")


class Display(Protocol):
    """Shows progress between entering and leaving."""

    def __enter__(self) -> Display: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...

    def show(self, rows: Sequence[Row], elapsed_s: float) -> None:
        """What the daemons say now."""
        ...

    def say(self, text: str) -> None:
        """Something that happened."""
        ...


def choose_display(rounds: int, *, as_json: bool) -> Display:
    """The display that suits the place the output goes to."""
    if as_json:
        return LiveDisplay(rounds, sys.stderr) if is_terminal(sys.stderr) else Quiet()
    return LiveDisplay(rounds, sys.stdout) if is_terminal() else Lines(rounds)


class Quiet:
    """Shows nothing: the result alone is wanted."""

    def __enter__(self) -> Display:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def show(self, rows: Sequence[Row], elapsed_s: float) -> None:
        """Nothing."""

    def say(self, text: str) -> None:
        """Nothing."""


class Lines(Quiet):
    """One plain line per round at most, for pipes and logs."""

    def __init__(self, rounds: int) -> None:
        self._rounds = rounds
        self._last = -1

    def show(self, rows: Sequence[Row], elapsed_s: float) -> None:
        """A line if the slowest daemon is in a new round."""
        now = slowest_round(rows)
        if now > self._last and now > 0:
            self._last = now
            print(round_line(now, self._rounds, rows, elapsed_s), flush=True)

    def say(self, text: str) -> None:
        """A line of its own."""
        print(text, flush=True)


class LiveDisplay(Quiet):
    """A table and a bar that are drawn over and over."""

    def __init__(self, rounds: int, stream: TextIO) -> None:
        from rich.console import Console
        from rich.live import Live
        from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

        self._console = Console(file=stream, highlight=False)
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.completed:.0f} of {task.total:.0f} rounds"),
            TimeElapsedColumn(),
            console=self._console,
        )
        self._task = self._bar.add_task("Training", total=rounds)
        self._live = Live(console=self._console, refresh_per_second=8, transient=True)

    def __enter__(self) -> Display:
        self._live.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self._live.__exit__(None, None, None)

    def show(self, rows: Sequence[Row], elapsed_s: float) -> None:
        """Draws table and bar anew."""
        self._bar.update(self._task, completed=slowest_round(rows))
        self._live.update(self._group(rows))

    def say(self, text: str) -> None:
        """A line above the table."""
        self._console.print(text, markup=False)

    def _group(self, rows: Sequence[Row]) -> Group:
        from rich.console import Group
        from rich.table import Table

        table = Table(*HEAD, box=None, header_style="bold", pad_edge=False)
        for name, status in rows:
            table.add_row(*peer_cells(name, status))
        return Group(table, self._bar)


def peer_cells(name: str, status: Status) -> tuple[str, ...]:
    """One row of the table."""
    if not status:
        return (name, "starting", *[""] * (len(HEAD) - 2))
    traffic, metrics = _part(status, "traffic"), _part(status, "metrics")
    now = _part(status, "round")
    return (
        name,
        "in the swarm" if status.get("swarm") else "joining",
        number(now.get("number"), "not started"),
        str(now.get("phase") or "waiting"),
        number(metrics.get("loss"), "not yet"),
        percent(_real(metrics, "accuracy"), "not yet"),
        size(_real(traffic, "sent_bytes")),
        size(_real(traffic, "received_bytes")),
    )


def round_line(now: int, rounds: int, rows: Sequence[Row], elapsed_s: float) -> str:
    """``Round 3 of 20 done after 4.1s: mean loss 0.412, ...``."""
    metrics = [_part(status, "metrics") for _, status in rows]
    losses = [x for m in metrics if (x := _real(m, "loss")) is not None]
    accuracies = [x for m in metrics if (x := _real(m, "accuracy")) is not None]
    return (
        f"Round {now} of {rounds} done after {duration(elapsed_s)}: mean loss "
        f"{number(_mean(losses))}, the sub-models' accuracy on own data "
        f"{percent(_mean(accuracies), 'not measured')}"
    )


def slowest_round(rows: Sequence[Row]) -> int:
    """How many rounds every daemon that has answered has finished."""
    numbers = [finished_rounds(status) for _, status in rows if status]
    return min(numbers, default=0)


def finished_rounds(status: Status) -> int:
    """The rounds that this daemon has behind it."""
    now = _part(status, "round")
    done = now.get("phase") == "done"
    value = _part(status, "swarm").get("rounds") if done else now.get("number")
    return value if isinstance(value, int) else 0


def _mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None


def _part(data: Status, key: str) -> Status:
    value = data.get(key)
    return value if isinstance(value, Mapping) else {}


def _real(data: Status, key: str) -> float | None:
    value = data.get(key)
    return float(value) if isinstance(value, (int, float)) else None
