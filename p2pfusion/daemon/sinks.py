"""Where the values of arriving streams go: into a sum, or a buffer, then a store."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from p2pfusion.fusion import Cursor
from p2pfusion.split.segment import Segment
from p2pfusion.store import Store

Floats = NDArray[np.float32]


class Sink(Protocol):
    """Where a stream that arrives goes."""

    @property
    def left(self) -> int:
        """How many values are still to come."""
        ...

    def place(self, count: int, scratch: Floats) -> Floats:
        """Where the next ``count`` values can be put, to be added from there:
        ``scratch`` is for sinks that keep none."""
        ...

    def add(self, values: Floats) -> None:
        """The next values, in order."""
        ...

    def finish(self) -> None:
        """All values were added."""
        ...


@dataclass
class KeptSink:
    """Bytes of which each piece by itself means nothing; told when all are there."""

    buffer: NDArray[np.uint32]
    whole: Callable[[NDArray[np.uint32]], None]
    filled_bytes: int = 0

    def take(self, payload: memoryview) -> None:
        """The next bytes, in order."""
        room = self.buffer.data.cast("B")
        room[self.filled_bytes : self.filled_bytes + payload.nbytes] = payload
        self.filled_bytes += payload.nbytes

    def finish(self) -> None:
        """Gives away what has come."""
        self.whole(self.buffer)


@dataclass
class SumSink:
    """A contribution: straight into the sum."""

    cursor: Cursor

    @property
    def left(self) -> int:
        """How many values are still to come."""
        return self.cursor.expected_count - self.cursor.received_count

    def place(self, count: int, scratch: Floats) -> Floats:
        """In the scratch."""
        return scratch[:count]

    def add(self, values: Floats) -> None:
        """Adds to the sum."""
        self.cursor.add(values)

    def finish(self) -> None:
        """Nothing is left to do."""


class Writer(Protocol):
    """What takes the flat values of segments: a store or a checkpoint."""

    def write_flat(self, segments: list[Segment], values: Floats) -> None:
        """Writes them where they belong."""
        ...


@dataclass
class BufferSink:
    """Values that are written when all are there; ``version`` 0 marks none."""

    segments: list[Segment]
    present: list[bool]
    writer: Writer
    version: int
    buffer: Floats
    filled: int = 0

    @property
    def left(self) -> int:
        """How many values are still to come."""
        return self.buffer.size - self.filled

    def place(self, count: int, scratch: Floats) -> Floats:
        """In the buffer, where they stay."""
        return self.buffer[self.filled : self.filled + count]

    def add(self, values: Floats) -> None:
        """Keeps them; those that were put into their place already stay there."""
        place = self.buffer[self.filled : self.filled + values.size]
        if not np.may_share_memory(place, values):
            place[:] = values
        self.filled += values.size

    def finish(self) -> None:
        """Writes the segments that the sender had values for.

        Newer ones stay: a round that a crash has cut short is done again on values that
        were sealed already.
        """
        store = self.writer if isinstance(self.writer, Store) else None
        is_newer = store is not None and store.any_newer(self.segments, self.version)
        kept, values = self.segments, self.buffer
        if is_newer or not all(self.present):
            kept, values = self._kept(store)
        if not kept:
            return
        self.writer.write_flat(kept, values)
        if store is not None:
            store.set_version(kept, self.version)

    def _kept(self, store: Store | None) -> tuple[list[Segment], Floats]:
        """What there are values for, and nothing newer here."""
        kept: list[Segment] = []
        parts: list[Floats] = [np.empty(0, np.float32)]
        start = 0
        for segment, present in zip(self.segments, self.present, strict=True):
            is_newer = store is not None and store.is_newer(segment, self.version)
            if present and not is_newer:
                kept.append(segment)
                parts.append(self.buffer[start : start + segment.size])
            start += segment.size
        return kept, np.concatenate(parts)
