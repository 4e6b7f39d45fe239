"""What a peer has seen of the model, on disk: values, and the version of every cell.

One sparse file of float32 values per parameter, one file of int32 versions per
signature (an array over the grid cells of its axes), ``store.json``, which says whose
they are, and the journal. Version 0 means never trained: such a cell reads as its
seeded initial value, whatever its file holds, so a new store is empty files. Version
``t + 1`` means fused in round ``t``. A store can have a checkpoint beside it
(``pretrained.py``), which its header then names: that has the initial values.

Invariants:

- What is written, values and versions, waits in the journal. ``flush`` makes all of it
  durable, visible here, visible to readers: all or nothing, also in a crash. Until then
  everybody reads what the last ``flush`` left. A cell's values are thus always those of
  its version. Durable it is in the journal; in its place it is synced afterwards, by
  another thread, before the one after the next is written to that journal.
- One process (the daemon) writes; others (the trainer) open the store read-only. Nobody
  locks. The daemon flushes before it tells the trainer to read, and not again until the
  trainer has said that it has read. Whoever opens the store for writing first finishes
  or drops what a crash interrupted; a reader relies on that.
- Memory holds no values that wait; disk holds them twice. Room for them in their place
  is taken before they are accepted (``room.py``), so a full disk refuses them whole.
- Values are read through memory maps but written with ``pwrite``: on a full disk a
  write into the map of a sparse file kills the process (SIGBUS), while ``pwrite``
  returns an error that leaves the daemon alive to serve what it has. Linux keeps both
  views equal.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray

from p2pfusion.errors import ConflictError, LocalProtocolError, VerificationError
from p2pfusion.split.layout import Layout
from p2pfusion.split.segment import Segment
from p2pfusion.store.behind import Behind
from p2pfusion.store.cells import Cells
from p2pfusion.store.files import (
    FLOAT_BYTES,
    Floats,
    check_size,
    clear_errors,
    map_floats,
    new_file,
    open_to_read,
    sync_directory,
    write_at,
)
from p2pfusion.store.initial import fill_initial
from p2pfusion.store.journal import Journals, pack_segments
from p2pfusion.store.places import (
    VALUES,
    VERSIONS,
    Places,
    apply,
    sync,
    values_file,
    versions_file,
)
from p2pfusion.store.pretrained import Pretrained, check_kept, keep
from p2pfusion.store.rectangles import check_values, fetch, pick_segment, total_size
from p2pfusion.store.room import Room

Versions = NDArray[np.int32]

FORMAT = 1
HEADER = "store.json"
JOURNALS = ("journal.redo", "journal-2.redo")
PRETRAINED = "pretrained.safetensors"

MAPPED_FILES = 256
"""Files mapped at a time. Each map holds a descriptor, of which a process has 1024."""


class Store:
    """A peer's values and versions; made by ``create`` or ``open``."""

    def __init__(
        self,
        path: Path,
        layout: Layout,
        seed: int,
        *,
        writable: bool,
        pretrained: Pretrained | None = None,
    ) -> None:
        self._path, self._places = path, Places(path, layout)
        self._pretrained = pretrained
        self._layout = layout
        self._seed = seed
        self._writable = writable
        self._map = lru_cache(maxsize=MAPPED_FILES)(map_floats)
        self._cells = Cells(layout)
        self._journals = Journals(*(path / name for name in JOURNALS))
        self._behind = Behind()
        if writable:
            self._recover()
        # A reader looks into the files whenever it reads.
        count = len(layout.signatures) if writable else 0
        self._loaded = [self._mapped(i).astype(np.int32) for i in range(count)]
        self._next: dict[int, Versions] = {}
        self._room = Room(self._places)
        self._written: list[tuple[Segment, ...]] = []
        self._is_committed = False

    @classmethod
    def create(
        cls, path: Path, layout: Layout, seed: int, pretrained: Path | None = None
    ) -> Self:
        """A new, empty, writable store in the directory ``path``.

        ``pretrained``: a checkpoint with its initial values; ``ConfigError`` if it is
        one of another model.
        """
        if (path / HEADER).exists():
            raise ConflictError(f"{path} already contains a store")
        cells = Cells(layout)
        with clear_errors(path):
            path.mkdir(parents=True, exist_ok=True)
            for name in JOURNALS:
                (path / name).unlink(missing_ok=True)
            begins, name = _begin(path / PRETRAINED, pretrained, layout)
            for index, parameter in enumerate(layout.parameters):
                with open(values_file(path, index), "wb") as file:
                    file.truncate(parameter.size * FLOAT_BYTES)
            for index in range(len(layout.signatures)):
                # With its blocks: a sealed round must find room for its versions.
                zeros = bytes(cells.count(index) * FLOAT_BYTES)
                versions_file(path, index).write_bytes(zeros)
            sync_directory(path)
        # The header comes last: a store that has one is complete.
        with new_file(path / HEADER, durable=True) as file:
            header = _header(layout, seed, name)
            write_at(file, json.dumps(header).encode(), 0)
        return cls(path, layout, seed, writable=True, pretrained=begins)

    @classmethod
    def open(
        cls,
        path: Path,
        layout: Layout,
        seed: int,
        *,
        writable: bool = False,
        pretrained: str | None = None,
    ) -> Self:
        """The store in ``path``; ``VerificationError`` if it is damaged or not ours.

        ``pretrained``: the hash of the checkpoint that it must have begun with, empty
        if with none; not stated, it is what the store says.
        """
        name = _check_header(path / HEADER, layout, seed, pretrained)
        begins = None
        if name:
            check_kept(path / PRETRAINED, name)
            begins = Pretrained(path / PRETRAINED, layout)
        for index, parameter in enumerate(layout.parameters):
            check_size(values_file(path, index), parameter.size)
        cells = Cells(layout)
        for index in range(len(layout.signatures)):
            check_size(versions_file(path, index), cells.count(index))
        return cls(path, layout, seed, writable=writable, pretrained=begins)

    @property
    def layout(self) -> Layout:
        """The model that this store is of."""
        return self._layout

    @property
    def checkpoint(self) -> memoryview:
        """The file with the initial values, mapped; empty if the seed gives them."""
        return memoryview(b"") if self._pretrained is None else self._pretrained.data

    # --- Reading ---------------------------------------------------------------------

    def read(self, segment: Segment) -> Floats:
        """Newest values of a segment, initial ones where nothing was ever stored."""
        values = np.empty(segment.shape, np.float32)
        self._read_into(segment, values)
        return values

    def read_flat(self, segments: Sequence[Segment]) -> Floats:
        """Flat values of segments, one after the other."""
        flat = np.empty(total_size(segments), np.float32)
        offset = 0
        for segment in segments:
            into = flat[offset : offset + segment.size].reshape(segment.shape)
            self._read_into(segment, into)
            offset += segment.size
        return flat

    def _read_into(self, segment: Segment, into: Floats) -> None:
        versions = self._current(self._cells.signature(segment.parameter))
        trained = versions[self._cells.touched(segment)] > 0
        parameter = self._layout.parameters[segment.parameter]
        path = self._places.values[segment.parameter].path
        if trained.all():
            whole = self._map(path, parameter.size).reshape(parameter.shape)
            pick_segment(whole, segment, into)
            return
        # Not through the map: a look at a hole may take a block (on a tmpfs), and be
        # fatal if there is none.
        if trained.any():
            with open_to_read(path) as file:
                fetch(file, parameter.shape, segment.sets, into)
        never = self._cells.of_elements(segment, versions == 0)
        if self._pretrained and self._pretrained.has(segment.parameter):
            self._pretrained.fill(segment, never, into)
        else:
            fill_initial(self._layout, self._seed, segment, never, into)

    def let_go(self) -> None:
        """Unmaps all files: what was read of them would go on to count as this
        process's memory."""
        self._map.cache_clear()

    def versions(self, signature_index: int) -> Versions:
        """The version of every grid cell of a signature: a copy."""
        return self._current(signature_index).copy()

    def all_versions(self) -> tuple[Versions, ...]:
        """Those of all signatures: copies."""
        return tuple(map(self.versions, range(len(self.layout.signatures))))

    def holds(self, segment: Segment, wanted: Sequence[Versions]) -> bool:
        """Whether every cell of a segment has at least the wanted version.

        ``wanted`` is per signature an array over its cells, as ``versions`` gives it.
        """
        index = self._cells.signature(segment.parameter)
        place = self._cells.touched(segment)
        return bool((self._current(index)[place] >= wanted[index][place]).all())

    def is_newer(self, segment: Segment, version: int, *, sealed: bool = False) -> bool:
        """Whether any cell of a segment has more than this version: what reading gives
        (``sealed``), or what waits for the next ``flush`` as well."""
        index = self._cells.signature(segment.parameter)
        newest = self._current(index)
        newest = newest if sealed else self._next.get(index, newest)
        return bool((newest[self._cells.touched(segment)] > version).any())

    def any_newer(self, segments: Sequence[Segment], version: int) -> bool:
        """The same of segments as ``set_version`` takes them, with what waits."""
        return any(
            bool((self._next.get(index, self._loaded[index])[mask] > version).any())
            for index, mask in self._cells.covered(segments).items()
        )

    # --- Writing ---------------------------------------------------------------------

    def write_flat(self, segments: Sequence[Segment], values: Floats) -> None:
        """Keep flat values of segments for the next ``flush``.

        ``ResourceError`` on a full disk: then none of them is kept.
        """
        self._check_writable()
        check_values(segments, values)
        self._finish_apply()
        self._room.take(segments, values)
        # What the end of the round needs is kept free: its values must not be lost
        # for want of the few bytes of their versions.
        numbers = pack_segments(segments)
        self._journals.append(VALUES, numbers, values, reserve=self._versions_bytes)
        self._written.append(tuple(segments))

    def set_version(self, segments: Sequence[Segment], version: int) -> None:
        """Mark the cells that the segments cover, in every parameter of a signature.

        The segments must cover whole cells, the same in all parameters of a signature,
        and no cell may go back to an older version; ``LocalProtocolError`` otherwise.
        It counts from the next ``flush`` on.
        """
        self._check_writable()
        self._finish_apply()
        marked = self._cells.covered(segments)
        for index, mask in marked.items():
            newest = self._next.get(index, self._loaded[index])
            if version < 1 or (newest[mask] > version).any():
                raise LocalProtocolError(f"version {version} would replace a newer one")
        for index, mask in marked.items():
            if index not in self._next:
                self._next[index] = self._loaded[index].copy()
            self._next[index][mask] = version

    def flush(self, *, durable: bool = True) -> None:
        """Make everything that was written safe on disk and visible to readers.

        ``ResourceError`` on a full disk: then it waits on for the next try. Not
        ``durable``: a power failure may take it.
        """
        self._check_writable()
        if not self._is_committed:
            if not self._written and not self._next:
                return
            for index, versions in sorted(self._next.items()):
                number = np.array([index], np.int64)
                self._journals.append(VERSIONS, number, versions.ravel(), reserve=0)
            if durable:
                self._journals.commit()
            self._is_committed = True
        self._finish_apply(durable=durable)

    @cached_property
    def _versions_bytes(self) -> int:
        """More than the records of all versions take."""
        cells = sum(versions.size for versions in self._loaded)
        return 2 * cells * FLOAT_BYTES + 64 * len(self._loaded)

    def _finish_apply(self, *, durable: bool = True) -> None:
        """Writes what counts by now to its place, if that was not done yet."""
        if not self._is_committed:
            return
        try:
            self._apply(durable=durable)
        except BaseException:
            # Some of it may be there: these cells are as good as lost, for the moment.
            for index, versions in self._next.items():
                self._loaded[index][versions != self._loaded[index]] = 0
            raise
        for index, versions in self._next.items():
            self._loaded[index] = versions
        self._next.clear()
        self._written.clear()
        self._is_committed = False

    def _apply(self, *, durable: bool) -> None:
        """Writes what counts to its place; syncing that is nothing to wait for, since
        the journal keeps it until the round after the next."""
        records = self._journals.records()
        written = apply(self._places, records, self._written)
        if durable:
            self._behind.begin(lambda: sync(written))
            self._journals.turn()
        else:
            self._journals.clear()

    def _recover(self) -> None:
        """Applies what a crash has left."""
        for journal in self._journals.recover():
            sync(apply(self._places, journal.records()))

    def _current(self, signature_index: int) -> Versions:
        if self._writable:
            return self._loaded[signature_index]
        return self._mapped(signature_index)

    def _mapped(self, signature_index: int) -> Versions:
        path, count = self._places.versions[signature_index].path, self._cells.count
        mapped = self._map(path, count(signature_index)).view("<i4")
        return mapped.reshape(self._cells.shape(signature_index))

    def _check_writable(self) -> None:
        if not self._writable:
            raise LocalProtocolError(f"the store {self._path} is open for reading only")


