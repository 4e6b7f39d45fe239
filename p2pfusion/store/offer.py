"""Offers: what a peer has trained and nobody has fused yet.

An **offer** is one flat file of float32 values: the dense arrays of a split, in the
layout's order, one after the other. The trainer writes it, the daemon maps it and
serves segments from it. Offers need not survive a power failure (the round would be
lost with the trainer anyway), so they are renamed into place but not fsynced.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from p2pfusion.errors import LocalProtocolError
from p2pfusion.split.indices import IndexSet
from p2pfusion.split.layout import Layout
from p2pfusion.split.segment import Segment, Split
from p2pfusion.store.files import (
    FLOAT_BYTES,
    Floats,
    map_floats,
    new_file,
    raw_bytes,
    write_at,
)
from p2pfusion.store.rectangles import pick_segment, total_size

Read = Callable[[Segment], Floats]
"""Gives the values of a segment, shaped like it."""


def write_offer(path: Path, arrays: Sequence[NDArray[np.floating]]) -> None:
    """Write a split's dense arrays, in the layout's order, as one offer file."""
    # What is renamed onto a name that is taken, ext4 begins to write to the disk at
    # once, beside the others' syncs. Whoever has mapped the old offer keeps it.
    path.unlink(missing_ok=True)
    with new_file(path, durable=False) as file:
        offset = 0
        for array in arrays:
            values = raw_bytes(np.ascontiguousarray(array, "<f4"))
            write_at(file, values, offset)
            offset += len(values)


def reading_from(since: Path | None, layout: Layout, split: Split, read: Read) -> Read:
    """Reads what a split's training begins with: by ``read``, or if it goes on from the
    offer ``since``, what that has, and by ``read`` only what is frozen."""
    if since is None:
        return read
    offer, trained = Offer.open(since, layout, split.trained), split.trained

    def values(segment: Segment) -> Floats:
        number = segment.parameter
        is_trained = segment == trained.segment(layout, number)
        return offer.read_array(number) if is_trained else read(segment)

    return values


def add_progress(
    path: Path, since: Path, segments: Sequence[Segment], read: Read
) -> None:
    """Adds to an offer, in place, how far what ``read`` gives is from the offer
    ``since``; both offers are of these segments, one after the other.

    Where the two are equal, not a bit changes.
    """
    size = sum(segment.size for segment in segments)
    trained, before, start = map_floats(path, size), map_floats(since, size), 0
    with open(path, "r+b", buffering=0) as file:
        for segment in segments:
            part = slice(start, start + segment.size)
            moved = read(segment).ravel() - before[part]
            values = raw_bytes(trained[part] + moved)
            write_at(file.fileno(), values, start * FLOAT_BYTES)
            start += segment.size


class Offer:
    """One offer file, mapped read-only; a copy is made only of what is asked for."""

    def __init__(self, arrays: Sequence[Floats], segments: Sequence[Segment]) -> None:
        self._arrays = arrays
        self._segments = segments

    @classmethod
    def open(cls, path: Path, layout: Layout, split: Split) -> Offer:
        """Map the offer of ``split``; ``VerificationError`` if it has another size."""
        segments = tuple(split.segments(layout))
        flat = map_floats(path, sum(segment.size for segment in segments))
        ends = np.cumsum([segment.size for segment in segments]).tolist()
        arrays = tuple(
            flat[end - segment.size : end].reshape(segment.shape)
            for segment, end in zip(segments, ends, strict=True)
        )
        return cls(arrays, segments)

    def read_array(self, parameter_index: int) -> Floats:
        """What the split holds of one parameter: a read-only view of the file."""
        return self._arrays[parameter_index]

    def read_flat(self, segments: Sequence[Segment]) -> Floats:
        """Flat values of segments that lie inside the split."""
        flat = np.empty(total_size(segments), np.float32)
        offset = 0
        for segment in segments:
            into = flat[offset : offset + segment.size].reshape(segment.shape)
            inside = _inside(self._segments[segment.parameter], segment)
            pick_segment(self._arrays[segment.parameter], inside, into)
            offset += segment.size
        return flat


# Windows move in a circle: the same segments come again.
@lru_cache(maxsize=1024)
def _inside(held: Segment, wanted: Segment) -> Segment:
    """Where the one stands in the dense array of the other."""
    try:
        pairs = zip(held.sets, wanted.sets, strict=True)
        places = tuple(_places(a, b) for a, b in pairs)
        return Segment(wanted.parameter, places)
    except ValueError:
        raise LocalProtocolError(
            f"a segment of parameter {wanted.parameter} lies outside the offer"
        ) from None


# Thousands of segments of one plan are made of the same few index sets.
@lru_cache(maxsize=4096)
def _places(held: IndexSet, wanted: IndexSet) -> IndexSet:
    return held.positions(wanted)


# --- Rectangles ----------------------------------------------------------------------
