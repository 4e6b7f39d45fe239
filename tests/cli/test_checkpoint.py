"""The header of a checkpoint, read without the values."""

from __future__ import annotations

import json
import os
import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import save

from p2pfusion.cli.checkpoint import read_metadata
from p2pfusion.cli.main import main
from p2pfusion.daemon.home import Home
from p2pfusion.errors import NotFoundError, VerificationError
from p2pfusion.split.layout import Axis, Dimension, Initial, Layout, ParameterSpec
from p2pfusion.split.segment import Split
from p2pfusion.store import write_checkpoint


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


LAYOUT = Layout(
    (Axis("a", 8),), (ParameterSpec("w", (Dimension(8, "a"),), Initial("zeros")),)
)


def write(path: Path, number: int) -> None:
    """A checkpoint after a round."""
    segments = tuple(Split.full(LAYOUT).segments(LAYOUT))
    with write_checkpoint(path, LAYOUT, {"p2pfusion_round": str(number)}) as writer:
        writer.write_flat(segments, np.full(8, number, np.float32))


def test_the_list_needs_no_daemon_and_says_what_is_damaged(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    listing = ["--home", str(tmp_path), "checkpoint", "ls"]
    assert main(listing) == 0
    assert "No checkpoints" in capsys.readouterr().out
    directory = Home(tmp_path).checkpoints
    directory.mkdir()
    for number in (3, 12):
        write(directory / f"round-{number:06}.safetensors", number)
    cut = directory / "round-000012.safetensors"
    cut.write_bytes(cut.read_bytes()[:-4])
    os.utime(cut, (2_000_000_000, 2_000_000_000))
    assert main(listing) == 0
    head, first, second, *_ = capsys.readouterr().out.splitlines()
    assert head.split() == ["ID", "ROUND", "SIZE", "WHEN", "VERIFIED"]
    assert first.startswith("round-000012") and "NO: damaged" in first
    assert second.startswith("round-000003") and second.endswith("yes")
    assert main([*listing, "--json", "--no-verify"]) == 0
    data = json.loads(capsys.readouterr().out)["data"]
    assert [row["id"] for row in data["checkpoints"]] == [
        "round-000012",
        "round-000003",
    ]
    assert {row["verified"] for row in data["checkpoints"]} == {None}