# --- Files ---------------------------------------------------------------------------


def _begin(
    kept: Path, source: Path | None, layout: Layout
) -> tuple[Pretrained | None, str]:
    """Keeps the checkpoint of a new store; its values, and its hash."""
    if source is None:
        return None, ""
    Pretrained(source, layout)  # of another model, it is not even kept
    name = keep(source, kept)
    return Pretrained(kept, layout), name


def _header(layout: Layout, seed: int, pretrained: str) -> dict[str, int | str]:
    begins = {"pretrained": pretrained} if pretrained else {}
    return {"format": FORMAT, "layout": layout.digest.hex(), "seed": seed, **begins}


def _check_header(path: Path, layout: Layout, seed: int, pretrained: str | None) -> str:
    """The hash of the checkpoint that the store began with; empty if with none."""
    try:
        found = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise VerificationError(f"{path} is missing: this is no store") from None
    except ValueError:
        raise VerificationError(f"{path} is damaged") from None
    stated = found.get("pretrained", "") if isinstance(found, dict) else ""
    name = str(stated) if pretrained is None else pretrained
    if found != _header(layout, seed, name):
        raise VerificationError(
            f"{path}: this store belongs to another swarm, or to another version",
            hint="give each swarm a home of its own, or move this store away",
        )
    return name
