"""How much of a model fits into how much memory."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pfusion.daemon.memory import (
    BARE_TRAINER_BYTES,
    fitting_fraction,
    parse_size,
    predicted_bytes,
)
from p2pfusion.split.windows import check_fraction
from tests.strategies import layouts


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("4 GiB", 4 << 30),
        ("1.5G", 3 << 29),
        ("800MB", 800 << 20),
        ("512 KiB", 512 << 10),
        ("17", 17),
        ("17 B", 17),
        ("", None),
        ("four", None),
        ("-4 GiB", None),
        ("4 GiB ", None),
        ("1e9", None),
        ("4 QiB", None),
    ],
)
def test_sizes_as_people_write_them(text: str, size: int | None) -> None:
    assert parse_size(text) == size


@given(layouts(), st.integers(1, 512), st.integers(0, 1 << 22))
def test_the_largest_fraction_that_fits(layout, batch: int, spare: int) -> None:  # type: ignore[no-untyped-def]
    memory = BARE_TRAINER_BYTES + spare
    found = fitting_fraction(layout, batch, memory)
    check_fraction(layout, found, "test")
    finest = max((axis.cell_count for axis in layout.axes), default=1)
    larger = [Fraction(k, finest) for k in range(1, finest + 1)]
    for fraction in larger:
        if fraction > found:
            assert predicted_bytes(layout, fraction, batch) > memory
