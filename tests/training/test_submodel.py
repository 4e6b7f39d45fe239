"""Cutting, loading, extracting: a sub-model's values come back where they came from."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from p2pfusion.errors import ConfigError, IncompatibleError
from p2pfusion.split.depth import cut_in_depth, depth_split
from p2pfusion.split.layout import Layout
from p2pfusion.split.segment import Split
from p2pfusion.store import Store
from p2pfusion.training import submodel
from p2pfusion.training.cost import saved_activation_bytes
from p2pfusion.training.models import MODELS, check_depth
from tests.training.samples import window

MLP = MODELS["mlp"]
LAYOUT = MLP.layout({"hidden": [16, 8]})


def test_a_module_holds_the_stores_slice(tmp_path: Path) -> None:
    store = Store.create(tmp_path, LAYOUT, 3)
    split = window(LAYOUT, start=6, cells=4)
    module = submodel.build(MLP, {"hidden": [16, 8]}, LAYOUT, split)
    submodel.load(module, submodel.cut(store.read, LAYOUT, split))
    full = [store.read(segment) for segment in Split.full(LAYOUT).segments(LAYOUT)]
    for index, found in enumerate(submodel.extract(module, LAYOUT, split)):
        sets = split.segment(LAYOUT, index).sets
        expected = full[index][np.ix_(*(list(indices) for indices in sets))]
        assert (found == expected).all()


def test_loading_copies_and_extracting_does_not() -> None:
    whole = Split.full(LAYOUT)
    module = submodel.build(MLP, {"hidden": [16, 8]}, LAYOUT, whole)
    arrays = [np.full(p.shape, 5.0, np.float32) for p in LAYOUT.parameters]
    for array in arrays:
        array.flags.writeable = False
    submodel.load(module, arrays)
    views = submodel.extract(module, LAYOUT, whole)
    with torch.no_grad():
        next(module.parameters()).add_(1.0)
    assert arrays[0][0, 0] == 5.0
    assert views[0][0, 0] == 6.0


def test_a_module_needs_exactly_its_arrays() -> None:
    module = torch.nn.Linear(3, 2)
    with pytest.raises(ValueError, match="shorter"):
        submodel.load(module, [np.zeros((2, 3), np.float32)])


def test_another_layout_is_refused() -> None:
    other = Layout(LAYOUT.axes, tuple(reversed(LAYOUT.parameters)))
    with pytest.raises(IncompatibleError, match="not those of the manifest's layout"):
        submodel.build(MLP, {"hidden": [16, 8]}, other, Split.full(other))


@given(st.lists(st.lists(st.floats(-9, 9, width=32), min_size=1), max_size=4))
def test_sizes_of_a_change_are_over_all_values(lists: list[list[float]]) -> None:
    after = [np.array(values, np.float32) for values in lists]
    before = [np.zeros_like(array) for array in after]
    expected = np.sqrt(sum(float(value) ** 2 for values in lists for value in values))
    norm, l1 = submodel.update_sizes(before, after)
    assert norm == pytest.approx(expected, abs=1e-6)
    assert l1 == pytest.approx(sum(abs(v) for values in lists for v in values))


def test_the_norm_of_large_values_does_not_overflow() -> None:
    huge = [np.full(4, 1e30, np.float32)]
    norm, l1 = submodel.update_sizes([np.zeros(4, np.float32)], huge)
    assert (norm, l1) == (pytest.approx(2e30), pytest.approx(4e30))


# --- Depth ---------------------------------------------------------------------------

VIT = MODELS["vit"]
SMALL: dict[str, object] = {
    **{"in_channels": 1, "image_size": 8, "patch": 4, "width": 16, "heads": 4},
    **{"layers": 3, "inner": 16, "group": 4},
}
DEEP = cut_in_depth(VIT.layout(SMALL))


def test_a_module_lacks_the_layers_that_its_split_lacks(tmp_path: Path) -> None:
    store = Store.create(tmp_path, DEEP, 3)
    split = depth_split(DEEP, [0, 1, 2, 4])
    module = submodel.build(VIT, SMALL, DEEP, split)
    submodel.load(module, submodel.cut(store.read, DEEP, split))
    names = [name for name, _ in module.named_parameters()]
    assert names == [p.name for p in DEEP.parameters if p.layer != 3]
    whole = submodel.build(VIT, SMALL, DEEP, Split.full(DEEP))
    submodel.load(whole, submodel.cut(store.read, DEEP, Split.full(DEEP)))
    del whole.get_submodule("blocks")[2]  # type: ignore[operator]
    images = torch.rand(5, 1, 8, 8)
    assert torch.equal(module(images), whole(images))


def test_arrays_have_the_gates_dimension_and_are_empty_where_nothing_is_trained(
    tmp_path: Path,
) -> None:
    store = Store.create(tmp_path, DEEP, 3)
    split = depth_split(DEEP, [0, 1, 2, 4], frozen=[0, 1])
    module = submodel.build(VIT, SMALL, DEEP, split)
    submodel.load(module, submodel.cut(store.read, DEEP, split))
    arrays = submodel.extract(module, DEEP, split)
    for index, (array, p) in enumerate(zip(arrays, DEEP.parameters, strict=True)):
        segment = split.trained.segment(DEEP, index)
        assert array.shape == segment.shape and array.dtype == np.float32
        assert (array.size > 0) == (p.layer in (2, 4))
        if array.size:
            assert np.array_equal(array, store.read(segment))


def test_nothing_is_kept_of_frozen_layers_below_the_trained_ones() -> None:
    def saved(split: Split) -> int:
        module = submodel.build(VIT, SMALL, DEEP, split)
        return saved_activation_bytes(module, torch.rand(8, 1, 8, 8))

    by_trained = [
        saved(depth_split(DEEP, range(5), frozen=range(first))) for first in (3, 2, 1)
    ]
    whole = saved(Split.full(DEEP))
    # Each block keeps as much, and the input layer something, too.
    one = by_trained[1] - by_trained[0]
    assert by_trained[2] - by_trained[1] == one > 0
    assert whole >= by_trained[2]
    # Where layers are only missing, a block more costs the same.
    assert whole - saved(depth_split(DEEP, [0, 1, 2, 4])) == one


def test_a_model_that_needs_all_its_layers_says_so() -> None:
    deep = cut_in_depth(LAYOUT)
    with pytest.raises(ConfigError, match="cannot do without any"):
        check_depth(MLP, deep)
    check_depth(MLP, LAYOUT)
    check_depth(VIT, DEEP)
