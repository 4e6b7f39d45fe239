"""Who counts as online, from when and until when."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from p2pfusion.protocol.detector import PROBE_INTERVAL_S, SILENCE_S, Detector


@given(st.lists(st.floats(0.0, 50.0), max_size=10), st.floats(0.0, 60.0))
def test_online_is_heard_within_the_silence(heard: list[float], at: float) -> None:
    detector = Detector()
    past = sorted(instant for instant in heard if instant <= at)
    for instant in past:
        detector.heard("a", instant)
    online = bool(past) and at - past[-1] <= SILENCE_S
    assert detector.is_online("a", at) is online
    assert detector.online(at) == (["a"] if online else [])


def test_one_never_heard_may_answer_for_a_while() -> None:
    detector = Detector()
    detector.watch("a", 1.0)
    assert not detector.is_online("a", 1.0)
    assert detector.worth_asking(1.0 + SILENCE_S) == ["a"]
    assert detector.why_silent("a", 1.0 + SILENCE_S) == "connecting"
    assert detector.worth_asking(1.1 + SILENCE_S) == []
    assert detector.why_silent("a", 1.1 + SILENCE_S) == "never reached"


def test_silence_is_news_once_until_the_peer_is_heard_again() -> None:
    detector = Detector()
    assert detector.heard("a", 0.0) and not detector.heard("a", 1.0)
    assert detector.newly_silent(1.0 + SILENCE_S) == []
    assert detector.newly_silent(1.1 + SILENCE_S) == ["a"]
    assert detector.newly_silent(9.0) == []
    assert detector.why_silent("a", 9.0) == "silent for 8 s"
    assert detector.heard("a", 10.0)
    assert detector.newly_silent(20.0) == ["a"]


def test_goodbye_is_silence_at_once() -> None:
    detector = Detector()
    detector.heard("a", 0.0)
    detector.goodbye("a", 0.5)
    assert not detector.is_online("a", 0.5) and not detector.may_answer("a", 0.5)
    assert detector.why_silent("a", 0.6) == "stopped"
    assert detector.heard("a", 0.7) and detector.is_online("a", 0.7)


def test_probes_are_due_at_their_interval() -> None:
    detector = Detector()
    assert detector.probe_due(5.0) and not detector.probe_due(5.0)
    assert detector.next_probe_at == 5.0 + PROBE_INTERVAL_S
    assert detector.probe_due(detector.next_probe_at)


def test_round_trips_are_timed_and_their_memory_is_bounded() -> None:
    detector = Detector()
    first = detector.new_nonce(1.0)
    detector.answered("a", first, 1.25)
    assert detector.contacts["a"].rtt_s == 0.25
    for _ in range(10_000):
        detector.new_nonce(2.0)
    detector.answered("b", first, 3.0)
    assert "b" not in detector.contacts
    assert len(detector._sent_at) == 4096
