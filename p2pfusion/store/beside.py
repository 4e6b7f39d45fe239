"""What a module's state dictionary has beside the parameters of a layout.

A layout names every parameter once and knows no buffers. ``load_state_dict`` wants
more: the other names of tied parameters, and buffers. Who knows the module, a trainer,
keeps them in a small safetensors file; who writes a whole model copies them from there,
so that the process which does it needs no torch. In a whole model's metadata stands
which tensors are of this kind: they are no parameters to whoever reads it.
"""

from __future__ import annotations

import json
import math
import mmap
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from p2pfusion.errors import NotFoundError
from p2pfusion.store.checksum import METADATA, read_entries

KEY = "p2pfusion_beside"
"""Of the metadata, here and in a whole model."""


@dataclass(frozen=True)
class Buffer:
    """A tensor of any type, as it is in a safetensors file."""

    dtype: str
    shape: tuple[int, ...]
    data: memoryview

    @property
    def item_bytes(self) -> int:
        """Of one element."""
        return self.data.nbytes // max(1, math.prod(self.shape))


@dataclass(frozen=True)
class Beside:
    """Tied names, parameters without a dimension, and buffers."""

    tied: Mapping[str, str] = field(default_factory=dict)
    """From another name to that of the layout."""
    scalars: frozenset[str] = frozenset()
    """Parameters that the layout gives one dimension of 1, and the module none."""
    buffers: Mapping[str, Buffer] = field(default_factory=dict)

    @property
    def metadata(self) -> dict[str, str]:
        """What a whole model's metadata says of it; nothing if there is nothing."""
        if not self.tied and not self.buffers:
            return {}
        told = {"tied": dict(self.tied), "buffers": sorted(self.buffers)}
        return {KEY: json.dumps(told, sort_keys=True)}


def beside_path(store: Path) -> Path:
    """Where it lies: next to the directory of the store."""
    return store.with_name("beside.safetensors")


def read_beside(path: Path) -> Beside:
    """What a trainer has kept there; nothing if it has kept nothing yet."""
    try:
        entries, base_bytes = read_entries(path)
    except NotFoundError:
        return Beside()
    with open(path, "rb") as file:
        mapped = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
    buffers = {}
    for name, entry in entries.items():
        if name != METADATA and isinstance(entry, dict):
            start, stop = (base_bytes + at for at in entry["data_offsets"])
            shape = tuple(entry["shape"])
            buffers[name] = Buffer(entry["dtype"], shape, mapped[start:stop])
    kept = entries.get(METADATA)
    told = json.loads(kept[KEY]) if isinstance(kept, dict) else {}
    return Beside(told.get("tied", {}), frozenset(told.get("scalars", ())), buffers)


def names_beside(metadata: Mapping[str, object]) -> set[str]:
    """The tensors of a whole model that are no parameters, by its own word."""
    try:
        told = json.loads(str(metadata.get(KEY, "{}")))
        return {*map(str, told.get("tied", {})), *map(str, told.get("buffers", []))}
    except (ValueError, AttributeError, TypeError, RecursionError):
        return set()
