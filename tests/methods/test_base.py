"""Split fractions as users write them."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given

from p2pfusion.errors import ConfigError
from p2pfusion.methods.base import PlanContext, split_fraction
from tests.strategies import contexts, plain_data


@pytest.mark.parametrize(
    ("value", "expected"),
    [(1, Fraction(1)), (0.1, Fraction(1, 10)), ("1/3", Fraction(1, 3))],
)
def test_good_fractions_are_exact(value: object, expected: Fraction) -> None:
    assert split_fraction(value, "here") == expected


@pytest.mark.parametrize(
    "value", [0, -0.5, 1.01, True, "1e9999999", None, 10**5_000], ids=range(7)
)
def test_bad_fractions_name_the_place(value: object) -> None:
    with pytest.raises(ConfigError, match=r"peer\.split_fraction"):
        split_fraction(value, "peer.split_fraction")


@given(plain_data)
def test_any_value_gives_a_fraction_or_a_config_error(value: object) -> None:
    try:
        fraction = split_fraction(value, "here")
    except ConfigError:
        return
    assert 0 < fraction <= 1


@given(contexts())
def test_a_context_lists_fractions_by_rank(context: PlanContext) -> None:
    expected = [member.split_fraction for member in context.roster]
    assert list(context.fractions) == expected
