"""The pool: what goes in, under which name, and what is said of what is not there."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from p2pfusion.daemon.pool import Pool, is_hash
from p2pfusion.errors import DataError, VerificationError
from p2pfusion.split.layout import Axis, Dimension, Initial, Layout, ParameterSpec
from p2pfusion.store import Store, copy_model, write_checkpoint
from p2pfusion.store.checksum import file_hash

LAYOUT = Layout(
    (Axis("a", 8),), (ParameterSpec("w", (Dimension(8, "a"),), Initial("zeros")),)
)


@pytest.fixture
def pool(tmp_path: Path) -> Pool:
    """An empty one, whose directory is not there yet."""
    return Pool(tmp_path / "home" / "pool")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A checkpoint of ours, with its checksum."""
    path = tmp_path / "model.safetensors"
    with write_checkpoint(path, LAYOUT, {"model": "mlp"}) as writer:
        copy_model(Store.create(tmp_path / "store", LAYOUT, 1), writer)
    return path


def test_a_checkpoint_is_added_under_its_hash(pool: Pool, file: Path) -> None:
    assert pool.listed() == []
    name = pool.add(file)
    assert name == file_hash(file) == pool.add(file)
    assert pool.find(name) == pool.path(name)
    assert not pool.path(name).samefile(file)
    assert pool.path(name).read_bytes() == file.read_bytes()
    assert pool.listed() == [
        {
            "hash": name,
            "model": "mlp",
            "parameters": 8,
            "bytes": file.stat().st_size,
            "verified": True,
            "path": str(pool.path(name)),
        }
    ]


def test_a_checkpoint_of_another_program_has_no_model(
    pool: Pool, tmp_path: Path
) -> None:
    other = tmp_path / "other.safetensors"
    save_file({"w": np.ones(3, np.float32)}, other)
    pool.add(other)
    assert [each["model"] for each in pool.listed()] == [None]


def test_what_is_damaged_is_not_added(pool: Pool, file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    for damaged in (content, content[:-4], b"", b"{}"):
        file.write_bytes(damaged)
        with pytest.raises(VerificationError, match=r"model\.safetensors"):
            pool.add(file)
    save_file({}, file)
    with pytest.raises(VerificationError, match="has no tensors"):
        pool.add(file)
    assert pool.listed() == []


def test_what_is_no_file_is_named(pool: Pool, tmp_path: Path) -> None:
    for path, words in ((tmp_path / "absent", "no such file"), (tmp_path, "directory")):
        with pytest.raises(DataError, match=words):
            pool.add(path)


def test_what_is_not_there_can_be_added(pool: Pool) -> None:
    with pytest.raises(DataError, match="ab" * 32) as caught:
        pool.find("ab" * 32)
    assert caught.value.exit_code == 8
    assert "p2pfusion pool add FILE" in caught.value.hint


def test_what_is_not_what_its_name_says_is_found(pool: Pool, file: Path) -> None:
    name = pool.add(file)
    pool.path(name).write_bytes(file.read_bytes() + b" ")
    with pytest.raises(VerificationError, match=name):
        pool.find(name)
    (row,) = pool.listed()
    assert (row["verified"], row["model"], row["parameters"]) == (False, None, None)


@pytest.mark.parametrize(
    ("text", "named"),
    [("ab" * 32, True), ("", False), ("ab" * 31, False), ("a.safetensors", False)],
)
def test_a_hash_is_told_from_a_file(text: str, named: bool) -> None:
    assert is_hash(text) == named
