"""Whether two layouts are of one model, and where they differ first."""

from __future__ import annotations

from itertools import zip_longest

from p2pfusion.split.layout import Axis, Layout, ParameterSpec


def first_difference(expected: Layout, found: Layout) -> str | None:
    """The first parameter in which the structure differs, in words; None if none does.

    How values begin is no structure.
    """
    pairs = zip_longest(expected.parameters, found.parameters)
    for mine, theirs in pairs:
        if _structure(mine) != _structure(theirs):
            return f"{_words(mine)} there, {_words(theirs)} here"
    for one, other in zip_longest(expected.axes, found.axes):
        if one != other:
            return f"{_axis_words(one)} there, {_axis_words(other)} here"
    return None


def _structure(parameter: ParameterSpec | None) -> object:
    return parameter and (parameter.name, parameter.dimensions, parameter.layer)


def _axis_words(axis: Axis | None) -> str:
    if axis is None:
        return "no further axis"
    return f"axis {axis.name!r} of {axis.size} by {axis.unit}"


def _words(parameter: ParameterSpec | None) -> str:
    if parameter is None:
        return "nothing"
    axes = " x ".join(
        f"{dimension.size}" + (f" ({dimension.axis})" if dimension.axis else "")
        for dimension in parameter.dimensions
    )
    return f"parameter {parameter.name} of {axes}"
