"""Initial values: against a second Philox, against recorded values, in any rows."""

from __future__ import annotations

import hashlib
import tracemalloc
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pfusion.errors import LocalProtocolError
from p2pfusion.split.blocks import silenced
from p2pfusion.split.layout import Axis, Dimension, Initial, Layout, ParameterSpec
from p2pfusion.store.initial import initial_values

MASK = 2**64 - 1
MULTIPLIERS = (0xD2E7470EE14C6C93, 0xCA5A826395121157)
KEY_STEPS = (0x9E3779B97F4A7C15, 0xBB67AE8584CAA73B)

GOLDEN_WEIGHT = [
    "0x1.16358e0000000p-5",
    "0x1.11545a0000000p-5",
    "-0x1.5a45200000000p-5",
    "-0x1.1dcbda0000000p-4",
]
GOLDEN_BIAS = ["0x1.ab0d200000000p-1"]


def philox4x64(counter: int, key: tuple[int, int]) -> list[int]:
    """One block of Philox4x64-10, as the paper writes it (Salmon et al., SC 2011)."""
    c = [counter >> (64 * word) & MASK for word in range(4)]
    for turn in range(10):
        k0, k1 = ((key[i] + turn * KEY_STEPS[i]) & MASK for i in range(2))
        first, second = c[0] * MULTIPLIERS[0], c[2] * MULTIPLIERS[1]
        c = [
            (second >> 64) ^ c[1] ^ k0,
            second & MASK,
            (first >> 64) ^ c[3] ^ k1,
            first & MASK,
        ]
    return c


