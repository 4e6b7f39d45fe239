"""What contributions have lost, on disk."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from p2pfusion.split.indices import IndexSet
from p2pfusion.split.layout import Axis, Dimension, Initial, Layout, ParameterSpec
from p2pfusion.split.segment import Split
from p2pfusion.store import Owed
from tests.small_disk import needs_small_disk, run_on_small_disk
from tests.split.histories import loose_splits
from tests.strategies import layouts

LAYOUT = Layout(
    (Axis("h", 8),),
    (
        ParameterSpec("w", (Dimension(8, "h"), Dimension(3)), Initial("ones")),
        ParameterSpec("b", (Dimension(8, "h"),), Initial("zeros")),
    ),
)
FULL = tuple(Split.full(LAYOUT).segments(LAYOUT))
LEFT = tuple(Split.of({"h": IndexSet.span(0, 4)}).segments(LAYOUT))


def ones(segments: tuple) -> np.ndarray:
    return np.ones(sum(segment.size for segment in segments), np.float32)


@settings(max_examples=30)
@given(st.data())
def test_the_last_that_was_written_is_owed(data: st.DataObject) -> None:
    layout = data.draw(layouts().filter(lambda layout: layout.size <= 1_500))
    dense = [np.zeros(p.shape, np.float32) for p in layout.parameters]
    with tempfile.TemporaryDirectory() as root:
        owed = Owed(Path(root) / "owed", layout)
        for number in range(1, 4):
            segments = tuple(data.draw(loose_splits(layout)).segments(layout))
            settles = data.draw(st.booleans())
            value = 0 if settles else number
            for segment in segments:
                place = np.ix_(*(list(indices) for indices in segment.sets))
                dense[segment.parameter][place] = value
            if settles:
                owed.settle(segments)
            else:
                owed.write(segments, value * ones(segments))
            again = Owed(Path(root) / "owed", layout)  # as the trainer reads it
            for segment in Split.full(layout).segments(layout):
                true = dense[segment.parameter]
                np.testing.assert_array_equal(again.read(segment), true)


def test_nothing_is_made_before_something_is_lost(tmp_path: Path) -> None:
    owed = Owed(tmp_path / "owed", LAYOUT)
    assert not owed.read(FULL[0]).any()
    owed.settle(FULL)
    assert not list(tmp_path.rglob("*.f32"))


@pytest.mark.parametrize("size", [0, 7, 400])
def test_a_file_of_another_size_is_dropped(tmp_path: Path, size: int) -> None:
    owed = Owed(tmp_path, LAYOUT)
    owed.write(FULL, ones(FULL))
    for path in tmp_path.iterdir():
        path.write_bytes(b"\x01" * size)
    assert not owed.read(FULL[0]).any()
    owed.write(LEFT, ones(LEFT))
    assert owed.read(FULL[0])[:4].all() and not owed.read(FULL[0])[4:].any()


def test_what_is_not_finite_on_the_disk_is_not_owed(tmp_path: Path) -> None:
    owed = Owed(tmp_path, LAYOUT)
    owed.write(FULL, ones(FULL))
    bad = np.array([np.nan, np.inf, -np.inf, 2, 2, 2, 2, 2], "<f4")
    (tmp_path / "owed-00001.f32").write_bytes(bad.tobytes())
    assert owed.read(FULL[1]).tolist() == [0, 0, 0, 2, 2, 2, 2, 2]


@needs_small_disk
def test_what_does_not_fit_on_the_disk_is_forgotten(tmp_path: Path) -> None:
    run_on_small_disk(tmp_path, 2, "tests.store.full_owed")
