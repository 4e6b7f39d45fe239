"""How much of a model fits into how much memory."""

from __future__ import annotations

import dataclasses
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pfusion.daemon.memory import (
    BARE_TRAINER_BYTES,
    copies_of,
    fitting_fraction,
    parse_size,
    predicted_bytes,
)
from p2pfusion.protocol.manifest import Manifest
from p2pfusion.split.layout import Axis, Dimension, Initial, Layout, ParameterSpec
from p2pfusion.split.windows import check_fraction
from tests.strategies import layouts

_SQUARE = (Dimension(512, "a"), Dimension(512, "b"))
WIDE = Manifest(
    name="wide",
    model="mlp",
    layout=Layout(
        (Axis("a", 512), Axis("b", 512)),
        (
            ParameterSpec("w", _SQUARE, Initial("zeros")),
            ParameterSpec("projection.weight", _SQUARE, Initial("zeros")),
        ),
    ),
)


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


@pytest.mark.parametrize(
    ("changes", "copies"),
    [
        ({}, 3),
        ({"outer_momentum": 0.5}, 3),
        ({"proximal": 0.5}, 4),
        ({"proximal": 0.5, "outer_momentum": 0.5}, 4),
        ({"optimiser": "adamw"}, 5),
        ({"objective": "contrastive"}, 5),
        ({"objective": "contrastive", "outer_momentum": 0.5}, 5),
        ({"objective": "contrastive", "objective_arguments": {"previous": 4}}, 8),
    ],
)
def test_copies_follow_from_the_manifest(
    changes: dict[str, object], copies: int
) -> None:
    """Each is a sub-model in float32."""
    layout = WIDE.layout
    manifest = dataclasses.replace(WIDE, **changes)  # type: ignore[arg-type]
    assert copies_of(manifest) == copies
    whole = Fraction(1)
    added = predicted_bytes(layout, whole, 8, copies=copies) - predicted_bytes(
        layout, whole, 8
    )
    assert added == (copies - 3) * 4 * layout.size
    memory = BARE_TRAINER_BYTES + (2 << 20)
    found = fitting_fraction(layout, 8, memory, copies=copies)
    assert found < fitting_fraction(layout, 8, memory) or copies == 3


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
