"""What people are told about rounds, from the reports of the protocol."""

from __future__ import annotations

import pytest

from p2pfusion.daemon.history import History, brief
from p2pfusion.limits import MAX_COUNTED_REASONS, ROUND_HISTORY
from p2pfusion.protocol.events import Report

FIELDS = {
    "number", "seconds", "contributors", "missing", "deadline_s", "sent_bytes",
    "received_bytes", "loss", "accuracy", "norm", "stale_ranges",
    "payload_sent_bytes", "payload_received_bytes",
}  # fmt: skip


def sealed(number: int, **changes: object) -> Report:
    """The report of a round that a peer called a sealed, without b."""
    details = {
        "round": number,
        "seconds": 1.5,
        "trained": True,
        "loss": 0.5,
        "norm": 2.0,
        "samples": 10,
        "training_s": 1.0,
        "contributors": ["a"],
        "missing": [{"peer": "b", "reason": "silent"}],
        "deadline_s": 2.0,
        "stale_ranges": 0,
        "deadlines": {"wait_s": 2.0},
        "phases": {"train": 1.0},
        "offers": {"a": {"loss": 0.5}},
        **changes,
    }
    return Report("round-sealed", details)


@pytest.fixture
def history() -> History:
    """Names are the ids in capitals."""
    return History(str.upper)


def note(history: History, report: Report, sent: int = 0, received: int = 0) -> None:
    history.note(report, sent_bytes=sent, received_bytes=received)


def test_a_row_has_the_promised_fields_and_names_people_know(history: History) -> None:
    history.measured(0, 0.75)
    note(history, sealed(0))
    (row,) = history.rounds(10)
    assert row.keys() >= FIELDS
    assert row["contributors"] == ["A"]
    assert row["missing"] == [{"peer": "b", "name": "B", "reason": "silent"}]
    assert row["accuracy"] == 0.75
    assert row["offers"] == {"a": {"loss": 0.5, "name": "A"}}
    note(history, sealed(1))
    assert history.rounds(1)[0]["accuracy"] is None


def test_an_accuracy_that_comes_after_the_seal_gets_into_the_row(
    history: History,
) -> None:
    told: list[dict[str, object]] = []
    history.watchers.append(told.append)
    history.measured_now = 0
    note(history, sealed(0))
    note(history, sealed(1))
    assert [row["accuracy"] for row in history.rounds(5)] == [None, None]
    history.measured(0, 0.25)
    assert history.measured_now is None
    assert [row["accuracy"] for row in history.rounds(5)] == [0.25, None]
    assert told[2:] == [{"number": 0, "accuracy": 0.25}]
    history.measured_now = 1
    history.measured(1, None)  # the trainer has died over it
    assert history.measured_now is None and len(told) == 3
    assert history.rounds(1)[0]["accuracy"] is None


def test_traffic_is_counted_from_seal_to_seal(history: History) -> None:
    note(history, sealed(0), sent=100, received=10)
    note(history, sealed(1), sent=150, received=40)
    rows = history.rounds(2)
    assert [row["sent_bytes"] for row in rows] == [100, 50]
    assert [row["received_bytes"] for row in rows] == [10, 30]
    assert history.this_round(175, 41) == (25, 1)


def test_payload_counts_for_its_round_even_after_the_seal(history: History) -> None:
    history.count_sent(0, 4)
    history.count_received(1, 8)
    note(history, sealed(0))
    history.count_sent(0, 16)
    history.count_sent(1, 32)
    note(history, sealed(1))
    found = [
        (row["payload_sent_bytes"], row["payload_received_bytes"])
        for row in history.rounds(5)
    ]
    assert found == [(20, 0), (32, 8)]


def test_the_last_rounds_are_kept_oldest_first_within_bounds(history: History) -> None:
    for number in range(ROUND_HISTORY + 50):
        history.count_sent(number, 1)
        history.measured(number + 1, 0.5)
        note(history, sealed(number))
    numbers = [row["number"] for row in history.rounds(10**6)]
    assert numbers == list(range(50, ROUND_HISTORY + 50))
    assert [row["number"] for row in history.rounds(2)] == numbers[-2:]
    assert {row["accuracy"] for row in history.rounds(9)} == {0.5}


def test_a_peer_is_too_slow_until_it_trains_in_time(history: History) -> None:
    note(history, Report("too-slow", {"rounds": 3, "training_s": 9.0}))
    note(history, sealed(3, trained=False))
    assert history.late_rounds == 3
    note(history, sealed(4))
    assert history.late_rounds == 0


def test_who_joins_anew_is_remembered_until_the_next_round(history: History) -> None:
    note(history, Report("rejoined", {"peer": "b", "epoch": 4}))
    assert history.back == {"b"}
    note(history, sealed(3))
    assert history.back == set()


def test_an_event_of_a_round_is_brief() -> None:
    assert brief(sealed(3)).keys() == {
        *("round", "seconds", "loss", "stale_ranges", "missing"),
    }
    other = Report("peer-silent", {"peer": "b", "reason": "one"})
    assert brief(other) == other.details


def test_misdeeds_are_counted_by_reason_within_bounds(history: History) -> None:
    for number in range(2 * MAX_COUNTED_REASONS):
        for _ in range(2):
            reason = f"lie {number}"
            note(history, Report("protocol-error", {"peer": "b", "reason": reason}))
    assert len(history.misdeeds) == MAX_COUNTED_REASONS + 1
    assert history.misdeeds["lie 0"] == 2
    assert history.misdeeds["other reasons"] == 2 * MAX_COUNTED_REASONS
