"""Probes: when they are due, what their failure means, and asking others to look."""

from __future__ import annotations

from p2pfusion.limits import MAX_RELAYED_PROBES
from p2pfusion.protocol.detector import Detector
from p2pfusion.protocol.messages import ProbeFor, Seen
from p2pfusion.protocol.probing import HELPERS, REMEMBERED_PROBES, Probing
from p2pfusion.protocol.timing import DEFAULT_TIMING, MAX_SCORE, TIMINGS, Health

INTERVAL_S, SILENCE_S = DEFAULT_TIMING.interval_s, DEFAULT_TIMING.silence_s
OTHERS = ["a", "b", "c", "d", "e"]


def hearing(*peers: str) -> Probing:
    """``me``, which has just heard these."""
    probing = Probing("me", Detector())
    for peer in peers:
        probing.detector.heard(peer, 0.0)
    return probing


def test_probes_are_due_at_their_interval() -> None:
    probing = hearing()
    assert probing.due(5.0) and not probing.due(5.0)
    assert probing.next_at == 5.0 + INTERVAL_S
    assert probing.due(probing.next_at)


def test_round_trips_are_timed_and_their_memory_is_bounded() -> None:
    probing = hearing("a")
    first = probing.ping("a", 1.0)
    probing.answered("a", first, 1.25)
    assert probing.detector.contacts["a"].rtt_s == 0.25
    for _ in range(3 * REMEMBERED_PROBES):
        probing.ping("a", 2.0)
    assert len(probing._sent_at) == REMEMBERED_PROBES
    probing.answered("b", first, 3.0)
    assert "b" not in probing.detector.contacts


# --- The own health ------------------------------------------------------------------


def test_bad_health_makes_careful() -> None:
    for timing in TIMINGS.values():
        health = Health()
        assert health.interval_s(timing) == timing.interval_s
        health.worse()
        assert health.interval_s(timing) == 2 * timing.interval_s
        assert health.suspicion_s(timing) == 2 * timing.suspicion_s
        for _ in range(20):
            health.worse()
        assert health.score == MAX_SCORE
        assert health.interval_s(timing) == timing.silence_s / 2
        for _ in range(20):
            health.better()
        assert health.score == 0


def test_one_silence_counts_once_against_the_own_health() -> None:
    probing = hearing("a")
    health = probing.detector.health
    assert not probing.unanswered("a", 0.5), "nobody has asked it anything"
    probing.ping("a", 1.0)
    assert probing.unanswered("a", 2.0) and health.score == 1
    probing.ping("a", 2.0)
    assert probing.unanswered("a", 3.0) and health.score == 1
    probing.detector.heard("a", 3.1)
    assert not probing.unanswered("a", 4.0)
    probing.ping("a", 4.0)
    assert probing.unanswered("a", 5.0) and health.score == 2
    number = probing.ping("a", 6.0)
    probing.answered("a", number, 6.1)
    probing.answered("a", number, 6.2)
    assert health.score == 1, "each answer counts once"


def test_to_be_held_up_for_less_than_half_a_silence_is_not_to_sleep() -> None:
    probing = hearing("a")
    probing.due(50.0)
    probing.detector.heard("a", 50.0)
    due, half_s = probing.next_at, probing.detector.timing.silence_s / 2
    assert half_s > INTERVAL_S
    assert probing.awake(due + half_s) == 0.0
    assert probing.detector.health.score == 1, "but it makes careful"
    assert probing.detector.contacts["a"].heard_at == 50.0 + half_s
    assert probing.awake(due + half_s) == 0.0
    assert probing.detector.contacts["a"].heard_at == 50.0 + half_s, "once"


def test_a_turn_that_comes_too_late_is_noticed() -> None:
    probing = hearing("a")
    assert probing.awake(50.0) == 0.0, "it has only just begun"
    probing.due(50.0)
    assert probing.awake(50.0 + 2 * INTERVAL_S) == 0.0, "a little late"
    probing.due(52.0)
    probing.detector.heard("a", 52.0)
    assert probing.awake(73.0) == 20.0 and probing.awake(73.0) == 0.0
    assert probing.detector.health.score == 1
    assert probing.detector.is_online("a", 73.0)
    assert probing.due(73.0), "it asks at once who is there"


# --- By way of others ----------------------------------------------------------------


def test_a_few_others_are_asked_once_per_silence() -> None:
    probing = hearing(*OTHERS)
    asked = probing.ask_others("a", OTHERS, 1.0)
    helpers = [helper for helper, _ in asked]
    assert len(set(helpers)) == HELPERS and "a" not in helpers
    assert {probe.peer for _, probe in asked} == {"a"}
    assert probing.ask_others("a", OTHERS, 1.0 + SILENCE_S / 2) == []
    again = probing.ask_others("a", OTHERS, 1.0 + SILENCE_S)
    assert again and again != asked
    assert [h for h, _ in probing.ask_others("b", ["a", "b"], 1.0)] == ["a"]


def test_what_was_seen_counts_if_it_was_asked_for() -> None:
    probing = hearing("a", "b")
    ((_, probe),) = probing.ask_others("a", ["a", "b"], 1.0)
    probing.seen(Seen(probe.nonce, "b"), 2.0)
    probing.seen(Seen(probe.nonce + 1, "a"), 2.0)
    assert probing.detector.last_sign("a") == 0.0
    probing.seen(Seen(probe.nonce, "a"), 2.0)
    assert probing.detector.last_sign("a") == 2.0


def test_who_asked_for_a_probe_hears_of_its_answer_and_only_then() -> None:
    probing = hearing("a", "b", "c")
    number = probing.asked_by("b", ProbeFor(7, "a"), 1.0)
    probing.asked_by("c", ProbeFor(9, "a"), 1.1)
    assert number is not None
    told = probing.answered("a", number, 2.0)
    assert told == [("b", Seen(7, "a")), ("c", Seen(9, "a"))]
    assert probing.answered("a", number, 3.0) == []
    late = probing.asked_by("b", ProbeFor(8, "a"), 4.0)
    assert late is not None
    probing.drop_old(4.1 + SILENCE_S)
    assert probing.answered("a", late, 5.0 + SILENCE_S) == []


def test_probes_for_others_are_bounded() -> None:
    probing = hearing()
    for number in range(2 * MAX_RELAYED_PROBES):
        probing.asked_by("b", ProbeFor(1, f"p{number}"), 1.0)
    assert len(probing._for_others) == MAX_RELAYED_PROBES
    assert probing.asked_by("b", ProbeFor(1, "a"), 1.0) is None
