"""The journal: what counts, what does not, and what a power failure may do to it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pfusion.split.layout import Layout
from p2pfusion.split.segment import Segment
from p2pfusion.store.journal import Journal, Journals, pack_segments, unpack_segments
from tests.strategies import index_sets, layouts

ADDED = (
    (1, np.array([3, 1, 0, 7]), np.arange(7, dtype=np.float32)),
    (2, np.array([0]), np.arange(4, dtype=np.int32)),
    (1, np.array([], np.int64), np.empty(0, np.float32)),
)


def filled(path: Path) -> Journal:
    """A journal with some records that do not count yet."""
    journal = Journal(path)
    for kind, numbers, values in ADDED:
        journal.append(kind, numbers, values, 100)
    return journal


def assert_whole(journal: Journal) -> None:
    found = list(journal.records())
    assert len(found) == len(ADDED)
    for record, (kind, numbers, values) in zip(found, ADDED, strict=True):
        assert record.kind == kind
        np.testing.assert_array_equal(record.numbers, numbers)
        np.testing.assert_array_equal(record.values.view(values.dtype), values)


def test_what_was_committed_comes_back(tmp_path: Path) -> None:
    journal = filled(tmp_path / "j")
    assert_whole(journal)
    journal.commit(1)
    again = Journal(tmp_path / "j")
    assert again.recover()
    assert_whole(again)


def test_what_was_not_committed_does_not_count(tmp_path: Path) -> None:
    filled(tmp_path / "j")
    assert not Journal(tmp_path / "j").recover()
    assert not Journal(tmp_path / "none").recover()
    assert not (tmp_path / "none").exists()


def test_what_was_cleared_ends_with_the_next_record(tmp_path: Path) -> None:
    journal = filled(tmp_path / "j")
    journal.commit(1)
    journal.clear()
    assert list(journal.records()) == []
    assert Journal(tmp_path / "j").recover(), "applying it again changes nothing"
    journal.append(*ADDED[0], 0)
    assert not Journal(tmp_path / "j").recover()
    journal.commit(1)
    again = Journal(tmp_path / "j")
    assert again.recover() and len(list(again.records())) == 1


def test_the_file_keeps_its_blocks(tmp_path: Path) -> None:
    journal = filled(tmp_path / "j")
    size = (tmp_path / "j").stat().st_size
    journal.commit(1)
    journal.clear()
    journal.append(*ADDED[0], 0)
    assert (tmp_path / "j").stat().st_size == size


def test_any_torn_or_changed_byte_makes_it_not_count(tmp_path: Path) -> None:
    journal = filled(tmp_path / "j")
    journal.commit(1)
    whole = (tmp_path / "j").read_bytes()
    used = len(whole) - 100
    for place in range(used):
        changed = bytearray(whole)
        changed[place] ^= 1
        (tmp_path / "j").write_bytes(changed)
        # Seven bytes of the head are padding.
        assert not Journal(tmp_path / "j").recover() or 9 <= place < 16
        (tmp_path / "j").write_bytes(whole[:place])
        assert not Journal(tmp_path / "j").recover()


def test_two_files_take_turns_and_both_count_after_a_crash(tmp_path: Path) -> None:
    ends = tmp_path / "one", tmp_path / "other"
    journals = Journals(*ends)
    for _ in range(2):
        journals.append(*ADDED[0], 0)
        journals.commit()
        journals.turn()
    journals.append(*ADDED[1], 0)
    for crashes in range(3):
        found = [each.number for each in Journals(*ends).recover()]
        assert found == ([2] if not crashes else [2, 3]), "the older one first"
        if not crashes:
            journals.commit()
    again = Journals(*ends)
    assert [each.number for each in again.recover()] == [2, 3]
    again.append(*ADDED[2], 0)
    assert [each.number for each in Journals(*ends).recover()] == [3]
    again.commit()
    assert [each.number for each in Journals(*ends).recover()] == [3, 4]


def test_a_journal_of_before_there_were_two_counts(tmp_path: Path) -> None:
    filled(tmp_path / "one").commit(0)
    (found,) = Journals(tmp_path / "one", tmp_path / "other").recover()
    assert found.number == 0


@given(data=st.data())
def test_segments_come_back_from_their_numbers(data: st.DataObject) -> None:
    layout: Layout = data.draw(layouts())
    chosen = data.draw(st.lists(st.integers(0, len(layout.parameters) - 1), max_size=4))
    segments = [
        Segment(
            index,
            tuple(data.draw(index_sets(n)) for n in layout.parameters[index].shape),
        )
        for index in chosen
    ]
    assert unpack_segments(layout, pack_segments(segments)) == tuple(segments)


@pytest.mark.parametrize("content", [b"", b"p2pf-redo", b"x" * 32, b"x" * 4000])
def test_any_other_file_does_not_count(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "j").write_bytes(content)
    assert not Journal(tmp_path / "j").recover()
