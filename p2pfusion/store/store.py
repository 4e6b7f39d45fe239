"""What a peer has seen of the model, on disk: values, and the version of every cell.

One sparse file of float32 values per parameter, one file of int32 versions per
signature (an array over the grid cells of its axes), and ``store.json``, which says
whose they are. Version 0 means never trained: such a cell reads as its seeded initial
value, whatever its file holds, so a new store is empty files. Version ``t + 1`` means
fused in round ``t``.

Invariants:

- One process (the daemon) writes; others (the trainer) open the store read-only. Nobody
  locks. A reader sees the versions of the last ``flush`` and values as they are
  written, so the daemon flushes before it tells the trainer to read, and writes no cell
  that the trainer is told to read until the trainer has said that it has read.
- Versions change in memory and reach their files only in ``flush``, after the values
  are safe on disk. A crash thus leaves old versions, never a version without its
  values. A cell that was being overwritten may then hold some values of the newer
  version; they were never announced, and the newer version is fetched or fused again.
- Values are read through memory maps but written with ``pwrite``: on a full disk a
  write into the map of a sparse file kills the process (SIGBUS), while ``pwrite``
  returns an error that leaves the daemon alive to serve what it has. Linux keeps both
  views equal.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from p2pfusion.errors import ConflictError, LocalProtocolError, VerificationError
from p2pfusion.split.indices import IndexSet
from p2pfusion.split.layout import Axis, Dimension, Layout
from p2pfusion.split.segment import Segment
from p2pfusion.store.files import (
    FLOAT_BYTES,
    Floats,
    check_size,
    clear_errors,
    map_floats,
    new_file,
    open_to_write,
    raw_bytes,
    sync_directory,
    write_at,
)
from p2pfusion.store.initial import fill_initial
from p2pfusion.store.rectangles import boxes, cut, numbers, pick, put

Versions = NDArray[np.int32]
Cells = tuple[IndexSet, ...]

FORMAT = 1
HEADER = "store.json"

MAPPED_FILES = 256
"""Files mapped at a time. Each map holds a descriptor, of which a process has 1024."""


class Store:
    """A peer's values and versions; made by ``create`` or ``open``."""

    def __init__(
        self, path: Path, layout: Layout, seed: int, *, writable: bool
    ) -> None:
        self._path = path
        self._layout = layout
        self._seed = seed
        self._writable = writable
        self._map = lru_cache(maxsize=MAPPED_FILES)(map_floats)
        self._signature_of = {
            parameter: index
            for index, signature in enumerate(layout.signatures)
            for parameter in signature.parameters
        }
        self._loaded = [self._load(i) for i in range(len(layout.signatures))]
        self._unsynced_parameters: set[int] = set()
        self._unsynced_signatures: set[int] = set()

    @classmethod
    def create(cls, path: Path, layout: Layout, seed: int) -> Store:
        """A new, empty, writable store in the directory ``path``."""
        if (path / HEADER).exists():
            raise ConflictError(f"{path} already contains a store")
        with clear_errors(path):
            path.mkdir(parents=True, exist_ok=True)
            for index, parameter in enumerate(layout.parameters):
                _new_sparse(_values_file(path, index), parameter.size)
            for index in range(len(layout.signatures)):
                cell_count = math.prod(_version_shape(layout, index))
                _new_sparse(_versions_file(path, index), cell_count)
            sync_directory(path)
        # The header comes last: a store that has one is complete.
        with new_file(path / HEADER, durable=True) as file:
            write_at(file, json.dumps(_header(layout, seed)).encode(), 0)
        return cls(path, layout, seed, writable=True)

    @classmethod
    def open(
        cls, path: Path, layout: Layout, seed: int, *, writable: bool = False
    ) -> Store:
        """The store in ``path``; ``VerificationError`` if it is damaged or not ours."""
        _check_header(path / HEADER, _header(layout, seed))
        for index, parameter in enumerate(layout.parameters):
            check_size(_values_file(path, index), parameter.size)
        return cls(path, layout, seed, writable=writable)

    @property
    def layout(self) -> Layout:
        """The model that this store is of."""
        return self._layout

    # --- Values ----------------------------------------------------------------------

    def read(self, segment: Segment) -> Floats:
        """Newest values of a segment, initial ones where nothing was ever stored."""
        values = np.empty(segment.shape, np.float32)
        self._read_into(segment, values)
        return values

    def read_flat(self, segments: Sequence[Segment]) -> Floats:
        """Flat values of segments, one after the other."""
        flat = np.empty(sum(segment.size for segment in segments), np.float32)
        offset = 0
        for segment in segments:
            into = flat[offset : offset + segment.size].reshape(segment.shape)
            self._read_into(segment, into)
            offset += segment.size
        return flat

    def write_flat(self, segments: Sequence[Segment], values: Floats) -> None:
        """Store flat values of segments; their versions stay as they are.

        ``ResourceError`` on a full disk: some of the values may then be written.
        """
        self._check_writable()
        for parameter, parts in cut(segments, values).items():
            self._unsynced_parameters.add(parameter)
            with open_to_write(_values_file(self._path, parameter)) as file:
                put(file, 0, self._layout.parameters[parameter].shape, parts)

    def _read_into(self, segment: Segment, into: Floats) -> None:
        versions = self._current(self._signature_of[segment.parameter])
        cells = tuple(_touched_cells(*pair) for pair in self._followed(segment))
        trained = versions[np.ix_(*(numbers(indices) for indices in cells))] > 0
        if trained.any():
            parameter = self._layout.parameters[segment.parameter]
            path = _values_file(self._path, segment.parameter)
            whole = self._map(path, parameter.size).reshape(parameter.shape)
            pick(whole, segment.sets, into)
        if not trained.all():
            never = self._never_trained(segment, versions)
            fill_initial(self._layout, self._seed, segment, never, into)

    def _never_trained(self, segment: Segment, versions: Versions) -> NDArray[np.bool_]:
        """A mask over the segment's dense array (axis by axis, so mostly strides 0)."""
        rows = (_cell_numbers(*pair) for pair in self._followed(segment))
        never = versions[np.ix_(*rows)] == 0
        dimensions = self._layout.parameters[segment.parameter].dimensions
        shape = tuple(
            1 if dimension.axis is None else length
            for dimension, length in zip(dimensions, segment.shape, strict=True)
        )
        return np.broadcast_to(never.reshape(shape), segment.shape)

    # --- Versions --------------------------------------------------------------------

    def versions(self, signature_index: int) -> Versions:
        """The version of every grid cell of a signature: a copy."""
        return self._current(signature_index).copy()

    def set_version(self, segments: Sequence[Segment], version: int) -> None:
        """Mark the cells that the segments cover, in every parameter of a signature.

        The segments must cover whole cells, the same in all parameters of a signature,
        and no cell may go back to an older version; ``LocalProtocolError`` otherwise.
        """
        self._check_writable()
        marked = self._covered(segments)
        for index, mask in marked.items():
            if version < 1 or (self._loaded[index][mask] > version).any():
                raise LocalProtocolError(f"version {version} would replace a newer one")
        for index, mask in marked.items():
            self._loaded[index][mask] = version
            self._unsynced_signatures.add(index)

    def holds(self, segment: Segment, wanted: Sequence[Versions]) -> bool:
        """Whether every cell of a segment has at least the wanted version.

        ``wanted`` is per signature an array over its cells, as ``versions`` gives it.
        """
        index = self._signature_of[segment.parameter]
        cells = [numbers(_touched_cells(*pair)) for pair in self._followed(segment)]
        place = np.ix_(*cells)
        return bool((self._current(index)[place] >= wanted[index][place]).all())

    def flush(self) -> None:
        """Make values, then versions, safe on disk and visible to readers."""
        self._check_writable()
        for parameter in sorted(self._unsynced_parameters):
            _sync(_values_file(self._path, parameter), None)
        self._unsynced_parameters.clear()
        # Entries are aligned words, each old or new after a power failure; both are
        # true by now of the values in their cell, or of those it held before.
        for index in sorted(self._unsynced_signatures):
            _sync(_versions_file(self._path, index), self._loaded[index])
        self._unsynced_signatures.clear()

    def _covered(self, segments: Sequence[Segment]) -> dict[int, NDArray[np.bool_]]:
        masks: dict[int, NDArray[np.bool_]] = {}
        for segment in segments:
            if segment.parameter not in masks:
                shape = self._loaded[self._signature_of[segment.parameter]].shape
                masks[segment.parameter] = np.zeros(shape, np.bool_)
            for place, _ in boxes(self._whole_cells(segment)):
                masks[segment.parameter][place] = True
        found: dict[int, NDArray[np.bool_]] = {}
        for index in {self._signature_of[parameter] for parameter in masks}:
            first, *others = self._layout.signatures[index].parameters
            same = all(
                np.array_equal(masks.get(first, False), masks.get(other, False))
                for other in others
            )
            if not same:
                raise LocalProtocolError(
                    f"segments cover other cells of {self._name(first)} than of "
                    "another parameter with the same axes"
                )
            found[index] = masks[first]
        return found

    def _whole_cells(self, segment: Segment) -> Cells:
        cells = []
        for dimension, axis, indices in self._followed(segment):
            touched = _touched_cells(dimension, axis, indices)
            if not _is_whole(dimension, axis, indices):
                raise LocalProtocolError(
                    f"a segment of {self._name(segment.parameter)} cuts through cells "
                    f"of axis {axis.name!r}"
                )
            cells.append(touched)
        if not self._is_full_elsewhere(segment):
            raise LocalProtocolError(
                f"a segment of {self._name(segment.parameter)} cuts a dimension that "
                "follows no axis"
            )
        return tuple(cells)

    def _is_full_elsewhere(self, segment: Segment) -> bool:
        dimensions = self._layout.parameters[segment.parameter].dimensions
        return all(
            dimension.axis is not None or len(indices) == dimension.size
            for dimension, indices in zip(dimensions, segment.sets, strict=True)
        )

    def _followed(self, segment: Segment) -> list[tuple[Dimension, Axis, IndexSet]]:
        """Dimensions that follow an axis, with the axis and the segment's positions."""
        dimensions = self._layout.parameters[segment.parameter].dimensions
        return [
            (dimension, self._layout.axis(dimension.axis), indices)
            for dimension, indices in zip(dimensions, segment.sets, strict=True)
            if dimension.axis is not None
        ]

    def _name(self, parameter: int) -> str:
        return repr(self._layout.parameters[parameter].name)

    def _current(self, signature_index: int) -> Versions:
        if self._writable:
            return self._loaded[signature_index]
        return self._load(signature_index)

    def _load(self, signature_index: int) -> Versions:
        shape = _version_shape(self._layout, signature_index)
        path = _versions_file(self._path, signature_index)
        check_size(path, math.prod(shape))
        return np.fromfile(path, "<i4").astype(np.int32).reshape(shape)

    def _check_writable(self) -> None:
        if not self._writable:
            raise LocalProtocolError(f"the store {self._path} is open for reading only")


