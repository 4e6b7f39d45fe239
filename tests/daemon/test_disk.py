"""A daemon on a full disk: it lives, says so, trains nothing, and goes on by itself."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest

from tests.small_disk import needs_small_disk, run_on_small_disk


@pytest.mark.slow
@needs_small_disk
def test_a_full_disk_stops_training_until_there_is_room() -> None:
    # A short path, because the local socket lies below it.
    with tempfile.TemporaryDirectory(prefix="t-") as directory:
        run_on_small_disk(Path(directory), 24, "tests.daemon.full_disk")
