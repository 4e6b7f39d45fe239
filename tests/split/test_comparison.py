"""The first difference between two layouts, in words."""

from __future__ import annotations

from dataclasses import replace

from p2pfusion.split.comparison import first_difference
from p2pfusion.split.layout import Axis, Dimension, Initial, Layout, ParameterSpec

ZEROS = Initial("zeros")
ONE = ParameterSpec("one.weight", (Dimension(8, "a"), Dimension(3)), ZEROS)
TWO = ParameterSpec("two.bias", (Dimension(8, "a"),), ZEROS, 1)
LAYOUT = Layout((Axis("a", 8),), (ONE, TWO))


def test_equal_structures_do_not_differ_however_values_begin() -> None:
    other = replace(LAYOUT, parameters=(replace(ONE, initial=Initial("ones")), TWO))
    assert first_difference(LAYOUT, LAYOUT) is None
    assert first_difference(LAYOUT, other) is None


def test_the_first_differing_parameter_is_named() -> None:
    wide = replace(ONE, dimensions=(Dimension(8, "a"), Dimension(4)))
    other = replace(LAYOUT, parameters=(wide, replace(TWO, name="three.bias")))
    mine, theirs = (f"parameter one.weight of 8 (a) x {n}" for n in (3, 4))
    assert first_difference(LAYOUT, other) == f"{mine} there, {theirs} here"


def test_a_parameter_that_lacks_is_named() -> None:
    fewer = replace(LAYOUT, parameters=(ONE,))
    found = first_difference(LAYOUT, fewer)
    assert found == "parameter two.bias of 8 (a) there, nothing here"


def test_axes_that_differ_alone_are_named() -> None:
    other = replace(LAYOUT, axes=(Axis("a", 8, 2),))
    found = first_difference(LAYOUT, other)
    assert found is not None and "axis 'a'" in found
