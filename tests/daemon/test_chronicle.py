"""The events of a peer: numbered, in order, bounded, and there after a restart."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pfusion.daemon import chronicle as module
from p2pfusion.daemon.chronicle import (
    BY_OTHERS_INTERVAL_S,
    MAX_EVENT_BYTES,
    OLDER,
    Chronicle,
    number_of,
    read_events,
)
from p2pfusion.daemon.health import Trouble
from p2pfusion.daemon.last_words import EVENTS, last_words


class Clock:
    """Unix time, as a test says."""

    def __init__(self) -> None:
        self.now = 1_790_000_000.0

    def __call__(self) -> float:
        return self.now


def made(home: Path, clock: Clock | None = None) -> Chronicle:
    return Chronicle(home, str.upper, clock or Clock())


def kinds(chronicle: Chronicle) -> list[object]:
    return [event["kind"] for event in chronicle.since(0)]


def test_an_event_has_a_number_an_instant_a_kind_words_and_details(
    tmp_path: Path,
) -> None:
    chronicle = made(tmp_path)
    chronicle.note("peer-silent", {"peer": "b", "reason": "silent for 4 s"})
    assert chronicle.since(0) == [
        {
            "number": 1,
            "at": "2026-09-21T14:13:20.000Z",
            "kind": "peer-silent",
            "text": "B: silent for 4 s",
            "details": {"peer": "b", "reason": "silent for 4 s", "name": "B"},
        }
    ]


def test_numbers_go_on_after_a_restart(tmp_path: Path) -> None:
    first = made(tmp_path)
    for _ in range(3):
        first.note("done", {"rounds": 1})
    second = made(tmp_path)
    assert second.since(0) == first.since(0) and second.newest == 3
    second.note("done", {"rounds": 1})
    assert [number_of(event) for event in second.since(2)] == [3, 4]


@given(
    st.lists(st.tuples(st.booleans(), st.text(max_size=40)), max_size=30),
    st.integers(0, 35),
    st.integers(0, 35),
)
def test_what_is_asked_for_is_the_end_of_what_was_noted(
    steps: list[tuple[bool, str]], since: int, count: int
) -> None:
    with tempfile.TemporaryDirectory() as home:
        chronicle = made(Path(home))
        noted = []
        for restarts, text in steps:
            if restarts:
                chronicle = made(Path(home))
            chronicle.note("denied", {"text": text})
            noted.append(text)
        wanted = list(enumerate(noted, 1))[since:]
        found = chronicle.since(since, count) if count else []
        assert (
            [
                (number_of(event), event["details"]["text"])  # type: ignore[index]
                for event in found
            ]
            == (wanted[-count:] if count else [])
        )


def test_a_damaged_file_costs_its_damaged_lines(tmp_path: Path) -> None:
    chronicle = made(tmp_path)
    for _ in range(3):
        chronicle.note("done", {"rounds": 1})
    path = tmp_path / EVENTS
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(lines[0] + b"\xff{}\n[1]\n" + lines[1] + lines[2][:20])
    assert [number_of(event) for event in read_events(tmp_path)] == [1, 2]
    assert made(tmp_path).newest == 2


def test_files_and_memory_are_bounded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_EVENTS_FILE_BYTES", 2_000)
    monkeypatch.setattr(module, "MAX_EVENTS_IN_MEMORY", 5)
    chronicle = made(tmp_path)
    for _ in range(200):
        chronicle.note("done", {"rounds": 1})
    assert [number_of(event) for event in chronicle.since(0)] == list(range(196, 201))
    sizes = [(tmp_path / name).stat().st_size for name in (EVENTS, OLDER)]
    assert max(sizes) < 3_000
    assert made(tmp_path).newest == 200


def test_a_huge_event_keeps_its_words_alone(tmp_path: Path) -> None:
    chronicle = made(tmp_path)
    chronicle.note("done", {"rounds": 1, "all": "x" * MAX_EVENT_BYTES})
    (event,) = chronicle.since(0)
    assert (event["text"], event["details"]) == ("all 1 rounds are done", {})


def test_a_place_that_cannot_be_written_costs_the_file_only(tmp_path: Path) -> None:
    chronicle = made(tmp_path / "nowhere")
    chronicle.note("done", {"rounds": 1})
    chronicle.note("done", {"rounds": 1})
    assert chronicle.newest == 2


def test_what_others_cause_cannot_push_out_the_rest(tmp_path: Path) -> None:
    clock = Clock()
    chronicle = made(tmp_path, clock)
    for number in range(100):
        chronicle.note("protocol-error", {"peer": "b", "reason": f"lie {number}"})
    assert chronicle.newest == 1
    clock.now += BY_OTHERS_INTERVAL_S
    chronicle.note("protocol-error", {"peer": "b", "reason": "lie 0"})
    assert chronicle.newest == 1, "that has been said"
    chronicle.note("protocol-error", {"peer": "b", "reason": "lie 1"})
    chronicle.note("newcomer-denied", {"name": "c", "why": "used up"})
    assert chronicle.newest == 3


def test_a_member_that_comes_and_goes_all_the_time_does_not_either(
    tmp_path: Path,
) -> None:
    clock = Clock()
    chronicle = made(tmp_path, clock)
    for _ in range(100):
        chronicle.note("peer-silent", {"peer": "b", "reason": "it has stopped"})
        chronicle.note("peer-online", {"peer": "b"})
    chronicle.note("peer-online", {"peer": "c"})
    assert chronicle.newest == 3
    clock.now += BY_OTHERS_INTERVAL_S
    chronicle.note("peer-online", {"peer": "b"})
    assert chronicle.newest == 4


def test_troubles_come_and_go(tmp_path: Path) -> None:
    chronicle = made(tmp_path)
    full = Trouble("error", "the disk is full", "make room")
    chronicle.compare({"disk-full": full})
    chronicle.compare({"disk-full": full})
    worse = Trouble("error", "the disk is very full", "make room")
    chronicle.compare({"disk-full": worse})
    chronicle.compare({})
    assert [event["text"] for event in chronicle.since(0)] == [
        "the disk is full",
        "the disk is very full",
        "over: the disk is very full",
    ]


def test_a_run_that_did_not_end_is_noticed_by_the_next(tmp_path: Path) -> None:
    first = made(tmp_path)
    first.begin()
    second = made(tmp_path)
    second.begin()
    second.end("it was told to")
    third = made(tmp_path)
    third.begin()
    assert kinds(third) == [
        *("daemon-started", "ended-unseen", "daemon-started", "daemon-stopped"),
        "daemon-started",
    ]


def test_the_file_is_lines_of_json(tmp_path: Path) -> None:
    chronicle = made(tmp_path)
    chronicle.note("joined", {"name": "zwölf\n", "swarm": "s"})
    (line,) = (tmp_path / EVENTS).read_text().splitlines()
    assert json.loads(line) == chronicle.since(0)[0]


def test_the_last_words_are_those_of_a_daemon_that_ended_by_itself(
    tmp_path: Path,
) -> None:
    assert last_words(tmp_path) == "", "there was none"
    chronicle = Chronicle(tmp_path, str)
    chronicle.begin()
    assert "without a word" in last_words(tmp_path)
    chronicle.end("it was told to")
    assert last_words(tmp_path) == ""
    chronicle.end("mine.npz: no such file")
    assert last_words(tmp_path) == "the last one ended: mine.npz: no such file"
    with open(tmp_path / EVENTS, "ab") as file:
        file.write(b"{damaged\n")
    assert last_words(tmp_path) == ""
