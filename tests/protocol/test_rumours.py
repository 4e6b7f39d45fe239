"""News by name: collected for a moment, told once, asked for once, and bounded."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pfusion.limits import (
    DIGEST_BUCKETS,
    FACT_ID_BYTES,
    MAX_FACTS_ASKED_FOR,
    MAX_NAMED_FACTS,
    MAX_UNTOLD_FACTS,
)
from p2pfusion.protocol import rumours as module
from p2pfusion.protocol.facts import FactSet
from p2pfusion.protocol.messages import Facts, Known
from p2pfusion.protocol.rumours import (
    MAX_OPEN_ANSWERS,
    PATIENCE_INTERVALS,
    TELLING_INTERVALS,
    Rumours,
    listing,
    marked,
    packed,
    unpacked,
)
from p2pfusion.protocol.timing import TIMINGS
from tests.protocol.names import NAMES, membership, record
from tests.protocol.swarm import small_manifest

MANIFEST = small_manifest()
WAN = TIMINGS["wan"]
PAUSE_S = TELLING_INTERVALS * WAN.interval_s
PATIENCE_S = PATIENCE_INTERVALS * WAN.interval_s


def knowing(*peers: str, sequence: int = 0) -> FactSet:
    facts = FactSet(NAMES, MANIFEST)
    learn(facts, *peers, sequence=sequence)
    return facts


def learn(facts: FactSet, *peers: str, sequence: int = 0) -> list[bytes]:
    """These say something; the names of what was new."""
    there = (record(peer, sequence=sequence) for peer in peers)
    facts.merge(Facts(tuple(membership(each, MANIFEST.swarm_id) for each in there)))
    return list(facts.added)


def invented(count: int) -> list[bytes]:
    """Names of facts that nobody has."""
    return [number.to_bytes(FACT_ID_BYTES, "big") for number in range(count)]


def test_what_comes_within_a_moment_is_told_together_and_once() -> None:
    facts, rumours = knowing("a"), Rumours()
    assert rumours.tell_at == float("inf")
    first = learn(facts, "b")
    rumours.learned(first, 10.0)
    assert rumours.due(facts, WAN, 10.0) == []
    assert rumours.tell_at == 10.0 + PAUSE_S
    second = learn(facts, "c")
    rumours.learned(second, 10.2)
    assert rumours.due(facts, WAN, 10.0 + PAUSE_S) == [Known(b"", first[0] + second[0])]
    assert rumours.tell_at == float("inf")
    assert rumours.due(facts, WAN, 99.0) == []


def test_what_was_said_anew_meanwhile_is_not_told() -> None:
    facts, rumours = knowing("a"), Rumours()
    rumours.learned(learn(facts, "b"), 0.0)
    newer = learn(facts, "b", sequence=1)
    rumours.learned(newer, 0.0)
    rumours.due(facts, WAN, 0.0)
    assert rumours.due(facts, WAN, PAUSE_S) == [Known(b"", newer[0])]


def test_own_news_is_looked_at_at_once_and_told_after_the_same_moment() -> None:
    facts, rumours = knowing("a"), Rumours()
    rumours.learned(list(facts.added), None)
    assert rumours.tell_at == float("-inf")
    assert rumours.heard_at == float("-inf"), "nothing was heard"
    assert rumours.due(facts, WAN, 7.0) == []
    assert rumours.tell_at == 7.0 + PAUSE_S


def test_a_fact_is_asked_of_one_peer_and_later_of_another_if_it_does_not_come() -> None:
    facts, rumours = knowing("a"), Rumours()
    other = learn(knowing("a"), "b")
    known = [*facts.added, *other]
    assert rumours.wanted(known, facts, WAN, 0.0) == other
    assert rumours.wanted(known, facts, WAN, PATIENCE_S / 2) == []
    assert rumours.wanted(known, facts, WAN, PATIENCE_S) == other
    rumours.learned(learn(facts, "b"), 3.0)
    assert rumours.wanted(known, facts, WAN, 99.0) == []


def test_nobody_asks_for_a_record_that_it_knew_before() -> None:
    facts, rumours = knowing("a", "b"), Rumours()
    old = list(facts.added)
    learn(facts, "b", sequence=1)
    assert rumours.wanted(old, facts, WAN, 0.0) == []


def test_names_of_nothing_are_not_kept_for_ever() -> None:
    facts, rumours = knowing("a"), Rumours()
    names = invented(MAX_FACTS_ASKED_FOR + 9)
    assert len(rumours.wanted(names, facts, WAN, 0.0)) == MAX_FACTS_ASKED_FOR
    assert rumours.wanted(names[-9:], facts, WAN, PATIENCE_S / 2) == []
    assert rumours.wanted(names[-9:], facts, WAN, PATIENCE_S) == names[-9:]
    rumours.learned(invented(MAX_UNTOLD_FACTS + 9), 0.0)
    assert len(rumours._fresh) == MAX_UNTOLD_FACTS


def test_who_was_told_nothing_may_ask_for_nothing() -> None:
    rumours = Rumours()
    assert not rumours.may_ask("b")
    for _ in range(3):
        rumours.shown("b")
    assert [rumours.may_ask("b") for _ in range(4)] == [True, True, True, False]
    for _ in range(2 * MAX_OPEN_ANSWERS):
        rumours.shown("b")
    asked = [rumours.may_ask("b") for _ in range(2 * MAX_OPEN_ANSWERS)]
    assert sum(asked) == MAX_OPEN_ANSWERS and not rumours.may_ask("c")


@given(st.integers(0, 2 * MAX_NAMED_FACTS + 1))
def test_names_travel_in_pieces_and_arrive_as_they_were(count: int) -> None:
    names = invented(count)
    pieces = list(packed(names))
    assert [name for piece in pieces for name in unpacked(piece)] == names
    assert all(0 < len(p) <= MAX_NAMED_FACTS * FACT_ID_BYTES for p in pieces)


peers = st.sets(st.sampled_from([f"m{number}" for number in range(40)]), max_size=30)
buckets = st.sets(st.integers(0, DIGEST_BUCKETS - 1)).map(sorted)


@given(peers, buckets, st.integers(1, 5))
def test_a_list_has_each_name_once_and_marks_what_it_is_all_of(
    there: set[str], wanted: list[int], most: int
) -> None:
    facts = knowing(*there)
    with pytest.MonkeyPatch.context() as small:
        small.setattr(module, "MAX_NAMED_FACTS", most)
        lists = list(listing(facts, wanted))
    names = [name for each in lists for name in unpacked(each.ids)]
    assert sorted(names) == sorted(n for at in wanted for n in facts.names(at))
    assert all(len(unpacked(each.ids)) <= most for each in lists)
    parts = [at for each in lists for at in marked(each.parts)]
    assert parts == [at for at in wanted if len(facts.names(at)) <= most]
    for each in lists:
        complete = {name for at in marked(each.parts) for name in facts.names(at)}
        assert not each.parts or complete == set(unpacked(each.ids))
