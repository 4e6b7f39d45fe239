"""Work that nobody waits for: one thing at a time, and no error is lost."""

from __future__ import annotations

from threading import Event

import pytest

from p2pfusion.errors import DiskFullError
from p2pfusion.store.behind import Behind


def test_nobody_waits_until_something_more_is_begun() -> None:
    behind, may_end, done = Behind(), Event(), list[str]()

    def slow() -> None:
        may_end.wait()
        done.append("first")

    behind.begin(slow)
    behind.look()
    assert not done
    may_end.set()
    behind.begin(lambda: done.append("second"))
    behind.wait()
    assert done == ["first", "second"]


def test_what_went_wrong_is_told_once() -> None:
    def refused() -> None:
        raise DiskFullError("no room")

    behind, done = Behind(), list[int]()
    behind.begin(refused)
    with pytest.raises(DiskFullError):
        behind.begin(lambda: done.append(1))
    assert not done, "what comes after it was not begun"
    behind.wait()
    behind.begin(lambda: done.append(2))
    behind.wait()
    assert done == [2]


def test_a_look_tells_it_too() -> None:
    def refused() -> None:
        raise DiskFullError("no room")

    behind = Behind()
    behind.begin(refused)
    told: list[DiskFullError] = []
    while not told:
        try:
            behind.look()
        except DiskFullError as error:
            told.append(error)
    behind.wait()
