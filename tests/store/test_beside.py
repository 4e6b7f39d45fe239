"""What a module has beside its layout: into the file, and no parameter to readers."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import load_file, save_file

from p2pfusion.split.layout import Axis, Dimension, Initial, Layout, ParameterSpec
from p2pfusion.split.segment import Split
from p2pfusion.store import read_checkpoint, write_checkpoint
from p2pfusion.store.beside import (
    KEY,
    Beside,
    beside_path,
    names_beside,
    read_beside,
)
from p2pfusion.store.checksum import verify
from p2pfusion.store.pretrained import read_tensors

LAYOUT = Layout(
    (Axis("a", 8),),
    (
        ParameterSpec("w", (Dimension(8, "a"), Dimension(5)), Initial("zeros")),
        ParameterSpec("s", (Dimension(1),), Initial("ones")),
    ),
)
FULL = tuple(Split.full(LAYOUT).segments(LAYOUT))
VALUES = np.arange(LAYOUT.size, dtype=np.float32)
DTYPES = ("int64", "float32", "float64", "int16", "bool", "float16", "uint8")


def kept(directory: Path, buffers: dict[str, np.ndarray], **told: object) -> Beside:
    """As a trainer leaves it."""
    path = beside_path(directory / "store")
    save_file(buffers, path, {KEY: json.dumps(told)})
    return read_beside(path)


def written(directory: Path, beside: Beside) -> Path:
    path = directory / "model.safetensors"
    with write_checkpoint(path, LAYOUT, {"round": "3"}, beside) as writer:
        writer.write_flat(FULL, VALUES)
    return path


@given(
    st.dictionaries(
        st.sampled_from("bcdefg"),
        st.tuples(st.sampled_from(DTYPES), st.lists(st.integers(0, 3), max_size=3)),
    )
)
def test_buffers_ties_and_scalars_are_in_the_file(
    kinds: dict[str, tuple[str, list[int]]],
) -> None:
    buffers = {
        name: np.arange(int(np.prod(shape)), dtype=np.int64).reshape(shape).astype(kind)
        for name, (kind, shape) in kinds.items()
    }
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        told = {"tied": {"head": "w", "again": "s"}, "scalars": ["s"]}
        path = written(directory, kept(directory, buffers, **told))
        loaded, (ours, metadata) = load_file(path), read_checkpoint(path)
        assert verify(path)
        assert set(read_tensors(path)) == set(ours) == {"w", "s"}
    assert set(loaded) == {"w", "s", "head", "again", *buffers}
    for each, value in buffers.items():
        assert loaded[each].dtype == value.dtype
        assert np.array_equal(loaded[each], value) and loaded[each].shape == value.shape
    assert np.array_equal(loaded["head"], VALUES[:40].reshape(8, 5))
    assert loaded["s"].shape == loaded["again"].shape == ()
    assert loaded["s"] == loaded["again"] == 40
    assert metadata["round"] == "3"


def test_every_tensor_is_aligned_to_its_type(tmp_path: Path) -> None:
    odd = {"b": np.ones(3, np.bool_), "n": np.array(7), "h": np.ones(3, np.float16)}
    path = written(tmp_path, kept(tmp_path, odd))
    raw = path.read_bytes()
    length = int.from_bytes(raw[:8], "little")
    header = json.loads(raw[8 : 8 + length])
    sizes = {"BOOL": 1, "I64": 8, "F16": 2, "F32": 4}
    for name, entry in header.items():
        if name != "__metadata__":
            assert (8 + length + entry["data_offsets"][0]) % sizes[entry["dtype"]] == 0


def test_nothing_beside_leaves_no_trace(tmp_path: Path) -> None:
    assert read_beside(tmp_path / "none") == Beside()
    _, metadata = read_checkpoint(written(tmp_path, Beside()))
    assert metadata == {"round": "3"}


@pytest.mark.parametrize(
    "text", ["", "[", "[]", "3", '{"tied": 3}', '{"buffers": 3}', "[" * 100_000]
)
def test_what_a_strange_file_says_of_itself_does_no_harm(text: str) -> None:
    assert names_beside({KEY: text}) == set()