# --- Cells ---------------------------------------------------------------------------


# Thousands of segments of one plan are made of the same few index sets.
@lru_cache(maxsize=4096)
def _touched_cells(dimension: Dimension, axis: Axis, indices: IndexSet) -> IndexSet:
    """The cells of an axis that some positions of a dimension lie in."""
    spans: list[tuple[int, int]] = []
    for start, stop in indices.ranges:
        first, last = start // dimension.inner, -(-stop // dimension.inner)
        spans.extend(IndexSet.cyclic(first, last - first, axis.size).ranges)
    size = axis.cell_size
    return IndexSet.from_ranges(
        (start // size, -(-stop // size)) for start, stop in spans
    )


@lru_cache(maxsize=4096)
def _is_whole(dimension: Dimension, axis: Axis, indices: IndexSet) -> bool:
    """Whether positions of a dimension are all those of the cells that they touch."""
    cells = axis.cells(_touched_cells(dimension, axis, indices))
    return dimension.expand(cells, axis.size) == indices


def _cell_numbers(
    dimension: Dimension, axis: Axis, indices: IndexSet
) -> NDArray[np.int64]:
    """The cell of every position."""
    return numbers(indices) // dimension.inner % axis.size // axis.cell_size


def _version_shape(layout: Layout, signature_index: int) -> tuple[int, ...]:
    axes = layout.signatures[signature_index].axes
    return tuple(layout.axis(axis).cell_count for axis in axes)


# --- Files ---------------------------------------------------------------------------


def _values_file(path: Path, parameter: int) -> Path:
    return path / f"values-{parameter:05}.f32"


def _versions_file(path: Path, signature_index: int) -> Path:
    return path / f"versions-{signature_index:05}.i32"


def _new_sparse(path: Path, element_count: int) -> None:
    with open(path, "wb") as file:
        file.truncate(element_count * FLOAT_BYTES)


def _sync(path: Path, content: NDArray[np.int32] | None) -> None:
    with open_to_write(path) as file:
        if content is not None:
            write_at(file, raw_bytes(np.ascontiguousarray(content, "<i4")), 0)
        os.fsync(file)


def _header(layout: Layout, seed: int) -> dict[str, int | str]:
    return {"format": FORMAT, "layout": layout.digest.hex(), "seed": seed}


def _check_header(path: Path, expected: dict[str, int | str]) -> None:
    try:
        found = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise VerificationError(f"{path} is missing: this is no store") from None
    except ValueError:
        raise VerificationError(f"{path} is damaged") from None
    if found != expected:
        raise VerificationError(
            f"{path}: this store belongs to another swarm, or to another version",
            hint="give each swarm a home of its own, or move this store away",
        )
