"""A graph of the full model, rewritten for the widths of one split.

Operators stay what they are; numbers in them that follow from a width change with it:
shapes, borders of slices, counts of groups. Sums over a width of which only a part is
there become those of ``parts.py``, and take a factor as one more input of the graph.
What a number of the graph is made of is known from the factors of its dimensions, never
guessed from its value. The number of records is read from the records.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from math import gcd, prod

import torch
from torch import fx
from torch._ops import OpOverload

from p2pfusion.training.tracing import parts
from p2pfusion.training.tracing.calls import Call, Spread, place
from p2pfusion.training.tracing.factors import Factor, Factors, leaves, size
from p2pfusion.training.tracing.graphs import RECORDS, Program
from p2pfusion.training.tracing.shape_rules import gone, slice_range
from p2pfusion.training.tracing.width_rules import factors_of_product, reduced_dims

Number = int | fx.Node
"""A number that is known, or one that follows from the number of records."""
Sizes = Mapping[Factor, int]
"""How many positions of each axis there are."""

aten = torch.ops.aten


@dataclass(frozen=True)
class Reading:
    """A sum over a part of an axis. ``across``: it sums over all blocks of the axis, in
    a model that begins silent between them, too."""

    axis: Factor
    size: int
    full_size: int
    across: bool


@dataclass
class Cutter:
    """Rewrites one graph."""

    program: Program
    spread: Spread
    sizes: Sizes
    graph: fx.Graph = field(default_factory=fx.Graph)
    readings: list[Reading] = field(default_factory=list)
    _env: dict[fx.Node, fx.Node] = field(default_factory=dict)
    _factors: list[fx.Node] = field(default_factory=list)
    _counts: dict[int, fx.Node] = field(default_factory=dict)

    def cut(self) -> fx.GraphModule:
        """The rewritten graph, whose inputs are the program's and then the factors."""
        for node in self.program.graph.nodes:
            if node.op == "call_function" and isinstance(node.target, OpOverload):
                call = Call.of(node)
                rewrite = REWRITES.get(call.name, REWRITES.get(call.name.rstrip("_")))
                self._env[node] = rewrite(self, call) if rewrite else self.again(call)
            else:
                self._env[node] = self.graph.node_copy(node, self._env.__getitem__)
        self.graph.lint()
        return fx.GraphModule(torch.nn.Module(), self.graph)

    def again(self, call: Call, **changes: object) -> fx.Node:
        """The same operator with some arguments changed."""
        target = call.node.target
        assert isinstance(target, OpOverload)
        found = {**call.arguments, **changes}
        if found.get("device") is not None:
            found["device"] = self._device()
        args = [found[a.name] for a in target._schema.arguments if not a.kwarg_only]
        kwargs = {
            a.name: found[a.name]
            for a in target._schema.arguments
            if a.kwarg_only and found[a.name] is not None
        }
        return self.put(target, *args, **kwargs)

    def put(
        self, target: Callable[..., object], *args: object, **kwargs: object
    ) -> fx.Node:
        """A new operator; nodes of the old graph among its arguments are translated."""
        known, named = fx.map_arg(
            (args, kwargs),  # type: ignore[type-var]
            lambda node: self._env.get(node, node),
        )
        return self.graph.call_function(target, known, named)  # type: ignore[arg-type]

    def records(self) -> fx.Node:
        """The input that has the records."""
        pairs = zip(self.program.placeholders, self.program.inputs, strict=True)
        return next(self._env[node] for node, what in pairs if what.kind == RECORDS)

    def _device(self) -> fx.Node:
        return self.put(getattr, self.records(), "device")

    def length(self, factors: Factors) -> Number:
        """The size of a dimension in the sub-model."""
        found = leaves(factors)
        static = prod(self.sizes.get(f, f.size) for f in found if not f.is_batch)
        if not any(f.is_batch for f in found):
            return static
        return self._records_times(static)

    def _records_times(self, static: int) -> fx.Node:
        if static not in self._counts:
            records = self.records()
            args = (records, 0) if static == 1 else (self._records_times(1), static)
            computes = aten.sym_size.int if static == 1 else operator.mul
            before = self._counts[1] if static != 1 else self._last_input()
            with self.graph.inserting_after(before):
                self._counts[static] = self.graph.call_function(computes, args)
        return self._counts[static]

    def _last_input(self) -> fx.Node:
        return [node for node in self.graph.nodes if node.op == "placeholder"][-1]

    def lengths(self, node: fx.Node) -> list[Number]:
        """The shape of a tensor in the sub-model."""
        return [self.length(factors) for factors in self.spread.shape(node)]

    def factor(self, factors: Factors, *, across: bool) -> fx.Node | None:
        """The factor of a sum over a dimension, if it is cut; an input of the graph."""
        axes = [f for f in leaves(factors) if f in self.sizes]
        present = prod(self.sizes[f] for f in axes)
        whole = prod(f.size for f in axes)
        if present == whole:
            return None
        self.readings.append(Reading(axes[0], present, whole, across))
        with self.graph.inserting_after(self._last_input()):
            return self.graph.placeholder(f"factor_{len(self.readings) - 1}")

    def is_cut(self, factors: Factors) -> bool:
        """Whether a dimension follows an axis of the layout."""
        return any(f in self.sizes for f in leaves(factors))


