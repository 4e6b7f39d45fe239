"""Checkpoints, read back by the safetensors package and by our own reader."""

from __future__ import annotations

import json
import os
import resource
import struct
import tempfile
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file, save_file

from p2pfusion.errors import (
    LayoutError,
    LocalProtocolError,
    ResourceError,
    VerificationError,
)
from p2pfusion.split.depth import tensor_shape
from p2pfusion.split.indices import IndexSet
from p2pfusion.split.layout import Axis, Dimension, Initial, Layout, ParameterSpec
from p2pfusion.split.segment import Segment, Split
from p2pfusion.store.checkpoint import (
    copy_model,
    read_checkpoint,
    write_checkpoint,
)
from p2pfusion.store.files import Floats
from p2pfusion.store.store import Store
from tests.strategies import layouts, splits

LAYOUT = Layout(
    (Axis("a", 8),),
    (
        ParameterSpec("w", (Dimension(8, "a"), Dimension(5)), Initial("zeros")),
        ParameterSpec("odd \u00e9", (Dimension(3),), Initial("ones")),
        ParameterSpec("s", (), Initial("ones")),
    ),
)
FULL = tuple(Split.full(LAYOUT).segments(LAYOUT))


def numbered(layout: Layout) -> Floats:
    return np.arange(layout.size, dtype=np.float32)


@pytest.fixture
def written(tmp_path: Path) -> Path:
    """A small good checkpoint."""
    path = tmp_path / "model.safetensors"
    with write_checkpoint(path, LAYOUT, {"round": "3"}) as writer:
        writer.write_flat(FULL, numbered(LAYOUT))
    return path


@settings(max_examples=60)
@given(st.data())
def test_a_store_becomes_a_safetensors_file(data: st.DataObject) -> None:
    layout = data.draw(layouts())
    segments = tuple(data.draw(splits(layout)).segments(layout))
    metadata = data.draw(st.dictionaries(st.text(max_size=5), st.text(max_size=5)))
    values = np.arange(sum(s.size for s in segments), dtype=np.float32)
    with tempfile.TemporaryDirectory() as directory:
        store = Store.create(Path(directory) / "store", layout, 1)
        store.write_flat(segments, values)
        store.set_version(segments, 1)
        path = Path(directory) / "model.safetensors"
        with write_checkpoint(path, store.layout, metadata) as writer:
            copy_model(store, writer)
        loaded, (ours, described) = load_file(path), read_checkpoint(path)
    assert described == metadata
    assert list(ours) == sorted(loaded) and len(ours) == len(layout.parameters)
    for segment in Split.full(layout).segments(layout):
        name = layout.parameters[segment.parameter].name
        assert loaded[name].dtype == ours[name].dtype == np.float32
        tensor = loaded[name]
        assert tensor.shape == tensor_shape(layout.parameters[segment.parameter])
        assert np.array_equal(tensor.ravel(), store.read(segment).ravel())
        assert np.array_equal(ours[name], loaded[name])


