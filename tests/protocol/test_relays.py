"""Through whom two peers speak that can only dial out."""

from __future__ import annotations

import itertools
from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from p2pfusion.protocol.detector import Detector
from p2pfusion.protocol.messages import PeerRecord
from p2pfusion.protocol.relays import Relays, ranked
from tests.protocol.names import record

HIDDEN = {"host": "", "port": 0}
NAMES = st.lists(st.text("abcdef", min_size=1, max_size=3), unique=True, max_size=12)


def members(*names: str, **changes: object) -> list[PeerRecord]:
    return [record(name, **changes) for name in names]


def hearing(*names: str, now: float = 0.0) -> Detector:
    detector = Detector()
    for name in names:
        detector.heard(name, now)
    return detector


@given(NAMES)
def test_both_ends_have_one_order_whatever_they_heard_first(names: list[str]) -> None:
    found = ranked("swarm", ("x", "y"), names)
    assert found == ranked("swarm", ("y", "x"), reversed(names))
    assert sorted(found) == sorted(names)


@given(NAMES, st.data())
def test_who_goes_changes_nothing_for_those_whom_others_relay(
    names: list[str], data: st.DataObject
) -> None:
    before = ranked("swarm", ("x", "y"), names)
    if names:
        gone = data.draw(st.sampled_from(names))
        left = [name for name in names if name != gone]
        kept = [name for name in before if name != gone]
        assert ranked("swarm", ("x", "y"), left) == kept


def test_pairs_spread_evenly() -> None:
    relays, hidden = [f"r{n}" for n in range(8)], [f"h{n}" for n in range(40)]
    pairs = list(itertools.combinations(hidden, 2))
    first = Counter(ranked("swarm", pair, relays)[0] for pair in pairs)
    mean = len(pairs) / len(relays)
    assert len(first) == len(relays) and max(first.values()) < 1.3 * mean


def test_only_who_can_be_dialled_and_says_so_relays() -> None:
    everybody = [
        *members("open"),
        *members("closed", relays=False),
        *members("hidden", "me", "peer", **HIDDEN),
    ]
    names = [each.peer for each in everybody]
    chosen = Relays("me", hearing(*names)).choose("peer", everybody, "swarm", 0.0)
    assert chosen == "open"


def test_one_that_falls_silent_is_given_up_for_the_next() -> None:
    order = ranked("swarm", ("me", "peer"), ["a", "b", "c"])
    detector = hearing("a", "b", "c", "peer")
    relays, everybody = Relays("me", detector), members("a", "b", "c")
    assert relays.choose("peer", everybody, "swarm", 0.0) == order[0]
    assert relays.stale(0.0) == []
    detector.goodbye(order[0], 0.1)
    assert relays.stale(0.1) == ["peer"]
    assert relays.choose("peer", everybody, "swarm", 0.1) == order[1]
    detector.heard(order[0], 0.2)
    assert relays.choose("peer", everybody, "swarm", 0.2) == order[1], "no flapping"
    assert relays.through("peer") == order[1] and relays.through("a") == ""


def test_one_behind_whom_the_peer_is_silent_is_given_up_in_time() -> None:
    order = ranked("swarm", ("me", "peer"), ["a", "b", "c"])
    detector = hearing("a", "b", "c")
    silence_s = detector.timing.silence_s
    relays, everybody = Relays("me", detector), members("a", "b", "c")
    detector.watch("peer", 0.0)
    tried = []
    for step in range(4):
        now = step * 1.5 * silence_s
        for name in "abc":
            detector.heard(name, now)
        detector.newly_silent(now)
        tried.append(relays.choose("peer", everybody, "swarm", now))
    assert tried == [*order, order[0]], "all in turn, and again"


def test_without_anybody_it_waits_until_there_is_somebody() -> None:
    detector = hearing("peer")
    relays = Relays("me", detector)
    assert relays.choose("peer", members("a"), "swarm", 0.0) == ""
    assert relays.stale(0.0) == ["peer"]
    detector.heard("a", 1.0)
    assert relays.choose("peer", members("a"), "swarm", 1.0) == "a"
    relays.forget("peer")
    assert relays.stale(1.0) == [] and relays.through("peer") == ""
