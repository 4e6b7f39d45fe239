"""Whole models as safetensors files, written in bounded memory and never by halves.

The header follows from the layout alone, so the place of every value in the file is
known before the first is written, and values are written where they belong, segment by
segment, in any order. The file appears under its name when all is on disk; a crash
before that leaves the previous one. Format: eight bytes of header length
(little-endian), the header as JSON padded with spaces to a multiple of eight, then the
tensors without gaps. The header has a checksum (``checksum.py``). Where the module's
state dictionary has more than the layout (``beside.py``), that is in the file, too.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from safetensors import SafetensorError, safe_open

from p2pfusion.errors import LayoutError, LocalProtocolError, VerificationError
from p2pfusion.split.depth import tensor_shape
from p2pfusion.split.indices import IndexSet
from p2pfusion.split.layout import Layout
from p2pfusion.split.segment import Segment
from p2pfusion.store.beside import Beside, names_beside
from p2pfusion.store.checksum import (
    BLOCK_BYTES,
    KEY,
    METADATA,
    UNKNOWN,
    seal,
    verify,
)
from p2pfusion.store.files import FLOAT_BYTES, Floats, new_file, write_at
from p2pfusion.store.rectangles import cut, put, row_blocks

ALIGNMENT_BYTES = 8

DTYPE = "F32"
"""Of all parameters, as the format calls it."""

NOTHING_BESIDE = Beside()


@dataclass(frozen=True)
class Place:
    """A tensor of the file: offsets count from the first tensor."""

    dtype: str
    shape: tuple[int, ...]
    start_bytes: int
    stop_bytes: int


class CheckpointWriter:
    """The file being written; made by ``write_checkpoint``."""

    def __init__(
        self, file: int, layout: Layout, places: Mapping[str, Place], base_bytes: int
    ) -> None:
        self._file = file
        self._layout = layout
        self._written_count = 0
        self._bases_bytes = [
            base_bytes + places[parameter.name].start_bytes
            for parameter in layout.parameters
        ]

    def write_flat(self, segments: Sequence[Segment], values: Floats) -> None:
        """Write flat values of segments in place; later values replace earlier ones."""
        for parameter, parts in cut(segments, values).items():
            shape = self._layout.parameters[parameter].shape
            put(self._file, self._bases_bytes[parameter], shape, parts)
        self._written_count += values.size

    def check_complete(self) -> None:
        """``LocalProtocolError`` if some value was certainly never written."""
        if self._written_count < self._layout.size:
            raise LocalProtocolError(
                f"a checkpoint of {self._layout.size} values was given only "
                f"{self._written_count}"
            )


@contextmanager
def write_checkpoint(
    path: Path,
    layout: Layout,
    metadata: Mapping[str, str],
    beside: Beside = NOTHING_BESIDE,
) -> Iterator[CheckpointWriter]:
    """A checkpoint that replaces ``path`` when the block ends without an exception.

    ``ResourceError`` if the disk has no room for it, before anything is written.
    """
    places = _places(layout, beside)
    header = _header(places, {KEY: UNKNOWN, **metadata, **beside.metadata})
    end_bytes = max((place.stop_bytes for place in places.values()), default=0)
    with new_file(path, durable=True) as file:
        # Reserved at once, so that a full disk is found now and not near the end.
        os.posix_fallocate(file, 0, len(header) + end_bytes)
        write_at(file, header, 0)
        for name, buffer in beside.buffers.items():
            write_at(file, buffer.data, len(header) + places[name].start_bytes)
        writer = CheckpointWriter(file, layout, places, len(header))
        yield writer
        writer.check_complete()
        for name, first in beside.tied.items():
            _copy_within(file, len(header), places[first], places[name])
        seal(file, header)


class Readable(Protocol):
    """What has all of a model: a store, or a file."""

    @property
    def layout(self) -> Layout:
        """The model's."""
        ...

    def read(self, segment: Segment) -> Floats:
        """The values of a segment, shaped like it."""
        ...


