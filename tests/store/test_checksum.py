"""The checksum of a checkpoint: any change is noticed, header and all."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save

from p2pfusion.errors import NotFoundError, VerificationError
from p2pfusion.split.layout import Axis, Dimension, Initial, Layout, ParameterSpec
from p2pfusion.split.segment import Split
from p2pfusion.store import read_checkpoint, write_checkpoint
from p2pfusion.store.checksum import KEY, UNKNOWN, read_header, verify

LAYOUT = Layout(
    (Axis("a", 8),),
    (ParameterSpec("w", (Dimension(8, "a"), Dimension(5)), Initial("zeros")),),
)


@pytest.fixture
def written(tmp_path: Path) -> Path:
    """A small good checkpoint."""
    path = tmp_path / "model.safetensors"
    segments = tuple(Split.full(LAYOUT).segments(LAYOUT))
    with write_checkpoint(path, LAYOUT, {"round": "3"}) as writer:
        writer.write_flat(segments, np.arange(40, dtype=np.float32))
    return path


def test_it_is_the_digest_of_the_file_with_zeros_in_its_place(written: Path) -> None:
    found = read_header(written)
    assert found["round"] == "3"
    zeroed = written.read_bytes().replace(found[KEY].encode(), UNKNOWN.encode())
    assert hashlib.sha256(zeroed).hexdigest() == found[KEY]
    assert verify(written)


def test_any_changed_byte_is_noticed(written: Path) -> None:
    whole = written.read_bytes()
    for place in range(len(whole)):
        changed = bytearray(whole)
        changed[place] ^= 1
        written.write_bytes(changed)
        assert not verify(written)
    written.write_bytes(whole)
    assert verify(written)


@pytest.mark.parametrize("length", [0, 7, 8, 30, 200, -1])
def test_a_cut_or_longer_file_is_noticed(written: Path, length: int) -> None:
    whole = written.read_bytes()
    written.write_bytes(whole[:length])
    assert not verify(written)
    written.write_bytes(whole + b"\0")
    assert not verify(written)


def test_a_damaged_one_is_not_read(written: Path) -> None:
    whole = bytearray(written.read_bytes())
    whole[-2] ^= 1
    written.write_bytes(whole)
    with pytest.raises(VerificationError, match="its checksum is another"):
        read_checkpoint(written)


def test_files_of_other_programs_are_read_and_not_verified(tmp_path: Path) -> None:
    path = tmp_path / "other.safetensors"
    path.write_bytes(save({"w": np.zeros(3, np.float32)}, {"model": "mlp"}))
    assert read_checkpoint(path)[1] == {"model": "mlp"}
    assert not verify(path)


def test_a_missing_file_is_missing(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError):
        verify(tmp_path / "none")
