"""The header of a checkpoint, read without the values."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import save

from p2pfusion.cli.checkpoint import read_metadata
from p2pfusion.errors import NotFoundError, VerificationError


def test_metadata_of_a_real_file(tmp_path: Path) -> None:
    file = tmp_path / "a.safetensors"
    told = {"model": "mlp", "model_arguments": "{}"}
    file.write_bytes(save({"w": np.zeros(3, np.float32)}, told))
    assert read_metadata(file) == told
    file.write_bytes(save({"w": np.zeros(3, np.float32)}))
    assert read_metadata(file) == {}


def test_a_missing_file_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError) as caught:
        read_metadata(tmp_path / "a.safetensors")
    assert "p2pfusion export" in caught.value.hint


def framed(header: bytes) -> bytes:
    return struct.pack("<Q", len(header)) + header


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"short",
        struct.pack("<Q", 2**60) + b"{}",
        framed(b"{"),
        framed(b"\xff\xff"),
        framed(b"[]"),
        framed(b"[" * 50_000),
        framed(b'{"__metadata__": 3}'),
    ],
)
def test_a_damaged_file_is_named(content: bytes, tmp_path: Path) -> None:
    file = tmp_path / "a.safetensors"
    file.write_bytes(content)
    with pytest.raises(VerificationError, match=r"a\.safetensors"):
        read_metadata(file)


@given(st.binary(max_size=60))
def test_any_bytes_give_texts_or_an_error(
    tmp_path_factory: pytest.TempPathFactory, content: bytes
) -> None:
    file = tmp_path_factory.getbasetemp() / "any.safetensors"
    file.write_bytes(content)
    try:
        found = read_metadata(file)
    except VerificationError:
        return
    assert all(isinstance(value, str) for value in found.values())
