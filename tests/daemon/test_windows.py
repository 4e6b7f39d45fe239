"""Which cells of each axis were trained, as bits."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from p2pfusion.daemon.windows import Windows, axes_told, mask
from p2pfusion.limits import MAX_WINDOW_MASKS, WINDOW_HISTORY
from p2pfusion.split.indices import IndexSet
from p2pfusion.split.layout import Axis, Layout
from p2pfusion.split.segment import Split
from tests.strategies import layouts


@given(st.integers(1, 500), st.sets(st.integers(0, 499)))
def test_a_cell_counts_if_one_of_its_indices_does(size: int, found: set[int]) -> None:
    axis = Axis("h", size)
    indices = {index for index in found if index < size}
    slow = sum(1 << cell for cell in {index // axis.cell_size for index in indices})
    assert mask(axis, IndexSet.from_indices(indices)) == slow < 1 << 32


@given(layouts())
def test_the_whole_model_is_all_cells_and_a_frozen_gate_is_none(layout: Layout) -> None:
    windows = Windows()
    gates = frozenset(axis.name for axis in layout.axes if axis.is_gate)
    full = Split.full(layout)
    windows.enter(3, layout, {"a": full, "b": Split(full.sets, gates)})
    (row,) = windows.after(2, 9)
    masks = row["masks"]
    assert row["number"] == 3 and isinstance(masks, dict)
    whole = [(1 << axis.cell_count) - 1 for axis in layout.axes]
    assert masks["a"] == whole
    held = [
        0 if axis.is_gate else m for axis, m in zip(layout.axes, whole, strict=True)
    ]
    assert masks["b"] == held
    assert [row["name"] for row in axes_told(layout)] == [a.name for a in layout.axes]


@settings(max_examples=3)
@given(layouts().filter(lambda layout: len(layout.axes) > 0))
def test_what_is_kept_is_bounded(layout: Layout) -> None:
    windows = Windows()
    for number in range(WINDOW_HISTORY + 5):
        windows.enter(number, layout, {"a": Split.full(layout)})
    assert len(windows.after(-1, 1_000)) == WINDOW_HISTORY
    assert [row["number"] for row in windows.after(7, 2)] == [8, 9]
    assert windows.after(WINDOW_HISTORY + 4, 9) == []
    crowd = {str(peer): Split.full(layout) for peer in range(MAX_WINDOW_MASKS)}
    windows.enter(999, layout, crowd)
    (row,) = windows.after(998, 1)
    assert {len(masks) for masks in row["masks"].values()} == {1}  # type: ignore[attr-defined]
