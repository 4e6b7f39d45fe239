"""Texts with a label each, in tables: one loader per kind."""

from __future__ import annotations

from pathlib import Path

from p2pfusion.errors import DataError
from p2pfusion.training.data.benchmarks import benchmark_directory, needed
from p2pfusion.training.data.examples import MAX_CLASSES
from p2pfusion.training.data.formats import read_table
from p2pfusion.training.data.texts import Texts, texts
from p2pfusion.training.data.vocabulary import Coding

LABEL = "label"
TEXT_COLUMNS = ("text", "sentence")


def tsv(path: str | None, part: str, coding: Coding) -> Texts | None:
    """Fields between tabs, without quotes, below a header of ``text`` and ``label``."""
    return _table(needed(path, "tsv", "a .tsv file"), "tsv", part, coding)


def csv(path: str | None, part: str, coding: Coding) -> Texts | None:
    """Fields between commas, perhaps in quotes, below the same header."""
    return _table(needed(path, "csv", "a .csv file"), "csv", part, coding)


def sst2(path: str | None, part: str, coding: Coding) -> Texts | None:
    """The benchmark of film reviews: 0 is a bad one, 1 a good one."""
    instead = 'use kind = "tsv" with the directory of train.tsv and test.tsv'
    directory = Path(path) if path else benchmark_directory("sst2", instead)
    return _table(directory, "tsv", part, coding)


def _table(place: Path, ending: str, part: str, coding: Coding) -> Texts | None:
    """A file, all of which is for training; or train and test in a directory."""
    if not place.is_dir():
        return _read(place, coding) if part == "train" else None
    for file in (place / f"{part}.{ending}", place / f"{part}.{ending}.gz"):
        if file.is_file():
            if part == "test" and coding.vocabulary is None:
                learned = _table(place, ending, "train", coding)
                assert learned is not None
                length = learned.tokens.shape[1]
                coding = Coding(learned.vocabulary, length=length)
            return _read(file, coding)
    if part == "test":
        return None
    raise DataError(f"{place}: there is neither train.{ending} nor train.{ending}.gz")


def _read(file: Path, coding: Coding) -> Texts:
    header, *rows = read_table(file)
    names = [name.strip().lower() for name in header]
    written = [names.index(name) for name in TEXT_COLUMNS if name in names]
    if LABEL not in names or not written:
        raise DataError(
            f"{file}: the header has {', '.join(header)[:80]!r}",
            hint=f"its columns must be {' or '.join(TEXT_COLUMNS)}, and {LABEL}",
        )
    if not rows:
        raise DataError(f"{file}: there are no records")
    column = names.index(LABEL)
    labels = [_label(row[column], record, file) for record, row in enumerate(rows)]
    return texts([row[written[0]] for row in rows], labels, coding, "word")


def _label(field: str, record: int, file: Path) -> int:
    good = field.isascii() and field.isdigit() and len(field) < 10
    if not good or int(field) >= MAX_CLASSES:
        raise DataError(
            f"{file}: record {record} has the label {field[:40]!r}",
            hint="classes are whole numbers from 0: names would mean other numbers to "
            "peers with other data",
        )
    return int(field)
