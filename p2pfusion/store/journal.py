"""The store's journal: what a round brought, on disk before anything is overwritten.

A redo journal. Values and versions are appended while they arrive; ``commit`` makes all
of them durable at once, and only then are they written where they belong. A crash thus
finds either a journal that counts, which is applied (again: that changes nothing), or
one that does not, of which nothing was applied.

A file begins with a head: a mark, the length of the records, their CRC-32 and the
number of the commit. It is written at ``commit`` and wiped before the next record, so
records that were torn apart by a power failure are noticed as well. A file keeps its
blocks from round to round: what fitted once fits again, and syncing blocks that exist
is cheaper.

A store has two such files, which take turns (``Journals``). What was committed to one
may thus be synced to its place while the other fills. Both can count after a crash;
applied in the order of their numbers they give what was committed last.

A record is its kind, two counts, whole numbers (64 bits) and 32-bit values.
"""

from __future__ import annotations

import mmap
import os
import struct
import weakref
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import chain
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from p2pfusion.split.indices import IndexSet
from p2pfusion.split.layout import Layout
from p2pfusion.split.segment import Segment
from p2pfusion.store.files import (
    clear_errors,
    raw_bytes,
    sync_directory,
    write_at,
    write_pieces,
)
from p2pfusion.store.rectangles import REMEMBERED_BOXES

MARK = b"p2pf-redo"

CHECKED_BYTES = 1 << 20
"""Read back at a time."""

_HEAD = struct.Struct("<9sxxxxxxxQII")
_RECORD = struct.Struct("<B7xQQ")

Numbers = NDArray[np.int64]
Raw = NDArray[np.float32] | NDArray[np.int32]


@dataclass(frozen=True)
class Record:
    """One entry. ``values`` are a view of the file, to be read at once."""

    kind: int
    numbers: Numbers
    values: NDArray[np.uint32]


