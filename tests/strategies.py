"""Hypothesis strategies that several test files share: layouts, rosters, sets, splits.

Sizes are small, so that the slow obvious second versions stay quick: a parameter has at
most ``MAX_ELEMENTS`` elements.
"""

from __future__ import annotations

from fractions import Fraction

from hypothesis import strategies as st

from p2pfusion.methods.base import Member, PlanContext
from p2pfusion.split.depth import cut_in_depth
from p2pfusion.split.indices import IndexSet
from p2pfusion.split.layout import (
    INITIAL_KINDS,
    Axis,
    Dimension,
    Initial,
    Layout,
    ParameterSpec,
)
from p2pfusion.split.segment import Split

MAX_ELEMENTS = 6_000
AXIS_NAMES = ("hidden", "heads", "stream", "inner")

# What msgpack can carry, and what a hostile sender would put there.
scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.sampled_from([2**31, 2**63, -(2**63), 2**64 - 1, 10**100])
    | st.floats()
    | st.text(max_size=8)
    | st.binary(max_size=8)
)
plain_data = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=12,
)


@st.composite
def index_sets(draw: st.DrawFn, size: int = 24, *, min_size: int = 0) -> IndexSet:
    """Any set of indices below ``size``, with at least ``min_size`` members."""
    members = st.sets(st.integers(0, size - 1), min_size=min_size, max_size=size)
    return IndexSet.from_indices(draw(members))


@st.composite
def axes(draw: st.DrawFn, name: str = "axis") -> Axis:
    """An axis of 1 to 70 units of 1 to 3 indices; above 32 units cells are larger."""
    unit = draw(st.integers(1, 3))
    unit_count = draw(st.integers(1, 4) | st.integers(1, 12) | st.integers(30, 70))
    return Axis(name, unit * unit_count, unit)


@st.composite
def dimensions(draw: st.DrawFn, known: tuple[Axis, ...]) -> Dimension:
    """A dimension that follows one of the axes, or none."""
    axis = draw(st.sampled_from((*known, None)))
    if axis is None:
        return Dimension(draw(st.integers(1, 3)))
    outer, inner = draw(st.tuples(*[st.sampled_from((1, 1, 2, 3))] * 2))
    return Dimension(outer * axis.size * inner, axis.name, outer, inner)


@st.composite
def parameters(draw: st.DrawFn, known: tuple[Axis, ...], name: str) -> ParameterSpec:
    """A parameter of 0 to 3 dimensions, possibly following one axis twice."""
    count = draw(st.sampled_from((2, 1, 0, 2, 2, 3)))
    wanted = [draw(dimensions(known)) for _ in range(count)]
    kept: list[Dimension] = []
    elements = 1
    for dimension in wanted:
        if elements * dimension.size <= MAX_ELEMENTS:
            kept.append(dimension)
            elements *= dimension.size
    kind = draw(st.sampled_from(INITIAL_KINDS))
    initial = Initial(kind, draw(st.sampled_from((0.0, 0.125, 1.0))))
    return ParameterSpec(name, tuple(kept), initial, draw(st.integers(0, 3)))


@st.composite
def layouts(draw: st.DrawFn) -> Layout:
    """One to four axes and one to five parameters; some are cut in depth."""
    count = draw(st.integers(1, len(AXIS_NAMES)))
    known = tuple(draw(axes(name)) for name in AXIS_NAMES[:count])
    specs = (
        draw(parameters(known, f"parameter.{index}"))
        for index in range(draw(st.integers(1, 5)))
    )
    layout = Layout(known, tuple(specs))
    return cut_in_depth(layout) if draw(st.sampled_from((0, 0, 1))) else layout


@st.composite
def splits(draw: st.DrawFn, layout: Layout) -> Split:
    """Any split that stands on the layout's grid and has some of every width.

    Where depth is cut it may lack layers, and hold some that it does not train.
    """
    sets = tuple(
        (
            axis.name,
            axis.cells(
                draw(index_sets(axis.cell_count, min_size=0 if axis.is_gate else 1))
            ),
        )
        for axis in layout.axes
    )
    gates = [axis.name for axis in layout.axes if axis.is_gate]
    frozen = draw(st.sets(st.sampled_from(gates))) if gates else ()
    return Split(sets, frozenset(frozen))


split_fractions = st.sampled_from(
    [
        Fraction(text)
        for text in ("1", "3/4", "1/2", "0.3", "1/4", "3/16", "1/8", "0.07")
    ]
)


@st.composite
def rosters(
    draw: st.DrawFn, *, min_size: int = 1, max_size: int = 7
) -> tuple[Member, ...]:
    """Members with different names and any split fractions, equal ones included."""
    names = draw(
        st.lists(
            st.text("abcdefgh", min_size=1, max_size=3),
            min_size=min_size,
            max_size=max_size,
            unique=True,
        )
    )
    if draw(st.booleans()):
        same = draw(split_fractions)
        return tuple(Member(name, same) for name in names)
    return tuple(Member(name, draw(split_fractions)) for name in names)


@st.composite
def contexts(draw: st.DrawFn, *, min_peers: int = 1) -> PlanContext:
    """What a swarm agrees on: seed, rounds, layout, roster."""
    return PlanContext(
        seed=draw(st.integers(0, 2**63 - 1)),
        rounds=draw(st.integers(0, 50)),
        layout=draw(layouts()),
        roster=draw(rosters(min_size=min_peers)),
    )
