"""Files are whole or not there, and a full disk is one clear error."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from p2pfusion.errors import ResourceError
from p2pfusion.store.files import new_file, write_at
from p2pfusion.store.offer import write_offer


def test_a_full_disk_is_a_resource_error_and_leaves_nothing(tmp_path: Path) -> None:
    # The temporary file's name leads to the device that is always full.
    (tmp_path / ".offer.part").symlink_to("/dev/full")
    with pytest.raises(ResourceError, match="offer: No space left") as caught:
        write_offer(tmp_path / "offer", [np.ones(9, np.float32)])
    assert "free some disk space" in caught.value.hint
    assert list(tmp_path.iterdir()) == []


def test_an_exception_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")
    with pytest.raises(KeyError), new_file(path, durable=True) as file:
        write_at(file, b"new", 0)
        raise KeyError
    assert path.read_bytes() == b"old" and list(tmp_path.iterdir()) == [path]


def test_what_a_crash_left_behind_is_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "file"
    (tmp_path / ".file.part").write_bytes(b"much longer than the new content")
    with new_file(path, durable=True) as file:
        write_at(file, b"new", 0)
    assert path.read_bytes() == b"new" and list(tmp_path.iterdir()) == [path]
