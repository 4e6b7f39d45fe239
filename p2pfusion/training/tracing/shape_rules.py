"""Rules of operators that move values and do not change them.

Each is right for any tensor; where a factor would fall apart in a way that no cut of it
could follow, it is held.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from math import gcd

from torch import fx

from p2pfusion.training.tracing.calls import (
    POSITIONS,
    Call,
    Rule,
    Shapes,
    Spread,
    new_shape,
    place,
)
from p2pfusion.training.tracing.factors import (
    Factors,
    Shape,
    fresh,
    hold,
    leaves,
    regroup,
    size,
    unify,
)

PIECES = "parts of it are used apart"
ORDER = "its order is changed"


def reshaped(spread: Spread, call: Call) -> Shapes:
    """view, reshape, flatten, unflatten."""
    shape = spread.shape(call.first)
    everything = tuple(factor for factors in shape for factor in factors)
    return regroup(everything, call.result)


def same(spread: Spread, call: Call) -> Shapes:
    """Another tensor of the same dimensions."""
    return spread.shape(call.first)


def permuted(spread: Spread, call: Call) -> Shapes:
    """permute."""
    shape = spread.shape(call.first)
    return tuple(shape[dim] for dim in call.wholes("dims"))


def transposed(spread: Spread, call: Call) -> Shapes:
    """transpose, t."""
    shape = list(spread.shape(call.first))
    if call.name in ("t", "numpy_T"):
        return tuple(reversed(shape))
    one, other = call.whole("dim0"), call.whole("dim1")
    shape[one], shape[other] = shape[other], shape[one]
    return tuple(shape)


def moved(spread: Spread, call: Call) -> Shapes:
    """movedim."""
    shape = spread.shape(call.first)
    count = len(shape)
    sources = [place(dim, count) for dim in call.wholes("source")]
    goals = [place(dim, count) for dim in call.wholes("destination")]
    rest = iter(dim for dim in range(count) if dim not in sources)
    order = dict(zip(goals, sources, strict=True))
    return tuple(shape[order[d] if d in order else next(rest)] for d in range(count))


def unsqueezed(spread: Spread, call: Call) -> Shapes:
    """unsqueeze."""
    shape = spread.shape(call.first)
    dim = place(call.whole("dim"), len(shape) + 1)
    return (*shape[:dim], (), *shape[dim:])


def gone(call: Call) -> list[int]:
    """The dimensions that a squeeze takes away: those of 1, if they are named."""
    before = call.first.meta["val"].shape
    named = call.wholes("dim") if "dim" in call.arguments else range(len(before))
    dims = {place(dim, len(before)) for dim in named}
    return [dim for dim in sorted(dims) if before[dim] == 1]


def squeezed(spread: Spread, call: Call) -> Shapes:
    """squeeze."""
    out = gone(call)
    shape = spread.shape(call.first)
    return tuple(factors for dim, factors in enumerate(shape) if dim not in out)


def expanded(spread: Spread, call: Call) -> Shapes:
    """expand: what was 1 is new, and follows nothing yet."""
    shape, result = spread.shape(call.first), call.result
    old: list[Factors] = [()] * (len(result) - len(shape)) + list(shape)
    return tuple(
        factors if size(factors) == length else fresh(length)
        for factors, length in zip(old, result, strict=True)
    )


def repeated(spread: Spread, call: Call) -> Shapes:
    """repeat: every dimension is copied so many times, copy after copy."""
    shape, times = spread.shape(call.first), call.wholes("repeats")
    old: list[Factors] = [()] * (len(times) - len(shape)) + list(shape)
    return tuple((*fresh(n), *f) for n, f in zip(times, old, strict=True))


def each_repeated(spread: Spread, call: Call) -> Shapes:
    """repeat_interleave by a number: every index is copied so many times."""
    times, dim = call.arguments["repeats"], call.arguments["dim"]
    shape = list(spread.shape(call.first))
    if not isinstance(times, int) or not isinstance(dim, int):
        spread.hold_all(call.node.all_input_nodes, ORDER)
        return new_shape(call.node.meta["val"], ORDER)
    shape[dim] = (*shape[dim], *fresh(times, ORDER))
    return tuple(shape)


def selected(spread: Spread, call: Call) -> Shapes:
    """select: one index of a dimension."""
    shape = list(spread.shape(call.first))
    hold(shape.pop(call.whole("dim")), PIECES)
    return tuple(shape)


def unbound(spread: Spread, call: Call) -> Shapes:
    """unbind: every index of a dimension."""
    shape = list(spread.shape(call.first))
    dim = place(call.whole("dim"), len(shape))
    count = size(shape[dim])
    hold(shape.pop(dim), PIECES)
    return [tuple(shape)] * count


def pieces(factors: Factors, borders: list[int]) -> list[Factors]:
    """A dimension in pieces with these borders, the first of which is 0.

    All pieces are whole copies of one part, the largest that fits them all: queries,
    keys and values of one size share their factors.
    """
    part = gcd(*borders)
    copies, inner = regroup(factors, (borders[-1] // part, part))
    hold(copies, PIECES)
    lengths = (b - a for a, b in pairwise(borders))
    return [(*fresh(length // part, PIECES), *leaves(inner)) for length in lengths]


def cut_apart(spread: Spread, call: Call) -> Shapes:
    """split, chunk: a dimension in several pieces."""
    values = call.node.meta["val"]
    shape = list(spread.shape(call.first))
    dim = place(call.whole("dim"), len(shape))
    borders = [0]
    for value in values:
        borders.append(borders[-1] + value.shape[dim])
    found = []
    for piece in pieces(shape[dim], borders):
        shape[dim] = piece
        found.append(tuple(shape))
    return found


def slice_range(call: Call) -> tuple[int, int, int]:
    """Dimension, start and end of a slice."""
    before = call.first.meta["val"].shape
    dim = place(call.whole("dim"), len(before))
    length = before[dim]
    if call.name == "narrow":
        start, stop = call.whole("start"), call.whole("start") + call.whole("length")
    else:
        given = call.arguments["start"], call.arguments["end"]
        start, stop, _ = slice(*given).indices(length)  # type: ignore[misc]
    return dim, start, stop


def sliced(spread: Spread, call: Call) -> Shapes:
    """slice, narrow."""
    shape = list(spread.shape(call.first))
    dim, start, stop = slice_range(call)
    length = size(shape[dim])
    if call.arguments.get("step", 1) != 1 or stop <= start:
        hold(shape[dim], PIECES)
        shape[dim] = fresh(call.result[dim], PIECES)
    elif stop - start < length:
        borders = sorted({0, start, stop, length})
        found = pieces(shape[dim], borders)
        shape[dim] = found[borders.index(start)]
    return tuple(shape)


def _several(call: Call) -> list[fx.Node]:
    found = call.arguments["tensors"]
    assert isinstance(found, (list, tuple))
    return list(found)


def joined(spread: Spread, call: Call) -> Shapes:
    """cat: all pieces are copies of one part, as far as their sizes allow."""
    shapes = [spread.shape(node) for node in _several(call)]
    dim = place(call.whole("dim"), len(shapes[0]))
    lengths = [size(shape[dim]) for shape in shapes]
    part = gcd(*lengths)
    inner = fresh(part)
    for shape, length in zip(shapes, lengths, strict=True):
        copies, factors = regroup(shape[dim], (length // part, part))
        hold(copies, PIECES)
        unify(factors, inner)
        inner = leaves(inner)
    out = _alongside(shapes, dim)
    out[dim] = (*fresh(sum(lengths) // part, PIECES), *inner)
    return tuple(out)


def differences(spread: Spread, call: Call) -> Shapes:
    """diff: neighbours in one dimension."""
    shapes = [spread.shape(node) for node in call.node.all_input_nodes]
    dim = place(call.whole("dim"), len(shapes[0]))
    for shape in shapes:
        hold(shape[dim], ORDER)
    out = _alongside(shapes, dim)
    out[dim] = fresh(call.result[dim], POSITIONS)
    return tuple(out)


def stacked(spread: Spread, call: Call) -> Shapes:
    """stack."""
    shapes = [spread.shape(node) for node in _several(call)]
    dim = place(call.whole("dim"), len(shapes[0]) + 1)
    out = _alongside(shapes, None)
    return (*out[:dim], fresh(len(shapes), PIECES), *out[dim:])


def _alongside(shapes: list[Shape], dim: int | None) -> list[Factors]:
    first, *others = shapes
    for other in others:
        for at, (mine, theirs) in enumerate(zip(first, other, strict=True)):
            if at != dim:
                unify(mine, theirs)
    return list(first)


def padded(spread: Spread, call: Call) -> Shapes:
    """pad: dimensions that grow are held."""
    return _changed(spread, call)


def rolled(spread: Spread, call: Call) -> Shapes:
    """roll, flip: dimensions whose order changes are held."""
    shape = spread.shape(call.first)
    for dim in call.wholes("dims") or range(len(shape)):
        hold(shape[dim], ORDER)
    return shape


def resized(spread: Spread, call: Call) -> Shapes:
    """Pooling and interpolation: positions are new, channels stay."""
    shape = spread.shape(call.first)
    channels = len(call.result) - _SPATIAL.get(call.name, 2)
    for factors in shape[channels:]:
        hold(factors, POSITIONS)
    new = tuple(fresh(length, POSITIONS) for length in call.result[channels:])
    return (*shape[:channels], *new)


_SPATIAL = {"max_pool1d": 1, "avg_pool1d": 1, "adaptive_avg_pool1d": 1}


def _changed(spread: Spread, call: Call) -> Shapes:
    shape = list(spread.shape(call.first))
    for dim, length in enumerate(call.result):
        if size(shape[dim]) != length:
            hold(shape[dim], POSITIONS)
            shape[dim] = fresh(length, POSITIONS)
    return tuple(shape)


def chosen(spread: Spread, call: Call) -> Shapes:
    """index_select: a dimension is looked up."""
    shape = list(spread.shape(call.tensor("self")))
    dim = place(call.whole("dim"), len(shape))
    hold(shape[dim], LOOKED_UP)
    shape[dim] = fresh(call.result[dim], LOOKED_UP)
    return tuple(shape)


def indexed(spread: Spread, call: Call) -> Shapes:
    """index: neighbouring dimensions are looked up together, by tensors."""
    shape = spread.shape(call.tensor("self"))
    given = call.arguments["indices"]
    assert isinstance(given, (list, tuple))
    used = [dim for dim, index in enumerate(given) if index is not None]
    for dim in used:
        if _counts_all(given[dim], size(shape[dim])):
            counted = spread.shape(given[dim])
            unify(tuple(f for factors in counted for f in factors), shape[dim])
        hold(leaves(shape[dim]), LOOKED_UP)
    if used != list(range(used[0], used[-1] + 1)):
        spread.hold_all(call.node.all_input_nodes, LOOKED_UP)
        return new_shape(call.node.meta["val"], LOOKED_UP)
    count = len(call.result) - len(shape) + len(used)
    found = spread.broadcast([index for index in given if index is not None], count)
    return (*shape[: used[0]], *found, *shape[used[-1] + 1 :])


def _counts_all(index: fx.Node, length: int) -> bool:
    """Whether an index is every number below ``length``, in order."""
    while getattr(index.target, "__name__", "").split(".")[0] in _THROUGH:
        index = index.all_input_nodes[0]
    if not str(index.target).startswith("aten.arange"):
        return False
    call = Call.of(index)
    starts = call.arguments.get("start", 0), call.arguments.get("step", 1)
    return starts == (0, 1) and call.result == (length,)


_THROUGH = ("unsqueeze", "view", "reshape", "alias", "to")
"""Operators that leave an index what it is."""

LOOKED_UP = "its rows are looked up by number"


def made(spread: Spread, call: Call) -> Shapes:
    """zeros and the like: follow whatever they meet."""
    return new_shape(call.node.meta["val"])


def counted(spread: Spread, call: Call) -> Shapes:
    """arange and the like: positions matter."""
    return new_shape(call.node.meta["val"], POSITIONS)


SHAPE_RULES: Mapping[str, Rule] = {
    **dict.fromkeys(
        ("view", "reshape", "_unsafe_view", "flatten", "unflatten"), reshaped
    ),
    "permute": permuted,
    **dict.fromkeys(("transpose", "t", "numpy_T"), transposed),
    "movedim": moved,
    "unsqueeze": unsqueezed,
    "squeeze": squeezed,
    "expand": expanded,
    "repeat": repeated,
    "repeat_interleave": each_repeated,
    "select": selected,
    "unbind": unbound,
    **dict.fromkeys(("split", "split_with_sizes", "chunk"), cut_apart),
    **dict.fromkeys(("slice", "narrow"), sliced),
    **dict.fromkeys(("cat", "concat"), joined),
    "stack": stacked,
    "diff": differences,
    **dict.fromkeys(("pad", "constant_pad_nd"), padded),
    **dict.fromkeys(("roll", "flip"), rolled),
    **dict.fromkeys(
        (
            *("max_pool1d", "max_pool2d", "avg_pool1d", "avg_pool2d"),
            *("adaptive_avg_pool1d", "adaptive_avg_pool2d", "adaptive_max_pool2d"),
            *("upsample_nearest2d", "upsample_bilinear2d"),
        ),
        resized,
    ),
    "index_select": chosen,
    "index": indexed,
    **dict.fromkeys(
        (
            *("zeros", "ones", "full", "empty", "new_zeros", "new_ones", "new_full"),
            *("new_empty", "scalar_tensor"),
        ),
        made,
    ),
    "arange": counted,
}
