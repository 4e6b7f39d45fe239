"""A model as data: its axes, and which axis every parameter dimension follows.

An **axis** is a hidden width of the model: every tensor dimension that must be cut with
the same index set follows the same axis (a residual stream is one axis, however many
layers read and write it). A **dimension** says how a tensor's dimension is made of an
axis: ``outer`` copies of it (attention heads of ``axis.size`` channels each), each
position repeated ``inner`` times (a flattened feature map of ``inner`` pixels per
channel). A dimension without an axis is never cut.

A layout can be *cut in depth*, too (``depth.py``): then every layer has an axis of its
own, of one index, its **gate**, which the first dimension of its parameters follows.

Layouts travel in the manifest, so they are plain data, and a daemon plans without
torch. Invariants, checked on construction: names are unique; a dimension's size equals
``outer * axis.size * inner``; an axis is a whole number of units; and the work of
planning with the layout is bounded, whoever wrote it.
"""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import dataclass
from functools import cached_property

from p2pfusion.errors import LayoutError
from p2pfusion.limits import MAX_CELLS_PER_AXIS, MAX_LAYOUT_ELEMENTS, MAX_PARAMETERS
from p2pfusion.split.indices import IndexSet

INITIAL_KINDS = ("zeros", "ones", "uniform")

GATE = "layer "
"""How the names of gates begin, and of no other axes."""

MAX_DIMENSIONS = 8
"""Dimensions of one tensor: a three-dimensional convolution has five."""

MAX_AXES_PER_PARAMETER = 3
"""Cut dimensions of one tensor. A plan has up to 32 cells for each, multiplied."""

MAX_GRID_CELLS = 1 << 22
"""Cells of all signatures together: five times a transformer of a hundred layers."""

MAX_OUTER = 4_096
"""Copies of an axis in one dimension, each with its own ranges: 64 x 64 pixels of a
flattened channels-last image, or thirty times the attention heads in common use."""

MAX_OUTER_SUM = 1 << 18
"""Copies of axes in the whole layout: a thousand tensors of 256 heads."""


