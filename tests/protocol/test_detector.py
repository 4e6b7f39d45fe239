"""Who counts as online, from when and until when."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from p2pfusion.protocol.detector import Detector
from p2pfusion.protocol.timing import DEFAULT_TIMING, TIMINGS

SILENCE_S = DEFAULT_TIMING.silence_s


@given(st.lists(st.floats(0.0, 50.0), max_size=10), st.floats(0.0, 60.0))
def test_online_is_heard_within_the_silence(heard: list[float], at: float) -> None:
    detector = Detector()
    past = sorted(instant for instant in heard if instant <= at)
    for instant in past:
        detector.heard("a", instant)
    online = bool(past) and at <= past[-1] + SILENCE_S
    assert detector.is_online("a", at) is online


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


def test_bytes_in_its_name_keep_a_peer_there_and_bring_none_back() -> None:
    detector = Detector()
    detector.moves("stranger", 0.0)
    assert "stranger" not in detector.contacts
    detector.heard("a", 0.0)
    detector.moves("a", SILENCE_S)
    assert detector.is_online("a", 2 * SILENCE_S)
    assert detector.newly_silent(2.1 * SILENCE_S) == ["a"]
    detector.moves("a", 2.1 * SILENCE_S)
    assert not detector.is_online("a", 2.1 * SILENCE_S)
    detector.heard("a", 3 * SILENCE_S)
    detector.goodbye("a", 3 * SILENCE_S)
    detector.moves("a", 3 * SILENCE_S)
    assert not detector.is_online("a", 3 * SILENCE_S)


def test_goodbye_is_silence_at_once() -> None:
    detector = Detector()
    detector.heard("a", 0.0)
    detector.goodbye("a", 0.5)
    assert not detector.is_online("a", 0.5) and not detector.may_answer("a", 0.5)
    assert detector.newly_silent(0.5) == ["a"] and detector.newly_silent(9.0) == []
    assert detector.why_silent("a", 0.6) == "stopped"
    assert detector.heard("a", 0.7) and detector.is_online("a", 0.7)


def test_who_slept_does_not_take_it_for_the_silence_of_others() -> None:
    detector = Detector()
    detector.heard("a", 1.0)
    detector.watch("b", 1.0)
    detector.slept(20.0)
    assert detector.online(21.0 + SILENCE_S) == ["a"]
    assert detector.worth_asking(21.0 + SILENCE_S) == ["a", "b"]
    assert detector.newly_silent(21.1 + SILENCE_S) == ["a", "b"]


def test_every_network_has_its_timing() -> None:
    assert [(t.interval_s, t.silence_s, t.suspicion_s) for t in TIMINGS.values()] == [
        (0.5, 2.0, 5.0),
        (1.0, 4.0, 15.0),
        (5.0, 20.0, 60.0),
    ]


# --- Large swarms: not everybody is observed -----------------------------------------


def test_who_is_not_observed_counts_as_online_until_it_is_doubted() -> None:
    detector = Detector()
    detector.observe(["a"], 0.0)
    for peer in "ab":
        detector.watch(peer, 0.0)
    assert detector.online(0.0) == ["b"] and detector.worth_asking(0.0) == ["a", "b"]
    assert detector.newly_silent(99.0) == ["a"] and detector.is_online("b", 99.0)
    detector.doubt("b", 100.0)
    assert detector.probed == {"a", "b"} and detector.is_online("b", 100.0)
    assert detector.newly_silent(101.0 + SILENCE_S) == ["b"]
    assert not detector.is_online("b", 110.0)


def test_who_answers_after_a_doubt_is_believed_again() -> None:
    detector = Detector()
    detector.observe([], 0.0)
    detector.watch("b", 0.0)
    detector.doubt("b", 10.0)
    detector.settle_doubts(10.5)
    assert detector.probed == {"b"}
    detector.heard("b", 11.0)
    detector.settle_doubts(11.5)
    assert detector.probed == set() and detector.online(99.0) == ["b"]


def test_who_is_gone_by_the_facts_is_not_online_until_it_is_heard() -> None:
    detector = Detector()
    detector.observe([], 0.0)
    detector.watch("b", 0.0)
    detector.gone("b")
    assert not detector.is_online("b", 1.0) and detector.newly_silent(1.0) == ["b"]
    assert detector.why_silent("b", 2.0) == "gone, say those who observe it"
    assert detector.heard("b", 3.0) and detector.online(3.0) == ["b"]


def test_who_is_observed_from_now_on_has_time_to_answer() -> None:
    detector = Detector()
    detector.observe([], 0.0)
    detector.watch("b", 0.0)
    detector.observe(["b"], 50.0)
    assert detector.online(50.0 + SILENCE_S) == ["b"]
    assert detector.newly_silent(50.1 + SILENCE_S) == ["b"]
    detector.observe([], 60.0)
    assert not detector.is_online("b", 60.0), "nobody has heard it since"


# --- Seen by others ------------------------------------------------------------------


def test_who_is_seen_by_others_only_is_reachable_for_them() -> None:
    detector = Detector()
    detector.heard("a", 0.0)
    detector.seen("a", 4.0)
    assert not detector.is_asymmetric("a", 3.0), "we hear it ourselves"
    assert detector.newly_silent(5.0) == ["a"]
    assert detector.is_asymmetric("a", 5.0) and not detector.is_online("a", 5.0)
    assert detector.why_silent("a", 5.0) == "reachable by others, not from here"
    assert detector.last_sign("a") == 4.0
    assert detector.why_silent("a", 20.0) == "silent for 20 s"


# --- Against a slow version ----------------------------------------------------------

PEERS = ("a", "b", "c")


class Slow:
    """One peer as the definition says it, from all that ever happened to it."""

    def __init__(self, now: float) -> None:
        self.since, self.heard, self.stopped = now, float("-inf"), False

    def online(self, now: float) -> bool:
        return not self.stopped and now <= self.heard + SILENCE_S

    def asked(self, now: float) -> bool:
        new = self.heard == float("-inf") and now <= self.since + SILENCE_S
        return self.online(now) or (new and not self.stopped)


class Listening(RuleBasedStateMachine):
    """Everybody is observed; what happens happens at whole tenths of a second."""

    def __init__(self) -> None:
        super().__init__()
        self.tenths = 0
        self.detector = Detector()
        self.slow: dict[str, Slow] = {}
        self.reported: set[str] = set()

    @property
    def now(self) -> float:
        # Between two signs' ends, which are whole tenths: rounding decides nothing.
        return self.tenths / 10 + 0.05

    @rule(tenths=st.integers(1, 60))
    def passes(self, tenths: int) -> None:
        self.tenths += tenths

    @rule(peer=st.sampled_from(PEERS))
    def speaks(self, peer: str) -> None:
        self.tenths += 1  # looks are half a tenth ahead, and time does not go back
        known = self.slow.setdefault(peer, Slow(self.tenths / 10))
        fresh = self.detector.heard(peer, self.tenths / 10)
        assert fresh is not known.online(self.tenths / 10) or known.stopped
        known.heard, known.stopped = self.tenths / 10, False
        self.reported.discard(peer)

    @rule(peer=st.sampled_from(PEERS))
    def is_named(self, peer: str) -> None:
        self.slow.setdefault(peer, Slow(self.tenths / 10))
        self.detector.watch(peer, self.tenths / 10)

    @rule(peer=st.sampled_from(PEERS))
    def stops(self, peer: str) -> None:
        known = self.slow.setdefault(peer, Slow(self.tenths / 10))
        self.detector.goodbye(peer, self.tenths / 10)
        known.stopped = True

    @rule(tenths=st.integers(1, 200))
    def sleeps(self, tenths: int) -> None:
        self.tenths += tenths
        self.detector.slept(tenths / 10)
        for known in self.slow.values():
            known.since += tenths / 10
            known.heard += tenths / 10

    @rule()
    def looks(self) -> None:
        silent = {p for p, known in self.slow.items() if not known.asked(self.now)}
        assert self.detector.misses(self.now) or not silent
        new = self.detector.newly_silent(self.now)
        assert new == sorted(silent - self.reported)
        assert self.detector.misses(self.now) is bool(silent)
        self.reported |= silent

    @invariant()
    def agrees(self) -> None:
        now = self.now
        for peer, known in self.slow.items():
            assert self.detector.is_online(peer, now) is known.online(now)
            assert self.detector.may_answer(peer, now) is known.asked(now)

    @rule()
    def counts(self) -> None:
        now = self.now
        online = sorted(p for p, known in self.slow.items() if known.online(now))
        asked = sorted(p for p, known in self.slow.items() if known.asked(now))
        assert self.detector.online(now) == online
        assert self.detector.worth_asking(now) == asked


TestListening = Listening.TestCase