class Journal:
    """One journal file, of one writer."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._length = 0
        self._crc = 0
        self._room = 0
        self._is_wiped = False
        self.number = 0
        """Of the last commit; 0 if there is none, or none that counts."""

    def append(self, kind: int, numbers: Numbers, values: Raw, reserve: int) -> None:
        """Adds a record; it counts from ``commit`` on.

        ``reserve`` more bytes are kept free for what comes before that. If the disk is
        full, ``ResourceError``, and the record is not there.
        """
        pieces: list[bytes | memoryview] = [
            _RECORD.pack(kind, numbers.size, values.size),
            raw_bytes(np.ascontiguousarray(numbers, "<i8")),
            raw_bytes(np.ascontiguousarray(values, values.dtype.newbyteorder("<"))),
        ]
        size, crc = sum(map(len, pieces)), self._crc
        with clear_errors(self._path):
            self._wipe()
            start = _HEAD.size + self._length
            self._take_room(start + size + reserve)
            write_pieces(self._file, pieces, start)
        for piece in pieces:
            crc = zlib.crc32(piece, crc)
        self._length, self._crc = self._length + size, crc

    def _wipe(self) -> None:
        """What was committed before is applied and safe: it must not count again."""
        if not self._is_wiped:
            write_at(self._file, bytes(_HEAD.size), 0)
            self._is_wiped = True

    def _take_room(self, stop: int) -> None:
        """Blocks up to here; those that the file has it keeps."""
        if stop > self._room:
            os.posix_fallocate(self._file, self._room, stop - self._room)
            self._room = stop

    def commit(self, number: int) -> None:
        """Everything that was added is durable, and counts, under this number."""
        with clear_errors(self._path):
            crc = _with_number(self._crc, number)
            write_at(self._file, _HEAD.pack(MARK, self._length, crc, number), 0)
            os.fsync(self._file)
        self.number = number

    def clear(self) -> None:
        """All that was committed is in its place, and durable before ``append``."""
        self._length = self._crc = 0
        self._is_wiped = False

    def recover(self) -> bool:
        """Whether an earlier process left a journal that counts; ``records`` has it."""
        if not self._path.exists():
            return False
        file = self._file
        head = os.pread(file, _HEAD.size, 0)
        if len(head) < _HEAD.size:
            return False
        mark, length, crc, number = _HEAD.unpack(head)
        if mark != MARK or os.fstat(file).st_size < _HEAD.size + length:
            return False
        found = _checksum(file, length)
        if _with_number(found, number) != crc:
            return False
        self._length, self._crc, self.number = length, found, number
        return bool(length)

    def records(self) -> Iterator[Record]:
        """What was added, in order."""
        if not self._length:
            return
        stop = _HEAD.size + self._length
        whole = mmap.mmap(self._file, stop, access=mmap.ACCESS_READ)
        at = _HEAD.size
        while at < stop:
            kind, number_count, value_count = _RECORD.unpack_from(whole, at)
            at += _RECORD.size
            numbers = np.frombuffer(whole, "<i8", number_count, at)
            at += numbers.nbytes
            values = np.frombuffer(whole, "<u4", value_count, at)
            at += values.nbytes
            yield Record(kind, numbers, values)

    @cached_property
    def _file(self) -> int:
        """Open from its first use on, until nobody needs this journal any more."""
        with clear_errors(self._path):
            is_new = not self._path.exists()
            file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
            weakref.finalize(self, os.close, file)
            if is_new:
                sync_directory(self._path.parent)
        return file


class Journals:
    """The two files of one store, in turn."""

    def __init__(self, one: Path, other: Path) -> None:
        self._filling, self._last = Journal(one), Journal(other)

    def recover(self) -> Iterator[Journal]:
        """Those that count, the older one first; after that they are as good as
        cleared. The older one, or one that does not count, is filled next: what is in
        the other must not be older than what may still count."""
        found = [each for each in (self._filling, self._last) if each.recover()]
        found.sort(key=lambda journal: journal.number)
        if found and found[-1] is self._filling:
            self._filling, self._last = self._last, self._filling
        for journal in found:
            yield journal
            journal.clear()

    def append(self, kind: int, numbers: Numbers, values: Raw, reserve: int) -> None:
        """Adds a record to the file that is being filled; see ``Journal.append``."""
        self._filling.append(kind, numbers, values, reserve)

    def records(self) -> Iterator[Record]:
        """What was added to it, in order."""
        return self._filling.records()

    def commit(self) -> None:
        """Everything that was added is durable, and counts."""
        self._filling.commit(self._last.number + 1)

    def clear(self) -> None:
        """What was added is in its place, durable or not; it is filled anew."""
        self._filling.clear()

    def turn(self) -> None:
        """What was committed last is in its place: the other file is filled next. What
        was committed to that one must be durable in its place by now."""
        self._filling.clear()
        self._filling, self._last = self._last, self._filling


def _with_number(crc: int, number: int) -> int:
    """The checksum also tells a wrong number; there were none once, so 0 is not in."""
    return zlib.crc32(number.to_bytes(4, "little"), crc) if number else crc


def _checksum(file: int, length: int) -> int:
    crc = 0
    for start in range(0, length, CHECKED_BYTES):
        size = min(CHECKED_BYTES, length - start)
        crc = zlib.crc32(os.pread(file, size, _HEAD.size + start), crc)
    return crc


# --- Segments as whole numbers -------------------------------------------------------


def pack_segments(segments: Sequence[Segment]) -> Numbers:
    """Segments as whole numbers: the parameter, and the ranges of every dimension."""
    return np.fromiter(chain.from_iterable(map(_packed, segments)), np.int64)


def _packed(segment: Segment) -> tuple[int, ...]:
    is_plain = segment.box_count <= REMEMBERED_BOXES
    return _packed_plain(segment) if is_plain else _found_packed(segment)


def _found_packed(segment: Segment) -> tuple[int, ...]:
    packed = [segment.parameter]
    for indices in segment.sets:
        packed.append(len(indices.ranges))
        packed.extend(chain.from_iterable(indices.ranges))
    return tuple(packed)


# Windows move in a circle: the same segments come again.
_packed_plain = lru_cache(maxsize=1024)(_found_packed)


def unpack_segments(layout: Layout, numbers: Numbers) -> tuple[Segment, ...]:
    """The segments that ``pack_segments`` was given."""
    left = iter(numbers.tolist())
    return tuple(
        Segment(
            parameter,
            tuple(_unpacked(left) for _ in layout.parameters[parameter].shape),
        )
        for parameter in left
    )


def _unpacked(left: Iterator[int]) -> IndexSet:
    count = next(left)
    return IndexSet(tuple((next(left), next(left)) for _ in range(count)))
