"""Where values and versions of a store lie, and how a journal's records get there."""

from __future__ import annotations

import os
import weakref
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager
from functools import cached_property
from pathlib import Path

from p2pfusion.split.layout import Layout
from p2pfusion.split.segment import Segment
from p2pfusion.store.files import (
    clear_errors,
    lent,
    open_to_write,
    raw_bytes,
    write_at,
)
from p2pfusion.store.journal import Record, unpack_segments
from p2pfusion.store.rectangles import Part, cut, put

MOST_OPEN = 32
"""Files of a store that stay open once they were written to: a round writes all of
them, and syncs them in another thread, which the loop lets in with each call of the
system. Of larger models none does, since descriptors are few."""

VALUES, VERSIONS = 1, 2
"""Kinds of records in the journal."""


def values_file(path: Path, parameter: int) -> Path:
    """The values of a parameter, in the store's directory."""
    return path / f"values-{parameter:05}.f32"


def versions_file(path: Path, signature_index: int) -> Path:
    """The versions of a signature's cells."""
    return path / f"versions-{signature_index:05}.i32"


class StoreFile:
    """One file of a store, to be read and written in place."""

    def __init__(self, path: Path, *, stays_open: bool) -> None:
        self.path = path
        self._stays_open = stays_open

    def open(self) -> AbstractContextManager[int]:
        """Its descriptor for a while; a full disk inside is a ``ResourceError``."""
        if not self._stays_open:
            return open_to_write(self.path)
        return lent(self.path, self._file)

    @cached_property
    def _file(self) -> int:
        with clear_errors(self.path):
            file = os.open(self.path, os.O_RDWR | os.O_CLOEXEC)
        weakref.finalize(self, os.close, file)
        return file


class Places:
    """The files of a store: one for each parameter, and one for each signature."""

    def __init__(self, path: Path, layout: Layout) -> None:
        count, signatures = len(layout.parameters), len(layout.signatures)
        stays = count + signatures <= MOST_OPEN
        self.layout = layout
        self.values = tuple(
            StoreFile(values_file(path, number), stays_open=stays)
            for number in range(count)
        )
        self.versions = tuple(
            StoreFile(versions_file(path, number), stays_open=stays)
            for number in range(signatures)
        )


def apply(
    places: Places,
    records: Iterable[Record],
    known: Sequence[Sequence[Segment]] = (),
) -> list[StoreFile]:
    """Writes records to their places, values before versions, and syncs nothing; the
    files that were written to. ``ResourceError`` on a full disk.

    ``known``: the segments of the records with values, where they are at hand; else the
    records tell.
    """
    layout, at_hand = places.layout, iter(known)
    parts: dict[int, list[Part]] = {}
    versions: list[Record] = []
    for record in records:
        if record.kind == VERSIONS:
            versions.append(record)
            continue
        segments = next(at_hand, None) or unpack_segments(layout, record.numbers)
        for parameter, some in cut(segments, record.values.view("<f4")).items():
            parts.setdefault(parameter, []).extend(some)
    written: list[StoreFile] = []
    for parameter in sorted(parts):
        written.append(places.values[parameter])
        with written[-1].open() as file:
            put(file, 0, layout.parameters[parameter].shape, parts[parameter])
    for record in versions:
        written.append(places.versions[int(record.numbers[0])])
        with written[-1].open() as file:
            write_at(file, raw_bytes(record.values), 0)
    return written


def sync(written: Iterable[StoreFile]) -> None:
    """What was written to these files survives a power failure from now on."""
    for place in written:
        with place.open() as file:
            os.fsync(file)
