"""Rules of operators that compute: which dimensions they sum over, and which they keep.

A sum over a width with weights that follow it, too, can be cut: what is outside has no
part in it. Sums of that kind are *readings* (``cutting.py``). What compares all
positions of a dimension with each other, as softmax does, holds it.
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import fx

from p2pfusion.training.tracing.calls import (
    POSITIONS,
    Call,
    Rule,
    Shapes,
    Spread,
    aligned,
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
from p2pfusion.training.tracing.shape_rules import LOOKED_UP, SHAPE_RULES, same

PRODUCT = "two tensors that follow from the records are multiplied and summed over it"
COMPARED = "all of it is compared or added up, by an operator that cannot be cut"
KERNEL = "it is a kernel's own size"
INSIDE = "it lies inside a group that is computed together"
STATISTICS = "several dimensions are normalised together"


def elementwise(spread: Spread, call: Call) -> Shapes:
    """Every entry by itself; what is broadcast is cut alike."""
    inputs = call.node.all_input_nodes
    return tuple(spread.broadcast(inputs, len(call.result)))


def linear(spread: Spread, call: Call) -> Shapes:
    """linear: (..., in) with weight (out, in) and bias (out,)."""
    inputs, weight = spread.shape(call.tensor("input")), call.tensor("weight")
    _contract(spread, inputs[-1], spread.shape(weight)[-1], weight)
    out = spread.shape(weight)[0] if len(spread.shape(weight)) == 2 else ()
    _bias(spread, call, out)
    return (*inputs[:-1], *((out,) if len(call.result) == len(inputs) else ()))


def _bias(spread: Spread, call: Call, out: Factors) -> None:
    bias = call.tensor("bias")
    if bias is not None:
        unify(spread.shape(bias)[0], leaves(out))


def _contract(
    spread: Spread, one: Factors, other: Factors, weight: fx.Node | None
) -> None:
    """A sum over the product of both; held unless one of them is a weight."""
    unify(one, other)
    if weight not in spread.fixed:
        hold(leaves(one), PRODUCT)


def convolution(spread: Spread, call: Call) -> Shapes:
    """conv1d, conv2d, conv3d: channels, and in each group of them the kernel's."""
    inputs = spread.shape(call.tensor("input"))
    weight = spread.shape(call.tensor("weight"))
    spatial = len(weight) - 2
    channels, positions = inputs[-spatial - 1], inputs[-spatial:]
    for factors in weight[2:]:
        hold(factors, KERNEL)
    for factors in positions:
        hold(factors, POSITIONS)
    groups = call.whole("groups")
    if groups == 1:
        _contract(spread, channels, weight[1], call.tensor("weight"))
    else:
        _grouped(channels, weight[0], weight[1], groups)
        if call.tensor("weight") not in spread.fixed:
            hold(leaves(channels), PRODUCT)
    _bias(spread, call, leaves(weight[0]))
    new = (fresh(length, POSITIONS) for length in call.result[-spatial:])
    return (*inputs[: -spatial - 1], leaves(weight[0]), *new)


