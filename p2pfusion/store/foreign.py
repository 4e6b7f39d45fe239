"""Whole models that other programs have written, as checkpoints swarms begin with.

A foreign file has other things, too: values of half precision, names with a prefix
(``module.``, ``transformer.``) or without one, tied parameters under one name or two,
buffers. Here its tensors are matched with a layout's parameters, all that does not fit
is told at once, and the rest is written as float32, a block at a time. Only safetensors
files are read, and the index of one in several parts: a pickle may run any code.
"""

from __future__ import annotations

import json
import math
import mmap
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path

import numpy as np

from p2pfusion.errors import ConfigError, VerificationError
from p2pfusion.split.depth import tensor_shape
from p2pfusion.split.layout import Layout, ParameterSpec
from p2pfusion.split.segment import Segment
from p2pfusion.store.beside import names_beside
from p2pfusion.store.checkpoint import copy_model, write_checkpoint
from p2pfusion.store.checksum import METADATA, read_entries
from p2pfusion.store.files import Floats

INDEX = ".index.json"
"""How the name of the index of several files ends."""

TYPES = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2"}
"""What values can be read from; bfloat16 is the upper half of a float32."""

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Found:
    """A tensor of a foreign file."""

    path: Path
    dtype: str
    shape: Shape
    start_bytes: int


@dataclass(frozen=True)
class Wanted:
    """What a model has: the layout, and names that its module knows beside it."""

    layout: Layout
    tied: Mapping[str, str] = field(default_factory=dict)
    buffers: frozenset[str] = frozenset()

    @property
    def names(self) -> set[str]:
        """All names that a file may have."""
        own = {parameter.name for parameter in self.layout.parameters}
        return {*own, *self.tied, *self.buffers}


def import_model(
    source: Path,
    target: Path,
    wanted: Wanted,
    metadata: Mapping[str, str],
    *,
    ignored: Sequence[str] = (),
) -> list[str]:
    """Writes a checkpoint of a foreign file; the parameters of the head that it lacks.

    ``ignored``: patterns of names that are left out. ``ConfigError`` tells all that
    does not fit, ``VerificationError`` what is damaged.
    """
    found = _matched(source, foreign_tensors(source), wanted, ignored)
    kept = tuple(p for p in wanted.layout.parameters if p.name in found)
    model = _Foreign(Layout(wanted.layout.axes, kept), found)
    with write_checkpoint(target, model.layout, metadata) as writer:
        copy_model(model, writer)
    return [p.name for p in wanted.layout.parameters if p.name not in found]


def foreign_tensors(source: Path) -> dict[str, Found]:
    """All tensors of a file, or of those that an index names."""
    found: dict[str, Found] = {}
    for path in _parts(source):
        entries, base_bytes = read_entries(path)
        size_bytes = path.stat().st_size
        metadata = entries.pop(METADATA, {})
        beside = names_beside(metadata) if isinstance(metadata, dict) else set()
        for name, entry in entries.items():
            if name not in beside:
                found[name] = _tensor(path, name, entry, base_bytes, size_bytes)
    return found


def _parts(source: Path) -> list[Path]:
    if not source.name.endswith(INDEX):
        return [source]
    try:
        names = json.loads(source.read_bytes())["weight_map"].values()
        return [source.with_name(Path(name).name) for name in sorted(set(names))]
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        raise VerificationError(
            f"{source} is not the index of a safetensors file in several parts"
        ) from None


def _tensor(
    path: Path, name: str, entry: object, base_bytes: int, size_bytes: int
) -> Found:
    try:
        assert isinstance(entry, dict)
        shape = tuple(int(length) for length in entry["shape"])
        start, stop = (base_bytes + int(at) for at in entry["data_offsets"])
        dtype = str(entry["dtype"])
    except (AssertionError, KeyError, TypeError, ValueError, OverflowError):
        raise _damaged(path, name) from None
    sound = base_bytes <= start <= stop <= size_bytes
    if dtype in TYPES:
        width = np.dtype(TYPES[dtype]).itemsize
        sound = sound and stop - start == math.prod(shape) * width
    if not sound or min(shape, default=0) < 0:
        raise _damaged(path, name)
    return Found(path, dtype, shape, start)


def _damaged(path: Path, name: str) -> VerificationError:
    return VerificationError(f"{path} is damaged: nothing is where {name!r} should be")


