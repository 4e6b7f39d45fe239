"""What is left after a crash: the old or the new, and never a mixture."""

from __future__ import annotations

import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pfusion.simulation.disk import KEPT_WRITES, Cells, Disk, File, Progress
from p2pfusion.split.homes import Homes
from tests.protocol.stage import small_layout

writes = st.lists(st.tuples(st.floats(0.0, 2.0), st.floats(0.0, 2.0)), max_size=6)


@given(writes, st.floats(0.0, 20.0), st.booleans())
def test_a_crash_leaves_the_last_durable_content_or_the_one_being_written(
    steps: list[tuple[float, float]], crash_at: float, keeps: bool
) -> None:
    file, now = File(0), 0.0
    allowed = [0]
    for number, (pause, takes) in enumerate(steps, 1):
        begun, now = now + pause, now + pause + takes
        file.write(number, begun, now)
        assert file.content == number
        if now <= crash_at:
            allowed = [number]
        elif begun <= crash_at:
            allowed = [number] if keeps else allowed
    file.crash(crash_at, keeps=keeps)
    assert [file.content] == allowed


def test_a_file_remembers_what_one_event_can_write() -> None:
    file = File(0)
    for number in range(1, KEPT_WRITES):
        file.write(number, 1.0 + number, 2.0 + number)
    assert file.as_of(2.5) == (0, 1)


@pytest.mark.parametrize("loss", [0.0, 1.0])
def test_all_files_of_a_disk_keep_or_lose_what_is_being_written(loss: float) -> None:
    disk = Disk(random.Random(0), cell_count=4)
    disk.loss = loss
    homes = Homes.initial(small_layout())
    old, new = Progress(1, homes), Progress(2, homes)
    disk.progress.write(old, 1.0, 1.1)
    disk.progress.write(new, 5.0, 5.1)
    disk.crash(5.05)
    assert disk.progress.content is (old if loss else new)
    assert disk.manifest.content is None and disk.facts.content == ()


def test_cells_that_are_being_synced_are_old_or_new_one_by_one() -> None:
    disk = Disk(random.Random(3), cell_count=400)
    old, new = Cells.empty(400), Cells.empty(400)
    new.claimed[:], new.content[:] = 7, 7
    disk.cells.write(old, 0.0, 0.1)
    disk.cells.write(new, 1.0, 2.0)
    disk.crash(1.5)
    left = disk.cells.content.claimed
    assert set(np.unique(left)) == {0, 7}
    disk.cells.write(new, 3.0, 3.1)
    disk.crash(3.1)
    assert set(np.unique(disk.cells.content.claimed)) == {7}


def test_an_incarnation_is_never_given_twice() -> None:
    disk = Disk(random.Random(0), cell_count=1)
    given_out = [disk.next_incarnation()]
    disk.crash(0.0)
    given_out.append(disk.next_incarnation())
    assert given_out == [1, 2]
