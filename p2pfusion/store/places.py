"""Where values and versions of a store lie, and how a journal's records get there."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from p2pfusion.split.layout import Layout
from p2pfusion.split.segment import Segment
from p2pfusion.store.files import open_to_write, raw_bytes, write_at
from p2pfusion.store.journal import Record, unpack_segments
from p2pfusion.store.rectangles import Part, cut, put

VALUES, VERSIONS = 1, 2
"""Kinds of records in the journal."""


def values_file(path: Path, parameter: int) -> Path:
    """The values of a parameter, in the store's directory."""
    return path / f"values-{parameter:05}.f32"


def versions_file(path: Path, signature_index: int) -> Path:
    """The versions of a signature's cells."""
    return path / f"versions-{signature_index:05}.i32"


class Places:
    """The files of a store: one for each parameter, and one for each signature."""

    def __init__(self, path: Path, layout: Layout) -> None:
        count, signatures = len(layout.parameters), len(layout.signatures)
        self.layout = layout
        self.values = tuple(values_file(path, each) for each in range(count))
        self.versions = tuple(versions_file(path, each) for each in range(signatures))


def apply(
    places: Places,
    records: Iterable[Record],
    known: Sequence[Sequence[Segment]] = (),
) -> list[Path]:
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
    written: list[Path] = []
    for parameter in sorted(parts):
        written.append(places.values[parameter])
        with open_to_write(written[-1]) as file:
            put(file, 0, layout.parameters[parameter].shape, parts[parameter])
    for record in versions:
        written.append(places.versions[int(record.numbers[0])])
        with open_to_write(written[-1]) as file:
            write_at(file, raw_bytes(record.values), 0)
    return written


def sync(paths: Iterable[Path]) -> None:
    """What was written to these files survives a power failure from now on."""
    for path in paths:
        with open_to_write(path) as file:
            os.fsync(file)
