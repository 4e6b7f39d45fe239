"""Facts merge by union, whatever the order; the roster is a fold of them."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pfusion.errors import RemoteProtocolError
from p2pfusion.protocol.facts import FactSet
from p2pfusion.protocol.messages import BEFORE_START, Facts, PeerRecord


def record(
    peer: str, *, incarnation: int = 1, sequence: int = 0, epoch: int = BEFORE_START
) -> PeerRecord:
    return PeerRecord(
        peer, peer, "127.0.0.1", 1, 2, "1/2", incarnation, sequence, epoch
    )


records = st.builds(
    record,
    st.sampled_from("abcdef"),
    incarnation=st.integers(1, 3),
    sequence=st.integers(0, 2),
).map(
    # A peer says one thing per (incarnation, sequence).
    lambda r: dataclasses.replace(r, join_epoch=3 * r.incarnation + r.sequence - 4)
)


@given(st.lists(records), st.randoms(use_true_random=False))
def test_order_and_repetition_do_not_matter(known: list[PeerRecord], random) -> None:
    one, other = FactSet(), FactSet()
    for fact in known:
        one.merge(Facts((fact,), ()))
    shuffled = [*known, *known]
    random.shuffle(shuffled)
    for fact in shuffled:
        other.merge(Facts((fact,), ()))
    assert one.digest == other.digest
    assert [one.roster(e) for e in range(8)] == [other.roster(e) for e in range(8)]


@given(st.lists(records))
def test_the_newest_record_of_each_peer_counts(known: list[PeerRecord]) -> None:
    facts = FactSet()
    for fact in known:
        facts.merge(Facts((fact,), ()))
    for peer in {fact.peer for fact in known}:
        newest = max((f for f in known if f.peer == peer), key=lambda f: f.age)
        assert facts.records[peer] == newest


def test_rank_is_join_epoch_then_peer_id() -> None:
    facts = FactSet()
    facts.merge(Facts((record("z"), record("a"), record("m", epoch=2)), ()))
    facts.merge_start(["z", "a"])
    assert [member.peer for member in facts.roster(0)] == ["a", "z"]
    assert [member.peer for member in facts.roster(2)] == ["a", "z", "m"]


def test_who_came_before_the_start_and_is_not_in_it_does_not_count() -> None:
    facts = FactSet()
    facts.merge(Facts((record("a"), record("b")), ()))
    assert facts.roster(5) == ()
    facts.merge_start(["a"])
    assert [member.peer for member in facts.roster(5)] == ["a"]


def test_a_record_with_an_impossible_fraction_is_refused_whole() -> None:
    bad = dataclasses.replace(record("b"), split_fraction="two")
    facts = FactSet()
    with pytest.raises(RemoteProtocolError):
        facts.merge(Facts((record("a"), bad), ()))
    assert not facts.records


def test_messages_carry_everything() -> None:
    facts, copy = FactSet(), FactSet()
    facts.merge(Facts(tuple(record(f"p{n}") for n in range(250)), ()))
    facts.merge_start(["p1", "p2"])
    for message in facts.messages():
        copy.merge(message)
        copy.merge_start(message.start)
    assert copy.digest == facts.digest