def _grouped(channels: Factors, out: Factors, inner: Factors, groups: int) -> None:
    """Groups are cut, what is inside of them is not."""
    mine, within = regroup(channels, (groups, size(channels) // groups))
    theirs, made = regroup(out, (groups, size(out) // groups))
    unify(mine, theirs)
    for factors in (within, made, inner):
        hold(leaves(factors), INSIDE)


def products(spread: Spread, call: Call) -> Shapes:
    """matmul, mm, bmm: (..., n, k) with (..., k, m)."""
    one, other = factors_of_product(call)
    return _product(spread, call, one, other)


def factors_of_product(call: Call) -> tuple[fx.Node, fx.Node]:
    """The two tensors that are multiplied."""
    names = [["self", "mat1", "batch1"], ["other", "mat2", "batch2"]]
    if call.name in ("addmm", "baddbmm"):
        del names[0][0]  # what is added
    found = [next(filter(None, map(call.tensor, keys))) for keys in names]
    return found[0], found[1]


def _product(spread: Spread, call: Call, one: fx.Node, other: fx.Node) -> Shapes:
    left, right = spread.shape(one), spread.shape(other)
    fixed = one if one in spread.fixed else other
    inner = right[-2] if len(right) > 1 else right[-1]
    _contract(spread, left[-1], inner, fixed)
    left, right = spread.shape(one), spread.shape(other)
    rows = left[-2:-1]
    columns = right[-1:] if len(right) > 1 else ()
    if max(len(left), len(right)) == 2:
        return (*rows, *columns)
    count = len(call.result) - len(rows) - len(columns)
    heads = _leading(left[:-2], right[:-2], count)
    return (*heads, *rows, *columns)


def _leading(left: Shape, right: Shape, count: int) -> list[Factors]:
    return [leaves(factors) for factors in aligned((left, right), count)]


def added_product(spread: Spread, call: Call) -> Shapes:
    """addmm, baddbmm: a product, and what is added to it."""
    found = products(spread, call)
    assert isinstance(found, tuple)
    spread.shapes[call.node] = found
    added = call.tensor("self")
    assert added is not None
    return tuple(spread.broadcast([call.node, added], len(call.result)))


def embedding(spread: Spread, call: Call) -> Shapes:
    """embedding: rows of a table (rows, width)."""
    rows, width = spread.shape(call.tensor("weight"))
    hold(rows, LOOKED_UP)
    return (*spread.shape(call.tensor("indices")), width)


def attention(spread: Spread, call: Call) -> Shapes:
    """scaled_dot_product_attention: (..., heads, T, channels). Heads are cut."""
    query, key, value = (
        spread.shape(call.tensor(k)) for k in ("query", "key", "value")
    )
    unify(query[-1], key[-1])
    unify(key[-2], value[-2])
    for factors, reason in (
        (query[-1], PRODUCT),
        (value[-1], INSIDE),
        (key[-2], COMPARED),
        (query[-2], COMPARED),
    ):
        hold(leaves(factors), reason)
    heads = query[:-2]
    if call.arguments.get("enable_gqa"):
        _share_heads(query[-3], key[-3], value[-3])
    else:
        heads = tuple(_leading(heads, key[:-2], len(heads)))
        heads = tuple(_leading(heads, value[:-2], len(heads)))
    mask = call.tensor("attn_mask")
    if mask is not None:
        _leading((*heads, query[-2], key[-2]), spread.shape(mask), len(query))
    return tuple(leaves(f) for f in (*heads, query[-2], value[-1]))


def _share_heads(query: Factors, key: Factors, value: Factors) -> None:
    """Several heads of queries for each of keys and values."""
    unify(key, value)
    count = size(leaves(key))
    groups, each = regroup(query, (count, size(query) // count))
    unify(groups, key)
    hold(leaves(each), INSIDE)


def softmax(spread: Spread, call: Call) -> Shapes:
    """softmax, cumsum: all of one dimension is looked at."""
    shape = spread.shape(call.first)
    hold(shape[call.whole("dim")], COMPARED)
    return shape


def layer_norm(spread: Spread, call: Call) -> Shapes:
    """layer_norm, rms_norm: a reading of the last dimension."""
    shape = spread.shape(call.tensor("input"))
    count = len(call.wholes("normalized_shape"))
    for key in ("weight", "bias"):
        node = call.tensor(key)
        if node is not None:
            for mine, theirs in zip(shape[-count:], spread.shape(node), strict=True):
                unify(leaves(mine), leaves(theirs))
    if count > 1:
        for factors in shape[-count:]:
            hold(leaves(factors), STATISTICS)
    return spread.shape(call.tensor("input"))


def group_norm(spread: Spread, call: Call) -> Shapes:
    """group_norm: groups are cut, channels inside of a group are not."""
    shape = spread.shape(call.tensor("input"))
    groups = call.whole("num_groups")
    _, inner = regroup(shape[1], (groups, size(shape[1]) // groups))
    hold(inner, INSIDE if groups > 1 else STATISTICS)
    return _per_channel(spread, call, ("weight", "bias"))


def batch_norm(spread: Spread, call: Call) -> Shapes:
    """batch_norm, instance_norm: every channel by itself."""
    keys = ("weight", "bias", "running_mean", "running_var")
    return _per_channel(spread, call, keys)


def _per_channel(spread: Spread, call: Call, keys: tuple[str, ...]) -> Shapes:
    for key in keys:
        node = call.tensor(key)
        if node is not None:
            unify(spread.shape(call.tensor("input"))[1], spread.shape(node)[0])
    return spread.shape(call.tensor("input"))


def reduced_dims(call: Call) -> list[int]:
    """The dimensions that a reduction takes away, counted from the front."""
    count = len(call.first.meta["val"].shape)
    given = call.wholes("dim") if call.arguments.get("dim") is not None else None
    return [place(d, count) for d in given] if given else list(range(count))


def mean(spread: Spread, call: Call) -> Shapes:
    """mean, sum: readings of the dimensions that go."""
    shape, dims = spread.shape(call.first), reduced_dims(call)
    if call.arguments.get("keepdim"):
        return tuple(() if at in dims else f for at, f in enumerate(shape))
    return tuple(factors for at, factors in enumerate(shape) if at not in dims)


def compared(spread: Spread, call: Call) -> Shapes:
    """amax and other reductions that cannot be cut."""
    for dim in reduced_dims(call):
        hold(spread.shape(call.first)[dim], COMPARED)
    return mean(spread, call)


def unknown(spread: Spread, call: Call) -> Shapes:
    """Any other operator: nothing about it can be cut.

    Its first dimension is taken for the batch's where that of an input is, and it has
    its length; what comes of that is compared with the module before it is used.
    """
    inputs = call.node.all_input_nodes
    reason = f"the operator {call.name} is not known to be one that can be cut"
    batch = [f for n in inputs for f in _first(spread, n) if f.is_batch]
    spread.hold_all(inputs, reason)
    value = call.node.meta["val"]
    several = isinstance(value, (list, tuple))
    shapes = [new_shape(each, reason) for each in (value if several else [value])]
    for shape in shapes:
        if batch and shape and size(shape[0]) == batch[0].size:
            unify(shape[0], batch[:1])
    return shapes if several else shapes[0]


def _first(spread: Spread, node: fx.Node) -> Factors:
    if isinstance(spread.shapes[node], list):
        return ()
    shape = spread.shape(node)
    return shape[0] if shape else ()


ELEMENTWISE = frozenset(
    (
        *("add", "sub", "rsub", "mul", "div", "pow", "where", "maximum", "minimum"),
        *("addcmul", "addcdiv", "lerp", "remainder", "fmod", "floor_divide"),
        *("neg", "abs", "exp", "expm1", "log", "log1p", "sqrt", "rsqrt", "square"),
        *("reciprocal", "sign", "floor", "ceil", "round", "sin", "cos", "erf", "clamp"),
        *("clamp_min", "clamp_max", "relu", "relu6", "gelu", "silu", "sigmoid", "tanh"),
        *("elu", "selu", "celu", "leaky_relu", "hardtanh", "hardswish", "hardsigmoid"),
        *("mish", "softplus", "logsigmoid", "log_sigmoid", "dropout", "alpha_dropout"),
        *("feature_dropout", "bernoulli", "masked_fill", "fill", "zero", "copy"),
        *("eq", "ne", "lt", "gt", "le", "ge", "logical_not", "logical_and"),
        *("logical_or", "bitwise_not", "bitwise_and", "bitwise_or", "isnan", "isinf"),
        *("__and__", "__or__", "__xor__", "logical_xor", "ne", "bitwise_xor"),
        *("_to_copy", "contiguous", "clone", "detach", "alias"),
        *("lift_fresh", "lift_fresh_copy", "zeros_like", "ones_like", "full_like"),
        *("empty_like", "rand_like", "randn_like", "nan_to_num"),
    )
)
"""Operators that treat every entry by itself; a name with ``_`` behind it is the same
in place."""

WIDTH_RULES: Mapping[str, Rule] = {
    **dict.fromkeys(ELEMENTWISE, elementwise),
    **dict.fromkeys(("to", "type_as"), same),
    "linear": linear,
    **dict.fromkeys(("conv1d", "conv2d", "conv3d"), convolution),
    **dict.fromkeys(("matmul", "mm", "bmm"), products),
    **dict.fromkeys(("addmm", "baddbmm"), added_product),
    "embedding": embedding,
    "scaled_dot_product_attention": attention,
    **dict.fromkeys(("softmax", "_softmax", "log_softmax", "cumsum"), softmax),
    **dict.fromkeys(("layer_norm", "rms_norm"), layer_norm),
    "group_norm": group_norm,
    **dict.fromkeys(("batch_norm", "instance_norm"), batch_norm),
    **dict.fromkeys(("mean", "sum"), mean),
    **dict.fromkeys(("amax", "amin"), compared),
}


def rule_of(name: str) -> Rule:
    """The rule of an operator."""
    found = {**SHAPE_RULES, **WIDTH_RULES}
    plain = name if name in found else name.removesuffix("_")
    return found.get(plain, unknown)