def _shaped(key: str) -> Callable[[Cutter, Call], fx.Node]:
    def rewrite(cutter: Cutter, call: Call) -> fx.Node:
        return cutter.again(call, **{key: cutter.lengths(call.node)})

    return rewrite


def _unflattened(cutter: Cutter, call: Call) -> fx.Node:
    count = len(call.first.meta["val"].shape)
    start = place(call.whole("dim"), count)
    found = cutter.lengths(call.node)[start:]
    return cutter.again(call, sizes=found[: len(call.wholes("sizes"))])


def _repeated(cutter: Cutter, call: Call) -> fx.Node:
    shape = cutter.spread.shapes[call.node]
    assert isinstance(shape, tuple)
    times = call.wholes("repeats")
    new = [
        cutter.length(factors[:1]) if n != 1 else 1
        for n, factors in zip(times, shape, strict=True)
    ]
    return cutter.again(call, repeats=new)


def _cut_apart(cutter: Cutter, call: Call) -> fx.Node:
    shapes = cutter.spread.shapes[call.node]
    assert isinstance(shapes, list)
    dim = place(call.whole("dim"), len(shapes[0]))
    sizes = [cutter.length(shape[dim]) for shape in shapes]
    return cutter.put(aten.split_with_sizes.default, call.first, sizes, dim)