@dataclass(frozen=True)
class Axis:
    """One hidden width. ``unit``: indices that may not be separated (a norm group)."""

    name: str
    size: int
    unit: int = 1

    def __post_init__(self) -> None:
        sound = 1 <= self.unit <= self.size <= MAX_LAYOUT_ELEMENTS
        if not sound or self.size % self.unit:
            raise LayoutError(
                f"axis {self.name!r}: size {self.size} is not a positive multiple of "
                f"its unit {self.unit}"
            )

    @property
    def is_gate(self) -> bool:
        """Whether it is no width, but says whether a layer is there at all."""
        return self.name.startswith(GATE)

    @cached_property
    def cell_size(self) -> int:
        """Indices per grid cell: windows start and end on cells, at most 32 an axis.

        The finest grid that divides the axis evenly is preferred, so that every
        window of a given width holds the same number of indices wherever it lies.
        """
        units = self.size // self.unit
        fewest = -(-units // MAX_CELLS_PER_AXIS)
        counts = range(min(units, MAX_CELLS_PER_AXIS), 0, -1)
        even = (units // count for count in counts if units % count == 0)
        finest = next(even)
        return (finest if finest <= 2 * fewest else fewest) * self.unit

    @property
    def cell_count(self) -> int:
        """Number of grid cells; the last may be smaller than the others."""
        return -(-self.size // self.cell_size)

    def cells(self, cells: IndexSet) -> IndexSet:
        """The axis' indices that lie in the given grid cells."""
        size = self.cell_size
        return IndexSet.from_ranges(
            (start * size, min(stop * size, self.size)) for start, stop in cells.ranges
        )

    def cells_in(self, indices: IndexSet) -> IndexSet:
        """The grid cells that ``indices`` consists of; the inverse of ``cells``.

        ``LayoutError`` if it reaches beyond the axis or holds part of a cell only.
        """
        size = self.cell_size
        for bound in (bound for span in indices.ranges for bound in span):
            if bound > self.size or (bound % size and bound != self.size):
                name = self.name
                raise LayoutError(f"a set does not consist of cells of axis {name!r}")
        return IndexSet(tuple((a // size, -(-b // size)) for a, b in indices.ranges))


@dataclass(frozen=True)
class Dimension:
    """One dimension of a tensor: ``outer`` x axis x ``inner``, or never cut."""

    size: int
    axis: str | None = None
    outer: int = 1
    inner: int = 1

    def expand(self, indices: IndexSet | None, axis_size: int) -> IndexSet:
        """This dimension's positions for an index set of its axis (None: all)."""
        if self.axis is None or indices is None:
            return IndexSet.span(0, self.size)
        return IndexSet.from_ranges(
            ((block * axis_size + start) * self.inner,
             (block * axis_size + stop) * self.inner)
            for block in range(self.outer)
            for start, stop in indices.ranges
        )  # fmt: skip


@dataclass(frozen=True)
class Initial:
    """Rule for a parameter's value before anybody trained it.

    ``uniform`` draws from (-bound, bound), seeded per parameter by the manifest. With
    ``blocks`` above 1, entries that join different blocks of two axes are zero
    (``blocks.py``).
    """

    kind: str
    bound: float = 0.0
    blocks: int = 1

    def __post_init__(self) -> None:
        if self.kind not in INITIAL_KINDS:
            raise LayoutError(f"unknown initial-value rule {self.kind!r}")
        if not (math.isfinite(self.bound) and self.bound >= 0):
            raise LayoutError(f"initial-value bound {self.bound} is not a finite width")
        if not 1 <= self.blocks <= MAX_CELLS_PER_AXIS:
            raise LayoutError(f"initial values in {self.blocks} blocks")

    def to_data(self) -> list[object]:
        """A plain list, the shortest that says all."""
        blocks = [self.blocks] if self.blocks > 1 else []
        return [self.kind, self.bound, *blocks]


@dataclass(frozen=True)
class ParameterSpec:
    """One parameter tensor: name, dimensions, initial value, layer (0 = input side)."""

    name: str
    dimensions: tuple[Dimension, ...]
    initial: Initial
    layer: int = 0

    @cached_property
    def shape(self) -> tuple[int, ...]:
        """Full shape of the tensor."""
        return tuple(dimension.size for dimension in self.dimensions)

    @property
    def size(self) -> int:
        """Number of elements of the full tensor."""
        return math.prod(self.shape)

    @property
    def axes(self) -> tuple[str, ...]:
        """The axes that its dimensions follow, in order: its signature."""
        return tuple(d.axis for d in self.dimensions if d.axis is not None)


@dataclass(frozen=True)
class Signature:
    """Parameters that follow the same axes, hence share one plan."""

    axes: tuple[str, ...]
    parameters: tuple[int, ...]


@dataclass(frozen=True)
class Layout:
    """All axes and parameters of a model, in the order of its state dictionary."""

    axes: tuple[Axis, ...]
    parameters: tuple[ParameterSpec, ...]

    def __post_init__(self) -> None:
        if max(len(self.axes), len(self.parameters)) > MAX_PARAMETERS:
            raise LayoutError(f"a layout has more than {MAX_PARAMETERS} parameters")
        if len(self._axes) != len(self.axes):
            raise LayoutError("two axes have the same name")
        if len({p.name for p in self.parameters}) != len(self.parameters):
            raise LayoutError("two parameters have the same name")
        for parameter in self.parameters:
            self._check(parameter)
        self._check_cost()

    @cached_property
    def _hash(self) -> int:
        return int.from_bytes(self.digest[:8], "big")

    def __hash__(self) -> int:
        return self._hash

    def _check(self, parameter: ParameterSpec) -> None:
        if len(parameter.dimensions) > MAX_DIMENSIONS:
            raise LayoutError(f"parameter {parameter.name!r} has too many dimensions")
        widths = [axis for axis in parameter.axes if not axis.startswith(GATE)]
        if len(widths) > MAX_AXES_PER_PARAMETER:
            raise LayoutError(
                f"parameter {parameter.name!r} follows an axis in more than "
                f"{MAX_AXES_PER_PARAMETER} dimensions"
            )
        for dimension in parameter.dimensions:
            self._check_dimension(parameter.name, dimension)

    def _check_dimension(self, parameter: str, dimension: Dimension) -> None:
        if dimension.size < 1 or dimension.outer < 1 or dimension.inner < 1:
            raise LayoutError(f"parameter {parameter!r} has an empty dimension")
        if dimension.axis is None:
            return
        if dimension.axis not in self._axes:
            raise LayoutError(
                f"parameter {parameter!r} follows unknown axis {dimension.axis!r}"
            )
        if dimension.outer > MAX_OUTER:
            raise LayoutError(
                f"parameter {parameter!r}: a dimension repeats its axis more than "
                f"{MAX_OUTER} times"
            )
        axis_size = self._axes[dimension.axis].size
        if dimension.size != dimension.outer * axis_size * dimension.inner:
            raise LayoutError(
                f"parameter {parameter!r}: a dimension of {dimension.size} is "
                f"not {dimension.outer} x {axis_size} x {dimension.inner}"
            )

    def _check_cost(self) -> None:
        """Bounds what anybody does with a layout before anybody does it."""
        copies = sum(
            dimension.outer
            for parameter in self.parameters
            for dimension in parameter.dimensions
            if dimension.axis is not None
        )
        cells = sum(
            math.prod(self.axis(name).cell_count for name in signature.axes)
            for signature in self.signatures
        )
        bounds = ((self.size, MAX_LAYOUT_ELEMENTS), (copies, MAX_OUTER_SUM))
        for amount, bound in (*bounds, (cells, MAX_GRID_CELLS)):
            if amount > bound:
                raise LayoutError("the layout is larger than this version allows")

    @cached_property
    def _axes(self) -> dict[str, Axis]:
        return {axis.name: axis for axis in self.axes}

    def axis(self, name: str) -> Axis:
        """The axis of that name; ``KeyError`` if there is none."""
        return self._axes[name]

    @cached_property
    def widths(self) -> tuple[Axis, ...]:
        """The axes that are hidden widths: all but the gates."""
        return tuple(axis for axis in self.axes if not axis.is_gate)

    @cached_property
    def layers(self) -> tuple[int, ...]:
        """The numbers of all layers, ascending."""
        return tuple(sorted({parameter.layer for parameter in self.parameters}))

    @cached_property
    def size(self) -> int:
        """Number of elements of the whole model."""
        return sum(parameter.size for parameter in self.parameters)

    @cached_property
    def signatures(self) -> tuple[Signature, ...]:
        """Parameters grouped by the axes they follow, in order of first appearance."""
        groups: dict[tuple[str, ...], list[int]] = {}
        for index, parameter in enumerate(self.parameters):
            groups.setdefault(parameter.axes, []).append(index)
        return tuple(Signature(axes, tuple(found)) for axes, found in groups.items())

    @cached_property
    def blocks(self) -> int:
        """How many blocks begin without a connection between them; 1 if all is one."""
        return max((p.initial.blocks for p in self.parameters), default=1)

    @cached_property
    def digest(self) -> bytes:
        """SHA-256 of the canonical data."""
        text = json.dumps(self.to_data(), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).digest()

    def to_data(self) -> dict[str, list[list[object]]]:
        """Plain lists, for the manifest."""
        return {
            "axes": [[axis.name, axis.size, axis.unit] for axis in self.axes],
            "parameters": [
                [
                    p.name,
                    [[d.size, d.axis, d.outer, d.inner] for d in p.dimensions],
                    p.initial.to_data(),
                    p.layer,
                ]
                for p in self.parameters
            ],
        }

    @classmethod
    def from_data(cls, data: object) -> Layout:
        """The layout that ``to_data`` described; ``LayoutError`` for anything else."""
        if not isinstance(data, dict) or set(data) != {"axes", "parameters"}:
            raise LayoutError("a layout has exactly the keys 'axes' and 'parameters'")
        return cls(
            tuple(_axis(row) for row in _rows(data["axes"], "list of axes")),
            tuple(
                _parameter(row) for row in _rows(data["parameters"], "parameter list")
            ),
        )


def _rows(value: object, what: str) -> list[object]:
    if not isinstance(value, (list, tuple)) or len(value) > MAX_PARAMETERS:
        raise LayoutError(f"malformed {what} in a layout")
    return list(value)


def _row(value: object, length: int, what: str) -> list[object]:
    row = _rows(value, what)
    if len(row) != length:
        raise LayoutError(f"malformed {what} in a layout")
    return row


def _text(value: object, what: str) -> str:
    if not isinstance(value, str):
        raise LayoutError(f"malformed {what} in a layout")
    return value


def _count(value: object, what: str) -> int:
    """A number that can count elements; larger ones are not even worth printing."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise LayoutError(f"malformed {what} in a layout")
    if not 0 <= value <= MAX_LAYOUT_ELEMENTS:
        raise LayoutError(f"a number of a layout's {what} is out of range")
    return value


def _axis(value: object) -> Axis:
    name, size, unit = _row(value, 3, "axis")
    return Axis(_text(name, "axis"), _count(size, "axis"), _count(unit, "axis"))


def _dimension(value: object) -> Dimension:
    size, axis, outer, inner = _row(value, 4, "dimension")
    return Dimension(
        _count(size, "dimension"),
        None if axis is None else _text(axis, "dimension"),
        _count(outer, "dimension"),
        _count(inner, "dimension"),
    )


def _initial(value: object) -> Initial:
    what = "initial-value rule"
    row = _rows(value, what)
    if len(row) not in (2, 3) or row[2:] == [1]:
        raise LayoutError(f"malformed {what} in a layout")
    kind, bound, *blocks = row
    if not isinstance(bound, float):
        bound = float(_count(bound, what))
    return Initial(_text(kind, what), bound, *(_count(each, what) for each in blocks))


def _parameter(value: object) -> ParameterSpec:
    name, dimensions, initial, layer = _row(value, 4, "parameter")
    return ParameterSpec(
        _text(name, "parameter"),
        tuple(_dimension(row) for row in _rows(dimensions, "parameter")),
        _initial(initial),
        _count(layer, "parameter"),
    )
