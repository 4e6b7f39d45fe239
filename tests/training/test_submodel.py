"""Cutting, loading, extracting: a sub-model's values come back where they came from."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from p2pfusion.errors import IncompatibleError
from p2pfusion.split.layout import Layout
from p2pfusion.split.segment import Split
from p2pfusion.store import Store
from p2pfusion.training import submodel
from p2pfusion.training.models import MODELS
from tests.training.samples import window

MLP = MODELS["mlp"]
LAYOUT = MLP.layout({"hidden": [16, 8]})


def test_a_module_holds_the_stores_slice(tmp_path: Path) -> None:
    store = Store.create(tmp_path, LAYOUT, 3)
    split = window(LAYOUT, start=6, cells=4)
    module = submodel.build(MLP, {"hidden": [16, 8]}, LAYOUT, split)
    submodel.load(module, submodel.cut(store.read, LAYOUT, split))
    full = [store.read(segment) for segment in Split.full(LAYOUT).segments(LAYOUT)]
    for index, found in enumerate(submodel.extract(module)):
        sets = split.segment(LAYOUT, index).sets
        expected = full[index][np.ix_(*(list(indices) for indices in sets))]
        assert (found == expected).all()


def test_loading_copies_and_extracting_does_not() -> None:
    module = torch.nn.Linear(3, 2)
    arrays = [np.full((2, 3), 5.0, np.float32), np.zeros(2, np.float32)]
    for array in arrays:
        array.flags.writeable = False
    submodel.load(module, arrays)
    views = submodel.extract(module)
    with torch.no_grad():
        module.weight.add_(1.0)
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
def test_the_norm_is_over_all_values(lists: list[list[float]]) -> None:
    after = [np.array(values, np.float32) for values in lists]
    before = [np.zeros_like(array) for array in after]
    expected = np.sqrt(sum(float(value) ** 2 for values in lists for value in values))
    assert submodel.update_norm(before, after) == pytest.approx(expected, abs=1e-6)


def test_the_norm_of_large_values_does_not_overflow() -> None:
    huge = [np.full(4, 1e30, np.float32)]
    assert submodel.update_norm([np.zeros(4, np.float32)], huge) == pytest.approx(2e30)