def _sliced(cutter: Cutter, call: Call) -> fx.Node:
    dim, start, stop = slice_range(call)
    length = call.first.meta["val"].shape[dim]
    if call.arguments.get("step", 1) != 1 or stop <= start:
        return cutter.again(call)
    if stop - start == length:
        return cutter.put(aten.alias.default, call.first)
    part = gcd(start, stop, length)
    shape = cutter.spread.shapes[call.node]
    assert isinstance(shape, tuple)
    inner = shape[dim][1:] if stop - start > part else shape[dim]
    width = cutter.length(inner)
    assert isinstance(width, int), "a slice of records would have split the batch"
    borders = (start // part * width, stop // part * width)
    return cutter.put(aten.slice.Tensor, call.first, dim, *borders)


def _squeezed(cutter: Cutter, call: Call) -> fx.Node:
    return cutter.put(aten.squeeze.dims, call.first, gone(call))


def _weighted(cutter: Cutter, call: Call) -> fx.Node:
    """linear, convolution: the weight takes the factor, and has the groups left."""
    weight = call.tensor("weight")
    rows, columns, *_ = (*cutter.spread.shape(weight), (), ())
    changes: dict[str, object] = {}
    groups = call.arguments.get("groups", 1)
    if isinstance(groups, int) and groups > 1:
        spatial = len(cutter.spread.shape(weight)) - 2
        channels = cutter.spread.shape(call.tensor("input"))[-spatial - 1]
        width = cutter.length(channels)
        assert isinstance(width, int)
        return cutter.again(call, groups=groups * width // size(channels))
    factor = cutter.factor(columns, across=not cutter.is_cut(rows))
    if factor is not None:
        changes["weight"] = cutter.put(parts.times, weight, factor)
    return cutter.again(call, **changes)


def _multiplied(cutter: Cutter, call: Call) -> fx.Node:
    """matmul and others: the one that is a weight takes the factor."""
    one, other = factors_of_product(call)
    left, right = cutter.spread.shape(one), cutter.spread.shape(other)
    weight = one if one in cutter.spread.fixed else other
    free = left[:-1] if weight is one else right[-1:] if len(right) > 1 else ()
    across = not any(cutter.is_cut(factors) for factors in free)
    factor = cutter.factor(left[-1], across=across)
    if factor is None:
        return cutter.again(call)
    scaled = cutter.put(parts.times, weight, factor)
    keys = [k for k, value in call.arguments.items() if value is weight and k != "self"]
    if call.name not in ("addmm", "baddbmm") and weight is one:
        keys = ["self"]
    return cutter.again(call, **{keys[0]: scaled})


def _counted(cutter: Cutter, call: Call) -> fx.Node:
    """arange: if it counts the records, as many as there are."""
    (factors,) = cutter.spread.shape(call.node)
    if not any(factor.is_batch for factor in factors):
        return cutter.again(call)
    return cutter.again(call, end=cutter.length(factors))


def _normed(cutter: Cutter, call: Call) -> fx.Node:
    values, weight = call.tensor("input"), call.tensor("weight")
    last = cutter.spread.shape(values)[-1]
    factor = cutter.factor(last, across=True)
    if factor is None:
        return cutter.again(call)
    eps = call.arguments["eps"]
    if call.name == "rms_norm":
        rest: tuple[object, ...] = (weight, eps, factor, size(last))
        return cutter.put(parts.rms_norm, values, *rest)
    rest = (weight, call.tensor("bias"), eps, factor, size(last))
    return cutter.put(parts.layer_norm, values, *rest)


def _standing(cutter: Cutter, call: Call) -> fx.Node:
    """batch_norm: a variance that has travelled in few bits can be a little below zero,
    and none is."""
    if call.arguments.get("training") or call.tensor("running_var") is None:
        return cutter.again(call)
    variance = cutter.put(torch.clamp_min, call.tensor("running_var"), 0.0)
    return cutter.again(call, running_var=variance)


def _grouped(cutter: Cutter, call: Call) -> fx.Node:
    channels = cutter.spread.shape(call.tensor("input"))[1]
    width, groups = cutter.length(channels), call.whole("num_groups")
    assert isinstance(width, int)
    return cutter.again(call, num_groups=groups * width // size(channels))


def _reduced(cutter: Cutter, call: Call) -> fx.Node:
    shape = cutter.spread.shape(call.first)
    everything = tuple(f for dim in reduced_dims(call) for f in shape[dim])
    found, factor = cutter.again(call), cutter.factor(everything, across=True)
    if factor is None:
        return found
    if call.name == "sum":
        return cutter.put(parts.times, found, factor)
    reading = cutter.readings[-1]
    present = reading.size / reading.full_size
    return cutter.put(parts.mean_factor, found, factor, present)


Rewrite = Callable[[Cutter, Call], fx.Node]

REWRITES: Mapping[str, Rewrite] = {
    **dict.fromkeys(
        (
            *("view", "_unsafe_view", "expand", "zeros", "ones", "full"),
            *("empty", "new_zeros", "new_ones", "new_full", "new_empty"),
        ),
        _shaped("size"),
    ),
    "reshape": _shaped("shape"),
    "unflatten": _unflattened,
    "repeat": _repeated,
    **dict.fromkeys(("split", "split_with_sizes", "chunk"), _cut_apart),
    **dict.fromkeys(("slice", "narrow"), _sliced),
    "squeeze": _squeezed,
    **dict.fromkeys(("linear", "conv1d", "conv2d", "conv3d"), _weighted),
    **dict.fromkeys(("matmul", "mm", "bmm", "addmm", "baddbmm"), _multiplied),
    **dict.fromkeys(("layer_norm", "rms_norm"), _normed),
    "arange": _counted,
    "batch_norm": _standing,
    "group_norm": _grouped,
    **dict.fromkeys(("mean", "sum"), _reduced),
}
