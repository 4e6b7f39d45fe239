"""Depth: layouts of which a split can have some layers and not others.

In a layout that is *cut in depth* each layer n has a **gate**, the axis ``layer n`` of
one index, and all its parameters begin with a dimension of one that follows it. A split
without the index has nothing of the layer. Everything else, ranges, plans, the store,
is the algebra of axes as it is; only where parameters become tensors of a model
(``training/submodel.py``, checkpoints) the first dimension is taken off again.

A split can also hold a layer without training it: its gate is *frozen* then
(``segment.Split``).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import replace

from p2pfusion.split.indices import IndexSet
from p2pfusion.split.layout import GATE, Axis, Dimension, Layout, ParameterSpec
from p2pfusion.split.segment import Split

NOTHING = IndexSet()


def gate(layer: int) -> str:
    """The name of a layer's gate."""
    return f"{GATE}{layer}"


def cut_in_depth(layout: Layout) -> Layout:
    """The same model with a gate for every layer; itself if it has gates already."""
    if is_cut_in_depth(layout):
        return layout
    gates = tuple(Axis(gate(layer), 1) for layer in layout.layers)
    parameters = tuple(
        replace(p, dimensions=(Dimension(1, gate(p.layer)), *p.dimensions))
        for p in layout.parameters
    )
    return Layout((*gates, *layout.axes), parameters)


def without_gates(layout: Layout) -> Layout:
    """The same model as ``cut_in_depth`` found it: its tensors' own shapes."""
    if not is_cut_in_depth(layout):
        return layout
    parameters = tuple(
        replace(parameter, dimensions=tensor_dimensions(parameter))
        for parameter in layout.parameters
    )
    return Layout(layout.widths, parameters)


def is_cut_in_depth(layout: Layout) -> bool:
    """Whether the layout has gates."""
    return len(layout.widths) < len(layout.axes)


def tensor_dimensions(parameter: ParameterSpec) -> tuple[Dimension, ...]:
    """The dimensions of a parameter's tensor: all but a gate's."""
    first, *rest = parameter.dimensions or (None,)
    if first is None or first.axis is None or not first.axis.startswith(GATE):
        return parameter.dimensions
    return tuple(rest)


def tensor_shape(parameter: ParameterSpec) -> tuple[int, ...]:
    """The shape of a parameter's tensor."""
    return tuple(dimension.size for dimension in tensor_dimensions(parameter))


def depth_split(
    layout: Layout, held: Collection[int], *, frozen: Iterable[int] = ()
) -> Split:
    """All widths of the layers that are held; ``frozen`` ones are not trained."""
    closed = {gate(layer) for layer in layout.layers if layer not in held}
    sets = (
        (name, NOTHING if name in closed else indices)
        for name, indices in Split.full(layout).sets
    )
    return Split(tuple(sets), frozenset(map(gate, frozen)))


def private_widths(layout: Layout) -> dict[int, tuple[Axis, ...]]:
    """The *blocks* of a layout: each layer with hidden widths that no other layer
    follows, and these, which can be cut in this layer alone."""
    followers: dict[str, set[int]] = {}
    for parameter in layout.parameters:
        for name in parameter.axes:
            followers.setdefault(name, set()).add(parameter.layer)
    found: dict[int, tuple[Axis, ...]] = {}
    for axis in layout.widths:
        layers = followers.get(axis.name, set())
        if len(layers) == 1:
            (layer,) = layers
            found[layer] = (*found.get(layer, ()), axis)
    return dict(sorted(found.items()))


def first_blocks(layout: Layout, count: int) -> tuple[int, ...]:
    """The layers of a model that ends after so many blocks, ascending.

    Layers before the first block are its input, and always there. Layers behind a
    block that are no blocks are an *exit*, which reads what the blocks before it have
    made of an input. The model has those up to the first one that stands at its end or
    behind it: that one then reads the last block that is there.
    """
    blocks = private_widths(layout)
    seen = read = 0  # blocks so far, and those that the exit before has read
    is_exit = False
    held = []
    for layer in layout.layers:
        if layer in blocks:
            read = seen if is_exit else read
            seen += 1
        is_exit = seen > 0 and layer not in blocks
        if seen <= count if layer in blocks else read < max(1, count):
            held.append(layer)
    return tuple(held)