def renamed(names: Iterable[str], known: Iterable[str]) -> dict[str, str]:
    """What the names of a file are called in the model: as they are where they are
    known, and else with one prefix put before them or taken away, that which makes most
    known.
    """
    names, known = list(names), set(known)
    counts = Counter({("", ""): sum(name in known for name in names)})
    for name in names:
        for own in known:
            if own.endswith(f".{name}"):
                counts["", own.removesuffix(name)] += 1
            elif name.endswith(f".{own}"):
                counts[name.removesuffix(own), ""] += 1
    ((less, more), _), *_ = counts.most_common(1)
    return {
        name: name if name in known else more + name.removeprefix(less)
        for name in names
    }


def _matched(
    source: Path, tensors: dict[str, Found], wanted: Wanted, ignored: Sequence[str]
) -> dict[str, Found]:
    """The tensor of every parameter; only those of the head may be lacking, or of
    another shape: then they begin as the seed says."""
    left = {
        name: tensor
        for name, tensor in tensors.items()
        if not any(fnmatchcase(name, pattern) for pattern in ignored)
    }
    owner = {p.name: p.name for p in wanted.layout.parameters} | dict(wanted.tied)
    found: dict[str, Found] = {}
    unknown = []
    for name, own in renamed(left, wanted.names).items():
        if own in owner:
            found.setdefault(owner[own], left[name])
        elif own not in wanted.buffers:
            unknown.append(name)
    head = wanted.layout.layers[-1:]
    lacking, other = [], []
    for parameter in wanted.layout.parameters:
        shape, tensor = tensor_shape(parameter), found.get(parameter.name)
        if tensor is not None and _fits(tensor.shape, shape):
            continue
        found.pop(parameter.name, None)
        if parameter.layer in head:
            continue
        if tensor is None:
            lacking.append(f"{parameter.name} of {shape}")
        else:
            other.append(f"{parameter.name} is {tensor.shape}, not {shape}")
    told = {"lacks": lacking, "has of another shape": other, "does not know": unknown}
    _refuse(source, {what: names for what, names in told.items() if names})
    return found


def _fits(shape: Shape, wanted: Shape) -> bool:
    return shape == wanted or (shape == () and wanted == (1,))


def _refuse(source: Path, told: Mapping[str, list[str]]) -> None:
    if not told:
        return
    words = {
        "lacks": "the file lacks",
        "has of another shape": "it has of another shape",
        "does not know": "the model does not know",
    }
    text = "; ".join(
        f"{words[what]} {len(names)} (first: {names[0]})"
        for what, names in told.items()
    )
    raise ConfigError(
        f"the model cannot begin with {source}: {text}",
        hint="the arguments of the model must be those of the file; what it has too "
        "much can be left out with --ignore PATTERN",
    )


@dataclass(frozen=True)
class _Foreign:
    """A layout of which every parameter is a foreign tensor."""

    layout: Layout
    tensors: Mapping[str, Found]
    maps: dict[Path, mmap.mmap] = field(default_factory=dict)

    def read(self, segment: Segment) -> Floats:
        """Some rows of a parameter; ``VerificationError`` if they are not numbers."""
        parameter = self.layout.parameters[segment.parameter]
        tensor = self.tensors[parameter.name]
        rows = slice(None)
        if segment.sets:
            ((start, stop),) = segment.sets[0].ranges
            rows = slice(start, stop)
        values = self._values(tensor, parameter).reshape(parameter.shape)[rows]
        plain = _floats(values, tensor.dtype)
        if not np.isfinite(plain).all():
            raise VerificationError(
                f"{tensor.path}: {parameter.name} has values that are not finite"
            )
        return plain

    def _values(self, tensor: Found, parameter: ParameterSpec) -> np.ndarray:
        if tensor.dtype not in TYPES:
            raise ConfigError(
                f"{tensor.path}: {parameter.name} is {tensor.dtype}, which is none of "
                + ", ".join(TYPES),
                hint="save it with values of float32",
            )
        if tensor.path not in self.maps:
            with open(tensor.path, "rb") as file:
                mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
            self.maps[tensor.path] = mapped
        return np.frombuffer(
            self.maps[tensor.path],
            TYPES[tensor.dtype],
            parameter.size,
            tensor.start_bytes,
        )


def _floats(values: np.ndarray, dtype: str) -> Floats:
    if dtype != "BF16":
        with np.errstate(over="ignore"):  # what does not fit is found by whoever reads
            return values.astype(np.float32)
    return (values.astype(np.uint32) << 16).view(np.float32)
