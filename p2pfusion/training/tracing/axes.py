"""From the factors of parameters to a layout: which are axes, and what they are called.

An axis is named after the first parameter that follows it. Of several factors of one
dimension that could be cut, the slowest is: heads, not what is inside of them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import sqrt

import torch
from torch import Tensor

from p2pfusion.split.layout import Axis, Dimension, Initial, Layout, ParameterSpec
from p2pfusion.training.tracing.factors import (
    Factor,
    Factors,
    Shape,
    hold,
    leaves,
    size,
)

FEWEST = 4
"""Positions of an axis: fewer could not be cut to the usual quarter."""

SECOND = "another width of the same dimension is cut"
FEW = f"it has fewer than {FEWEST} parts that can be told apart"

DIGITS = 3
"""Of the bound of initial values: the last ones depend on the machine."""


@dataclass(frozen=True)
class Held:
    """A dimension of a parameter that no sub-model has less of, and why."""

    parameter: str
    dimension: int
    reason: str

    def __str__(self) -> str:
        return f"{self.parameter}, dimension {self.dimension}: {self.reason}"


@dataclass(frozen=True)
class Found:
    """A layout, the factors that its axes are, and what is held."""

    layout: Layout
    axes: Mapping[str, Factor]
    held: tuple[Held, ...]


def settle_axes(shapes: Mapping[str, Shape]) -> None:
    """Holds all but one factor of every dimension, and those with too few positions."""
    for shape in shapes.values():
        for factors in shape:
            for factor in leaves(factors):
                if factor.size < FEWEST:
                    factor.hold(FEW)
            hold([f for f in leaves(factors) if not f.reason][1:], SECOND)


def find_layout(
    shapes: Mapping[str, Shape],
    values: Mapping[str, Tensor],
    layers: Mapping[str, int],
) -> Found:
    """The layout of settled parameters, in their order."""
    names: dict[Factor, str] = {}
    for name, shape in shapes.items():
        for dim, factors in enumerate(shape):
            for factor in _free(factors):
                names.setdefault(factor, _new_name(name, dim, names.values()))
    parameters = tuple(
        ParameterSpec(
            name,
            tuple(dimension_of(factors, names) for factors in shape) or (Dimension(1),),
            initial_of(values[name]),
            layers[name],
        )
        for name, shape in shapes.items()
    )
    axes = tuple(Axis(name, factor.size) for factor, name in names.items())
    held = tuple(
        Held(name, dim, reason)
        for name, shape in shapes.items()
        for dim, factors in enumerate(shape)
        if (reason := why_held(factors))
    )
    layout = Layout(axes, parameters)
    return Found(layout, {name: factor for factor, name in names.items()}, held)


def _free(factors: Factors) -> list[Factor]:
    return [factor for factor in leaves(factors) if not factor.reason]


def _new_name(parameter: str, dim: int, taken: Iterable[str]) -> str:
    """The parameter's module, and the dimension if that is not the first."""
    owner = parameter.rpartition(".")[0] or parameter
    base = owner if dim == 0 else f"{owner} in" if dim == 1 else f"{owner} {dim}"
    name, number = base, 2
    while name in taken:
        name, number = f"{base} {number}", number + 1
    return name


def dimension_of(factors: Factors, names: Mapping[Factor, str]) -> Dimension:
    """A dimension as a layout has it: copies of the axis, and its repetitions."""
    found = leaves(factors)
    whole = size(found)
    for place, factor in enumerate(found):
        if factor in names:
            outer, inner = size(found[:place]), size(found[place + 1 :])
            return Dimension(whole, names[factor], outer, inner)
    return Dimension(whole)


def why_held(factors: Factors) -> str:
    """The reason why a dimension has no axis; empty if it has one, or is 1."""
    found = leaves(factors)
    if not found or _free(found):
        return ""
    return max(found, key=lambda factor: factor.size).reason


def initial_of(values: Tensor) -> Initial:
    """The rule whose values are most like these: all 0, all 1, or as large as they are,
    uniform about 0."""
    if bool((values == 0).all()):
        return Initial("zeros")
    if bool((values == 1).all()):
        return Initial("ones")
    deviation = sqrt(float(values.to(torch.float64).square().mean()))
    return Initial("uniform", float(f"{deviation * sqrt(3):.{DIGITS}g}"))
