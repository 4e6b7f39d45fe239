"""Start values from a checkpoint, against whole arrays in memory."""

from __future__ import annotations

import errno
import json
import os
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import save_file

from p2pfusion.errors import (
    ConfigError,
    NotFoundError,
    P2PFusionError,
    VerificationError,
)
from p2pfusion.split.depth import cut_in_depth, tensor_shape
from p2pfusion.split.indices import IndexSet
from p2pfusion.split.layout import Axis, Dimension, Initial, Layout, ParameterSpec
from p2pfusion.split.segment import Segment
from p2pfusion.store import Store, copy_model, read_checkpoint, write_checkpoint
from p2pfusion.store.checksum import file_hash
from p2pfusion.store.files import Floats
from p2pfusion.store.pretrained import Pretrained, read_tensors
from p2pfusion.store.store import HEADER, PRETRAINED
from tests.store.test_store import (
    any_segments,
    assign,
    place,
    some_values,
    whole_initial,
)
from tests.strategies import layouts, splits

UNIFORM = Initial("uniform", 0.5)
LAYOUT = cut_in_depth(
    Layout(
        (Axis("a", 4),),
        (
            ParameterSpec("table", (Dimension(3), Dimension(4, "a")), UNIFORM, 0),
            ParameterSpec("block", (Dimension(4, "a"),), UNIFORM, 1),
            ParameterSpec("head", (Dimension(5), Dimension(4, "a")), UNIFORM, 2),
            ParameterSpec("bias", (Dimension(5),), UNIFORM, 2),
        ),
    )
)


def values_for(layout: Layout, seed: int = 0) -> dict[str, Floats]:
    """Any values, in the shapes of the model's tensors."""
    drawn = np.random.default_rng(seed)
    return {
        p.name: drawn.normal(size=tensor_shape(p)).astype(np.float32)
        for p in layout.parameters
    }


def written(path: Path, tensors: dict[str, Floats]) -> Path:
    save_file(tensors, path)
    return path


@st.composite
def started(draw: st.DrawFn) -> tuple[Layout, dict[str, Floats], list[Floats]]:
    """A layout, a checkpoint that fits it, and the model that both begin with."""
    layout = draw(layouts())
    tensors = values_for(layout, draw(st.integers(0, 9)))
    whole = whole_initial(layout, 5)
    head = layout.layers[-1]
    for index, parameter in enumerate(layout.parameters):
        other = draw(st.sampled_from(("same", "same", "absent", "another shape")))
        if parameter.layer != head or other == "same":
            whole[index] = tensors[parameter.name].reshape(parameter.shape).copy()
        elif other == "absent":
            del tensors[parameter.name]
        else:
            shape = (*tensors[parameter.name].shape, 2)
            tensors[parameter.name] = np.ones(shape, np.float32)
    return layout, tensors, whole


