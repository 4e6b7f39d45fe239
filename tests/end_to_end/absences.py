"""Who was away in which rounds, and whether sealed rounds say the same.

The truth is written down by who kills, stops and starts the daemons, in rounds: no
clock is compared with another. A round that was under way when something happened may
go either way; every other may not.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

Row = Mapping[str, object]
"""A sealed round, as the command ``rounds`` tells it."""


@dataclass(frozen=True)
class Absence:
    """One peer, gone for some rounds."""

    name: str
    missed_from: int
    """The first round in which somebody may have missed it: no daemon had sealed it
    when the peer went."""
    gone_from: int
    """The first round that certainly began after the peer went."""
    back_from: int | None = None
    """The first round to which it can have contributed again; None: it stayed away."""

    def covers(self, number: int) -> bool:
        """Whether the peer cannot have contributed to this round."""
        is_back = self.back_from is not None and number >= self.back_from
        return self.gone_from <= number and not is_back


def contributors(row: Row) -> set[str]:
    """Whose values went into a round."""
    return set(_list(row, "contributors"))


def missing(row: Row) -> dict[str, str]:
    """Who was missed in a round, and why."""
    entries = row["missing"]
    assert isinstance(entries, list)
    return {str(entry["name"]): str(entry["reason"]) for entry in entries}


def _list(row: Row, key: str) -> list[str]:
    found = row[key]
    assert isinstance(found, list)
    return [str(each) for each in found]


def wrong_names(
    rounds: Mapping[str, Iterable[Row]],
    absences: Iterable[Absence],
    *,
    rounds_per_epoch: int,
) -> list[str]:
    """What is wrong in the daemons' sealed rounds, by the daemon's name; sentences."""
    by_daemon = {name: {number_of(r): r for r in rows} for name, rows in rounds.items()}
    absences = list(absences)
    found = [*_misses_without_reason(by_daemon), *_ghosts(by_daemon, absences)]
    found += _wrongly_missed(by_daemon, absences)
    for absence in absences:
        found += _not_missed(by_daemon, absence, rounds_per_epoch)
    return found


ByDaemon = Mapping[str, Mapping[int, Row]]


def number_of(row: Row) -> int:
    """Which round it is."""
    number = row["number"]
    assert isinstance(number, int)
    return number


def _all(by_daemon: ByDaemon) -> Iterator[tuple[str, str, int, Row]]:
    """Daemon, how a sentence on its round begins, the number, and the round."""
    for daemon, rows in by_daemon.items():
        for number, row in rows.items():
            yield daemon, f"{daemon}, round {number}", number, row


def _misses_without_reason(by_daemon: ByDaemon) -> Iterator[str]:
    for _, where, _, row in _all(by_daemon):
        for name, reason in missing(row).items():
            if not reason:
                yield f"{where}: {name} is missing without a reason"
        both = contributors(row) & missing(row).keys()
        if both:
            yield f"{where}: {sorted(both)} are missing and contributed"


def _ghosts(by_daemon: ByDaemon, absences: list[Absence]) -> Iterator[str]:
    """Contributions of peers that were gone before the round began."""
    for _, where, number, row in _all(by_daemon):
        for absence in absences:
            if absence.name in contributors(row) and absence.covers(number):
                yield f"{where}: {absence.name} contributed, but was gone"


def _wrongly_missed(by_daemon: ByDaemon, absences: list[Absence]) -> Iterator[str]:
    """Peers that were missed while they were there.

    Who comes back is slow until its trainer has begun; so it may be missed until a
    round of the others that has its values. Until then its own rounds are those that
    the others have finished without it, and say rightly that these are ahead.
    """
    spans = [(a, a.missed_from, _returned(by_daemon, a)) for a in absences]

    def was_away(name: str, number: int) -> bool:
        return any(a.name == name and x <= number < y for a, x, y in spans)

    for daemon, where, number, row in _all(by_daemon):
        if was_away(daemon, number):
            continue
        for name, reason in missing(row).items():
            if not was_away(name, number):
                yield f"{where}: {name} is missing ({reason}), but was there"


def _returned(by_daemon: ByDaemon, absence: Absence) -> float:
    """The first round of another peer with values of one that came back."""
    if absence.back_from is None:
        return float("inf")
    again = (
        number
        for daemon, _, number, row in _all(by_daemon)
        if number >= absence.back_from
        and daemon != absence.name
        and absence.name in contributors(row)
    )
    return min(again, default=float("inf"))


def _not_missed(
    by_daemon: ByDaemon, absence: Absence, rounds_per_epoch: int
) -> Iterator[str]:
    """Rounds that do not name a peer that was gone and, as a member, expected.

    From the first round that nobody names it in, nobody expects it any more: it is out
    of the roster, which happens between epochs, and for everybody at once.
    """
    gone = {
        number: absence.name in missing(row)
        for _, _, number, row in sorted(_all(by_daemon), key=lambda each: each[2])
        if absence.covers(number)
    }
    first_silent = min((n for n, named in gone.items() if not named), default=None)
    for _, where, number, row in _all(by_daemon):
        named = absence.name in missing(row)
        expected = first_silent is None or number < first_silent
        if absence.covers(number) and named is not expected:
            was = "missing" if named else "not missing"
            yield f"{where}: {absence.name} is {was}, unlike in others' rounds"
    if first_silent is not None and first_silent % rounds_per_epoch:
        yield f"round {first_silent}: {absence.name} left inside an epoch"