def test_segments_may_come_in_any_order_and_replace_others(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    half = Segment(0, (IndexSet.from_ranges([(1, 3), (5, 7)]), IndexSet.span(1, 5)))
    with write_checkpoint(path, LAYOUT, {}) as writer:
        for segment in reversed(FULL):
            writer.write_flat([segment], np.zeros(segment.size, np.float32))
        writer.write_flat([half], np.arange(1, 17, dtype=np.float32))
    loaded = load_file(path)["w"]
    assert loaded[[1, 2, 5, 6], 1:].ravel().tolist() == list(range(1, 17))
    assert np.count_nonzero(loaded) == 16


def test_the_format_is_the_published_one(written: Path) -> None:
    raw = written.read_bytes()
    (length,) = struct.unpack("<Q", raw[:8])
    header = json.loads(raw[8 : 8 + length])
    assert (8 + length) % 8 == 0
    assert len(header["__metadata__"].pop("p2pfusion_sha256")) == 64
    assert header == {
        "__metadata__": {"round": "3"},
        "w": {"dtype": "F32", "shape": [8, 5], "data_offsets": [0, 160]},
        "odd \u00e9": {"dtype": "F32", "shape": [3], "data_offsets": [160, 172]},
        "s": {"dtype": "F32", "shape": [], "data_offsets": [172, 176]},
    }
    assert raw[8 + length :] == numbered(LAYOUT).astype("<f4").tobytes()


def test_a_large_model_is_never_in_memory(tmp_path: Path) -> None:
    size = 3 << 12
    dimensions = (Dimension(size, "a"), Dimension(1 << 10))
    spec = ParameterSpec("w", dimensions, Initial("uniform", 1.0))
    layout = Layout((Axis("a", size),), (spec,))
    store = Store.create(tmp_path / "store", layout, 1)
    tracemalloc.start()
    try:
        with write_checkpoint(
            tmp_path / "model.safetensors", store.layout, {}
        ) as writer:
            copy_model(store, writer)
        peak_bytes = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    # 48 MiB of model, in blocks of 4 MiB with their scratch.
    assert layout.size * 4 == 48 << 20 and peak_bytes < 32 << 20


def test_an_unfinished_checkpoint_never_appears(written: Path) -> None:
    before = written.read_bytes()
    with (
        pytest.raises(LocalProtocolError, match="of 44 values was given only 40"),
        write_checkpoint(written, LAYOUT, {}) as writer,
    ):
        writer.write_flat(FULL[:1], np.zeros(40, np.float32))
    with pytest.raises(KeyError), write_checkpoint(written, LAYOUT, {}) as writer:
        writer.write_flat(FULL, numbered(LAYOUT))
        raise KeyError
    assert written.read_bytes() == before
    assert list(written.parent.iterdir()) == [written]


def test_a_full_disk_is_found_before_anything_is_written(written: Path) -> None:
    before = written.read_bytes()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (300, limits[1]))
    try:
        with (
            pytest.raises(ResourceError, match=r"model\.safetensors"),
            write_checkpoint(written, LAYOUT, {}),
        ):
            pytest.fail("the block was entered")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert written.read_bytes() == before
    assert list(written.parent.iterdir()) == [written]


def test_values_must_fit_the_segments(tmp_path: Path) -> None:
    with (
        pytest.raises(LocalProtocolError, match="do not fit"),
        write_checkpoint(tmp_path / "model.safetensors", LAYOUT, {}) as writer,
    ):
        writer.write_flat(FULL, numbered(LAYOUT)[1:])


def test_the_formats_own_name_is_no_parameter(tmp_path: Path) -> None:
    spec = ParameterSpec("__metadata__", (), Initial("zeros"))
    with (
        pytest.raises(LayoutError, match="__metadata__"),
        write_checkpoint(tmp_path / "model.safetensors", Layout((), (spec,)), {}),
    ):
        pytest.fail("the block was entered")


# --- Damaged files -------------------------------------------------------------------


def test_a_file_cut_off_anywhere_is_refused(written: Path) -> None:
    raw = written.read_bytes()
    for length in range(len(raw)):
        os.truncate(written, 0)
        written.write_bytes(raw[:length])
        with pytest.raises(VerificationError, match="not a whole safetensors file"):
            read_checkpoint(written)


def test_a_file_with_something_behind_is_refused(written: Path) -> None:
    written.write_bytes(written.read_bytes() + b"\0")
    with pytest.raises(VerificationError, match="not a whole safetensors file"):
        read_checkpoint(written)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(VerificationError, match=r"none\.safetensors is missing"):
        read_checkpoint(tmp_path / "none.safetensors")


def test_a_directory_is_no_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(VerificationError, match="not a whole safetensors file"):
        read_checkpoint(tmp_path)


def test_other_types_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    save_file({"steps": np.zeros(3, np.int64)}, path)
    with pytest.raises(VerificationError, match="'steps' is int64"):
        read_checkpoint(path)