@settings(max_examples=60, deadline=None)
@given(started(), st.data())
def test_what_nobody_trained_is_what_the_file_has(
    begun: tuple[Layout, dict[str, Floats], list[Floats]], data: st.DataObject
) -> None:
    """Any rectangles, before and after any split was trained, at writer and reader."""
    layout, tensors, whole = begun
    with tempfile.TemporaryDirectory() as directory:
        source = written(Path(directory) / "any.safetensors", tensors)
        path = Path(directory) / "store"
        store = Store.create(path, layout, 5, source)
        source.unlink()  # the store has all that it needs
        segments = data.draw(any_segments(layout))
        for segment in segments:
            expected = whole[segment.parameter][place(segment)]
            assert np.array_equal(store.read(segment), expected)
        trained = tuple(s for s in data.draw(splits(layout)).segments(layout) if s.size)
        if trained:
            new = some_values(trained, 1000)
            store.write_flat(trained, new)
            store.set_version(trained, 1)
            store.flush()
            assign(whole, trained, new)
        for opened in (store, Store.open(path, layout, 5)):
            expected = [whole[s.parameter][place(s)].ravel() for s in segments]
            assert np.array_equal(
                opened.read_flat(segments), np.concatenate([*expected, []])
            )


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A checkpoint of ``LAYOUT``."""
    return written(tmp_path / "any.safetensors", values_for(LAYOUT))


def head(store: Store) -> Floats:
    """All of the parameter ``head``."""
    return store.read(Segment(2, tuple(IndexSet.span(0, n) for n in (1, 5, 4))))


def test_an_exported_model_is_a_beginning(tmp_path: Path) -> None:
    first = Store.create(tmp_path / "first", LAYOUT, 1)
    file = tmp_path / "model.safetensors"
    with write_checkpoint(file, LAYOUT, {"model": "any"}) as writer:
        copy_model(first, writer)
    second = Store.create(tmp_path / "second", LAYOUT, 2, file)
    assert np.array_equal(head(first), head(second))
    again = tmp_path / "again.safetensors"
    with write_checkpoint(again, LAYOUT, {}) as writer:
        copy_model(second, writer)
    one, other = (read_checkpoint(path)[0] for path in (file, again))
    assert all(np.array_equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"block": None}, r"'block' of \(4,\) is not there"),
        ({"block": (4, 1)}, r"'block' of \(4,\) is \(4, 1\)"),
        ({"table": (4, 3)}, "'table' of"),
        ({"second block": (4,)}, "no parameter 'second block'"),
    ],
)
def test_another_model_is_refused_and_nothing_is_kept(
    change: dict[str, tuple[int, ...] | None], words: str, tmp_path: Path
) -> None:
    tensors = values_for(LAYOUT)
    for name, shape in change.items():
        if shape is None:
            del tensors[name]
        else:
            tensors[name] = np.ones(shape, np.float32)
    file = written(tmp_path / "any.safetensors", tensors)
    with pytest.raises(ConfigError, match=words) as caught:
        Store.create(tmp_path / "store", LAYOUT, 1, file)
    assert "any.safetensors" in caught.value.message and caught.value.hint
    assert not (tmp_path / "store" / PRETRAINED).exists()
    assert not (tmp_path / "store" / HEADER).exists()


def test_the_file_is_a_second_name_or_else_a_copy(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.EXDEV, "another disk")

    Store.create(tmp_path / "one", LAYOUT, 1, source)
    assert (tmp_path / "one" / PRETRAINED).samefile(source)
    monkeypatch.setattr(os, "link", refuse)
    store = Store.create(tmp_path / "two", LAYOUT, 1, source)
    kept = tmp_path / "two" / PRETRAINED
    assert not kept.samefile(source) and kept.read_bytes() == source.read_bytes()
    assert np.array_equal(head(store)[0], values_for(LAYOUT)["head"])


def test_a_store_names_what_it_began_with(source: Path, tmp_path: Path) -> None:
    name = file_hash(source)
    Store.create(tmp_path / "store", LAYOUT, 1, source)
    told = json.loads((tmp_path / "store" / HEADER).read_text())
    assert told["pretrained"] == name
    Store.open(tmp_path / "store", LAYOUT, 1, pretrained=name)
    for other in ("", "ab" * 32):
        with pytest.raises(VerificationError, match="another swarm"):
            Store.open(tmp_path / "store", LAYOUT, 1, pretrained=other)
    Store.create(tmp_path / "plain", LAYOUT, 1)
    assert "pretrained" not in json.loads((tmp_path / "plain" / HEADER).read_text())
    with pytest.raises(VerificationError, match="another swarm"):
        Store.open(tmp_path / "plain", LAYOUT, 1, pretrained=name)


@pytest.mark.parametrize("writable", [False, True])
def test_a_file_that_is_gone_or_another_is_found_on_opening(
    writable: bool, source: Path, tmp_path: Path
) -> None:
    Store.create(tmp_path / "store", LAYOUT, 1, source)
    kept = tmp_path / "store" / PRETRAINED
    Store.open(tmp_path / "store", LAYOUT, 1, writable=writable)
    content = bytearray(kept.read_bytes())
    content[-1] ^= 1
    kept.write_bytes(content)
    os.utime(kept, ns=(1, 1))  # the clock of files may stand still that long
    with pytest.raises(VerificationError, match="not the checkpoint"):
        Store.open(tmp_path / "store", LAYOUT, 1, writable=writable)
    kept.unlink()
    with pytest.raises(VerificationError, match="is missing"):
        Store.open(tmp_path / "store", LAYOUT, 1, writable=writable)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match=r"absent\.safetensors"):
        Store.create(tmp_path / "store", LAYOUT, 1, tmp_path / "absent.safetensors")


def test_other_types_than_float32_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "half.safetensors"
    save_file({"table": np.ones((3, 4), np.float16)}, file)
    with pytest.raises(VerificationError, match="'table' is F16, not F32"):
        read_tensors(file)


entries = st.fixed_dictionaries(
    {},
    optional={
        "dtype": st.sampled_from(["F32", "F16", 3, None]),
        "shape": st.lists(st.integers(-1, 4), max_size=2) | st.none() | st.text(),
        "data_offsets": st.lists(st.integers(-9, 90), max_size=3) | st.none(),
    },
)


@given(st.dictionaries(st.text(max_size=3), entries | st.none(), max_size=2))
def test_any_header_is_a_checkpoint_or_an_error(header: dict[str, object]) -> None:
    """Whatever is accepted lies in the file."""
    text = json.dumps(header).encode()
    with tempfile.TemporaryDirectory() as directory:
        file = Path(directory) / "any.safetensors"
        file.write_bytes(len(text).to_bytes(8, "little") + text + bytes(64))
        try:
            found = read_tensors(file)
        except P2PFusionError:
            return
        for tensor in found.values():
            end = tensor.offset_bytes + 4 * int(np.prod(tensor.shape, dtype=int))
            assert len(text) + 8 <= tensor.offset_bytes and end <= file.stat().st_size


def test_values_that_lie_unevenly_are_read(tmp_path: Path) -> None:
    """Other programs need not begin them at a multiple of their size."""
    values = np.arange(4, dtype=np.float32)
    entry = {"dtype": "F32", "shape": [4], "data_offsets": [0, 16]}
    text = json.dumps({"w": entry}).encode()
    text += b" " * (len(text) % 2 == 0)
    file = tmp_path / "odd.safetensors"
    file.write_bytes(len(text).to_bytes(8, "little") + text + values.tobytes())
    layout = Layout(
        (Axis("a", 4),), (ParameterSpec("w", (Dimension(4, "a"),), UNIFORM),)
    )
    into = np.zeros(4, np.float32)
    segment = Segment(0, (IndexSet.span(0, 4),))
    Pretrained(file, layout).fill(segment, np.arange(4) != 2, into)
    assert into.tolist() == [0, 1, 0, 3]
