"""A full disk refuses values whole, and never kills the process that writes them."""

from __future__ import annotations

from pathlib import Path

from tests.small_disk import needs_small_disk, run_on_small_disk


@needs_small_disk
def test_a_full_disk_refuses_values_and_keeps_every_round_whole(tmp_path: Path) -> None:
    run_on_small_disk(tmp_path, 12, "tests.store.full_disk")