def slow_value(seed: int, name: str, bound: float, index: int) -> np.float32:
    """One element, by the words of the module's docstring."""
    digest = hashlib.sha256(f"p2pfusion initial\0{seed}\0{name}".encode()).digest()
    key = (
        int.from_bytes(digest[:8], "little"),
        int.from_bytes(digest[8:16], "little"),
    )
    block = philox4x64(index // 8 + 1, key)
    word = block[index % 8 // 2] >> (32 * (index % 2)) & 0xFFFFFFFF
    return np.float32((word >> 8) - 2**23) * np.float32(bound / 2**23)


def layout_of(*shape: int, kind: str = "uniform", bound: float = 0.5) -> Layout:
    """A model of one parameter that is never cut."""
    dimensions = tuple(Dimension(size) for size in shape)
    return Layout((), (ParameterSpec("w", dimensions, Initial(kind, bound)),))


def test_the_second_version_is_philox() -> None:
    """The known answers that Random123 publishes for ten rounds."""
    assert philox4x64(0, (0, 0)) == [
        0x16554D9ECA36314C,
        0xDB20FE9D672D0FDC,
        0xD7E772CEE186176B,
        0x7E68B68AEC7BA23B,
    ]


@given(
    seed=st.integers(0, 2**63),
    bound=st.sampled_from((0.1, 0.5, 3.0)),
    start=st.integers(0, 60),
    count=st.integers(0, 9),
)
def test_any_rows_agree_with_the_second_version(
    seed: int, bound: float, start: int, count: int
) -> None:
    layout = layout_of(70, 3, bound=bound)
    values = initial_values(layout, seed, 0, start, start + count)
    assert values.shape == (count, 3) and values.dtype == np.float32
    expected = [
        slow_value(seed, "w", bound, i) for i in range(start * 3, (start + count) * 3)
    ]
    assert values.ravel().tolist() == expected


def test_recorded_values_never_change() -> None:
    """A change here changes every swarm's model: never adapt the numbers."""
    layout = Layout(
        (),
        (
            ParameterSpec("fc.weight", (Dimension(4),), Initial("uniform", 0.1)),
            ParameterSpec("fc.bias", (), Initial("uniform", 1.0)),
        ),
    )
    weight = initial_values(layout, 20, 0, 0, 4)
    assert [float(value).hex() for value in weight] == GOLDEN_WEIGHT
    assert [float(value).hex() for value in initial_values(layout, 20, 1, 0, 1)] == (
        GOLDEN_BIAS
    )


def test_a_far_row_is_as_quick_as_the_first() -> None:
    layout = layout_of(2**36, 8)
    row = 2**36 - 1
    values = initial_values(layout, 1, 0, row, row + 1)
    expected = [slow_value(1, "w", 0.5, row * 8 + i) for i in range(8)]
    assert values[0].tolist() == expected


def test_blocks_join_without_a_seam() -> None:
    """More than one block, from a row that starts inside a counter's eight words."""
    layout = layout_of(3_000_001)
    values = initial_values(layout, 9, 0, 5, 2_500_000)
    for index in (5, 2**20 + 4, 2**20 + 5, 2**21 + 5, 2_499_999):
        assert values[index - 5] == slow_value(9, "w", 0.5, index)


def test_uniform_fills_its_bounds_evenly() -> None:
    values = initial_values(layout_of(2**20, bound=0.3), 3, 0, 0, 2**20)
    bound = np.float32(0.3)
    assert values.min() >= -bound and values.max() < bound
    counts, _ = np.histogram(values, bins=16, range=(-0.3, 0.3))
    # Sixteen bins of 65,536 expected: five standard deviations are 1,239.
    assert np.abs(counts - 2**16).max() < 1_300


@pytest.mark.parametrize(("kind", "value"), [("zeros", 0.0), ("ones", 1.0)])
def test_constants(kind: str, value: float) -> None:
    values = initial_values(layout_of(5, 2, kind=kind), 3, 0, 1, 4)
    assert values.shape == (3, 2) and (values == value).all()


def test_a_tensor_without_dimensions_is_one_row() -> None:
    values = initial_values(layout_of(), 3, 0, 0, 1)
    assert values.shape == (1,) and values[0] == slow_value(3, "w", 0.5, 0)


def test_seed_and_name_each_make_another_stream() -> None:
    layout = Layout(
        (),
        tuple(
            ParameterSpec(name, (Dimension(64),), Initial("uniform", 1.0))
            for name in ("a", "b")
        ),
    )
    streams = [
        initial_values(layout, *which, 0, 64) for which in ((1, 0), (1, 1), (2, 0))
    ]
    assert len({stream.tobytes() for stream in streams}) == 3


@pytest.mark.parametrize(("start", "stop"), [(-1, 2), (3, 2), (0, 6)])
def test_rows_beyond_the_parameter_are_refused(start: int, stop: int) -> None:
    with pytest.raises(LocalProtocolError, match="'w'"):
        initial_values(layout_of(5), 1, 0, start, stop)


def test_scratch_memory_is_bounded() -> None:
    layout = layout_of(2**23)
    tracemalloc.start()
    try:
        values = initial_values(layout, 1, 0, 0, 2**23)
        peak_bytes = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak_bytes - values.nbytes < 24 << 20


BLOCKS = Layout(
    (Axis("a", 12, 2), Axis("b", 4)),
    (
        ParameterSpec(
            "w",
            (Dimension(24, "b", 2, 3), Dimension(5), Dimension(24, "a", 2)),
            Initial("uniform", 0.5),
        ),
    ),
)


@given(blocks=st.integers(2, 4), start=st.integers(0, 24), count=st.integers(0, 24))
def test_silent_values_are_drawn_as_ever_and_then_silenced(
    blocks: int, start: int, count: int
) -> None:
    """Element by element: of the block of each of its two axes."""
    stop = min(start + count, 24)
    layout = silenced(BLOCKS, blocks)
    bound = layout.parameters[0].initial.bound
    initial = Initial("uniform", bound)
    loud = Layout(BLOCKS.axes, (replace(BLOCKS.parameters[0], initial=initial),))
    drawn = initial_values(loud, 7, 0, start, stop)
    found = initial_values(layout, 7, 0, start, stop)
    for (row, middle, column), value in np.ndenumerate(found):
        b = (start + row) // 3 % 4
        a = column % 12 // 2
        together = _block(4, b, blocks) == _block(6, a, blocks)
        assert value == (drawn[row, middle, column] if together else 0.0)


def _block(cells: int, cell: int, blocks: int) -> int:
    """The last block that begins at or before a cell."""
    return max(b for b in range(blocks) if b * cells // blocks <= cell)
