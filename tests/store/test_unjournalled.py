"""A store without a journal, against one with."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from p2pfusion.errors import DiskFullError, LocalProtocolError
from p2pfusion.split.layout import Layout
from p2pfusion.split.segment import Segment, Split
from p2pfusion.store import Store
from p2pfusion.store import unjournalled as module
from p2pfusion.store.files import Floats
from p2pfusion.store.rectangles import Part
from p2pfusion.store.unjournalled import UnjournalledStore
from tests.strategies import layouts, splits

SEED = 3


def parts_of(segments: list[Segment], random: np.random.Generator) -> list[Part]:
    return [(each, random.random(each.shape, np.float32)) for each in segments]


def flat(parts: list[Part]) -> Floats:
    return np.concatenate([values.ravel() for _, values in parts])


@given(data=st.data(), layout=layouts())
@settings(deadline=None)
def test_it_reads_as_one_with_a_journal(data: st.DataObject, layout: Layout) -> None:
    random = np.random.default_rng(0)
    everything = list(Split.full(layout).segments(layout))
    with tempfile.TemporaryDirectory() as place:
        path = Path(place) / "store"
        store = UnjournalledStore.create(path, layout, SEED)
        other = Store.create(Path(place) / "other", layout, SEED)
        for version in range(1, 4):
            segments = list(data.draw(splits(layout)).segments(layout))
            parts = parts_of(segments, random)
            store.overwrite(parts, version)
            other.write_flat(segments, flat(parts))
            other.set_version(segments, version)
            other.flush()
            for one in (store, UnjournalledStore.open(path, layout, SEED)):
                found = one.read_flat(everything)
                assert np.array_equal(found, other.read_flat(everything))
                assert all(
                    np.array_equal(mine, theirs)
                    for mine, theirs in zip(
                        one.all_versions(), other.all_versions(), strict=True
                    )
                )


@given(layout=layouts(), number=st.integers(0, 5))
@settings(deadline=None)
def test_what_a_full_disk_cut_short_is_lost_and_then_written(
    layout: Layout, number: int
) -> None:
    segments = list(Split.full(layout).segments(layout))
    random = np.random.default_rng(number)
    first, second, third = (parts_of(segments, random) for _ in range(3))
    written = module.put
    with tempfile.TemporaryDirectory() as place, pytest.MonkeyPatch.context() as patch:
        store = UnjournalledStore.create(Path(place) / "store", layout, SEED)
        store.overwrite(first, 1)
        full_at = number % sum(1 for segment in segments if segment.size)

        def put(file: int, base: int, shape: tuple[int, ...], parts: object) -> None:
            nonlocal full_at
            full_at -= 1
            if full_at < 0:
                raise DiskFullError("full")
            written(file, base, shape, parts)  # type: ignore[arg-type]

        patch.setattr(module, "put", put)
        with pytest.raises(DiskFullError):
            store.overwrite(second, 2)
        assert not any(each.any() for each in store.all_versions())
        with pytest.raises(DiskFullError):
            store.overwrite(third, 3)
        patch.undo()
        store.overwrite(third, 3)
        assert np.array_equal(store.read_flat(segments), flat(third))
        assert all((each == 3).all() for each in store.all_versions())


@given(layout=layouts())
@settings(deadline=None)
def test_no_cell_goes_back(layout: Layout) -> None:
    parts = parts_of(list(Split.full(layout).segments(layout)), np.random.default_rng())
    with tempfile.TemporaryDirectory() as place:
        store = UnjournalledStore.create(Path(place) / "store", layout, SEED)
        store.overwrite(parts, 2)
        with pytest.raises(LocalProtocolError, match="a newer one"):
            store.overwrite(parts, 1)