def copy_model(store: Readable, writer: CheckpointWriter) -> None:
    """Write what a store has seen of the model into a checkpoint, a block at a time.

    Values that nobody trained, as far as this store knows, are the initial ones.
    """
    for index in range(len(store.layout.parameters)):
        for segment in _blocks(store.layout, index):
            writer.write_flat([segment], store.read(segment).reshape(-1))


def read_checkpoint(path: Path) -> tuple[dict[str, Floats], dict[str, str]]:
    """All parameters and the metadata; ``VerificationError`` if the file is damaged.

    A checksum is checked if there is one: files of other programs have none.
    """
    try:
        with safe_open(path, framework="numpy") as file:
            metadata = dict(file.metadata() or {})
            names = set(file.keys()) - names_beside(metadata)
            tensors = {name: file.get_tensor(name) for name in sorted(names)}
        if metadata.pop(KEY, None) is not None and not verify(path):
            raise VerificationError(f"{path} is damaged: its checksum is another")
    except FileNotFoundError:
        raise VerificationError(f"{path} is missing") from None
    # TypeError: a data type that numpy does not know.
    except (SafetensorError, OSError, TypeError) as error:
        raise VerificationError(
            f"{path} is not a whole safetensors file: {error}"
        ) from error
    for name, tensor in tensors.items():
        if tensor.dtype != np.float32:
            raise VerificationError(f"{path}: {name!r} is {tensor.dtype}, not float32")
    return tensors, metadata


def _blocks(layout: Layout, parameter_index: int) -> Iterator[Segment]:
    """A whole parameter as segments of some rows each."""
    shape = layout.parameters[parameter_index].shape
    if not shape:
        yield Segment(parameter_index, ())
        return
    rest = tuple(IndexSet.span(0, length) for length in shape[1:])
    for start, stop in row_blocks(IndexSet.span(0, shape[0]), shape):
        yield Segment(parameter_index, (IndexSet.span(start, stop), *rest))


def _places(layout: Layout, beside: Beside) -> dict[str, Place]:
    """Where everything is; wide types first, so that all of them are aligned."""
    parameters = [
        (p.name, DTYPE, () if p.name in beside.scalars else tensor_shape(p), p.size)
        for p in layout.parameters
    ]
    known = {name: (dtype, shape, size) for name, dtype, shape, size in parameters}
    found = [
        (name, dtype, shape, size * FLOAT_BYTES, FLOAT_BYTES)
        for name, dtype, shape, size in (
            *parameters,
            *((name, *known[first]) for name, first in beside.tied.items()),
        )
    ]
    for name, each in beside.buffers.items():
        found.append((name, each.dtype, each.shape, each.data.nbytes, each.item_bytes))
    found.sort(key=lambda each: -each[-1])
    places: dict[str, Place] = {}
    offset_bytes = 0
    for name, dtype, shape, size_bytes, _ in found:
        if name == METADATA:
            raise LayoutError(
                f"no parameter can be called {METADATA!r} in a checkpoint"
            )
        stop_bytes = offset_bytes + size_bytes
        places[name] = Place(dtype, shape, offset_bytes, stop_bytes)
        offset_bytes = stop_bytes
    return places


def _header(places: Mapping[str, Place], metadata: Mapping[str, str]) -> bytes:
    entries: dict[str, object] = {METADATA: dict(metadata)}
    for name, place in places.items():
        entries[name] = {
            "dtype": place.dtype,
            "shape": place.shape,
            "data_offsets": (place.start_bytes, place.stop_bytes),
        }
    text = json.dumps(entries, separators=(",", ":")).encode()
    text += b" " * (-len(text) % ALIGNMENT_BYTES)
    return len(text).to_bytes(8, "little") + text


def _copy_within(file: int, base_bytes: int, source: Place, target: Place) -> None:
    """The values of a tensor once more, a block at a time."""
    for at in range(0, source.stop_bytes - source.start_bytes, BLOCK_BYTES):
        size_bytes = min(BLOCK_BYTES, source.stop_bytes - source.start_bytes - at)
        block = os.pread(file, size_bytes, base_bytes + source.start_bytes + at)
        write_at(file, block, base_bytes + target.start_bytes + at)
