"""Whole models as safetensors files, written in bounded memory and never by halves.

The header follows from the layout alone, so the place of every value in the file is
known before the first is written, and values are written where they belong, segment by
segment, in any order. The file appears under its name when all is on disk; a crash
before that leaves the previous one. Format: eight bytes of header length
(little-endian), the header as JSON padded with spaces to a multiple of eight, then the
tensors without gaps. The header has a checksum (``checksum.py``).
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open

from p2pfusion.errors import LayoutError, LocalProtocolError, VerificationError
from p2pfusion.split.depth import tensor_shape
from p2pfusion.split.indices import IndexSet
from p2pfusion.split.layout import Layout
from p2pfusion.split.segment import Segment
from p2pfusion.store.checksum import KEY, METADATA, UNKNOWN, seal, verify
from p2pfusion.store.files import FLOAT_BYTES, Floats, new_file, write_at
from p2pfusion.store.rectangles import cut, put, row_blocks
from p2pfusion.store.store import Store

ALIGNMENT_BYTES = 8


class CheckpointWriter:
    """The file being written; made by ``write_checkpoint``."""

    def __init__(self, file: int, layout: Layout, base_bytes: int) -> None:
        self._file = file
        self._layout = layout
        self._written_count = 0
        self._bases_bytes = []
        for parameter in layout.parameters:
            self._bases_bytes.append(base_bytes)
            base_bytes += parameter.size * FLOAT_BYTES

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
    path: Path, layout: Layout, metadata: Mapping[str, str]
) -> Iterator[CheckpointWriter]:
    """A checkpoint that replaces ``path`` when the block ends without an exception.

    ``ResourceError`` if the disk has no room for it, before anything is written.
    """
    header = _header(layout, {KEY: UNKNOWN, **metadata})
    with new_file(path, durable=True) as file:
        # Reserved at once, so that a full disk is found now and not near the end.
        os.posix_fallocate(file, 0, len(header) + layout.size * FLOAT_BYTES)
        write_at(file, header, 0)
        writer = CheckpointWriter(file, layout, len(header))
        yield writer
        writer.check_complete()
        seal(file, header)


def copy_model(store: Store, writer: CheckpointWriter) -> None:
    """Write what a store has seen of the model into a checkpoint, a block at a time.

    Values that nobody trained, as far as this store knows, are the initial ones.
    """
    for index in range(len(store.layout.parameters)):
        for segment in _blocks(store.layout, index):
            writer.write_flat([segment], store.read(segment).reshape(-1))


def read_checkpoint(path: Path) -> tuple[dict[str, Floats], dict[str, str]]:
    """All tensors and the metadata; ``VerificationError`` if the file is damaged.

    A checksum is checked if there is one: files of other programs have none.
    """
    try:
        with safe_open(path, framework="numpy") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            metadata = dict(file.metadata() or {})
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


def _header(layout: Layout, metadata: Mapping[str, str]) -> bytes:
    entries: dict[str, object] = {METADATA: dict(metadata)}
    offset_bytes = 0
    for parameter in layout.parameters:
        if parameter.name == METADATA:
            raise LayoutError(
                f"no parameter can be called {METADATA!r} in a checkpoint"
            )
        stop_bytes = offset_bytes + parameter.size * FLOAT_BYTES
        entries[parameter.name] = {
            "dtype": "F32",
            "shape": tensor_shape(parameter),
            "data_offsets": (offset_bytes, stop_bytes),
        }
        offset_bytes = stop_bytes
    text = json.dumps(entries, separators=(",", ":")).encode()
    text += b" " * (-len(text) % ALIGNMENT_BYTES)
    return len(text).to_bytes(8, "little") + text
