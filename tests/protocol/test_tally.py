"""Digests that are kept up to date are those of the whole set."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from p2pfusion.limits import DIGEST_BUCKETS, FACT_ID_BYTES, MAX_FORMER_FACTS
from p2pfusion.protocol.messages import (
    Facts,
    Membership,
    Recovery,
    Revocation,
    Signed,
)
from p2pfusion.protocol.tally import Tally, bucket

ends = st.binary(max_size=3)
signed = st.builds(Signed, st.binary(max_size=3), st.binary(max_size=3))
facts = st.one_of(
    signed,
    st.builds(Membership, signed, st.binary(max_size=3)),
    st.builds(Revocation, signed, st.binary(max_size=3)),
    st.builds(Recovery, signed, st.binary(max_size=3)),
)
kinds = st.sampled_from(["member", "start", "revocation", "accusation", "recovery"])
right = st.one_of(
    *(
        st.tuples(st.just(kind), st.binary(max_size=2), st.builds(made, signed, ends))
        for kind, made in (
            ("member", Membership),
            ("revocation", Revocation),
            ("recovery", Recovery),
            ("accusation", lambda said, _: said),
        )
    )
)
"""Facts of the kinds that they are of."""


def said(entry: tuple[str, bytes, object]) -> tuple[str, object]:
    """A fact and its kind: whom it is about follows from it."""
    return entry[0], entry[2]


entries = st.lists(st.tuples(kinds, st.binary(max_size=2), facts), unique_by=said)


def tallied(known: list[tuple[str, bytes, object]]) -> Tally:
    tally = Tally()
    for kind, about, fact in known:
        tally.add(kind, about, fact)  # type: ignore[arg-type]
    return tally


@given(entries, entries, st.randoms(use_true_random=False))
def test_what_came_and_went_leaves_no_trace(kept, gone, random) -> None:
    gone = [entry for entry in gone if said(entry) not in map(said, kept)]
    moves = [(random.random(), True, entry) for entry in [*kept, *gone]]
    moves += [(random.uniform(at, 1), False, x) for at, _, x in moves if x in gone]
    tally = Tally()
    for _, comes, (kind, about, fact) in sorted(moves, key=lambda move: move[0]):
        (tally.add if comes else tally.remove)(kind, about, fact)
    fresh = tallied(kept)
    assert (tally.digest, tally.buckets) == (fresh.digest, fresh.buckets)
    assert len(tally.digest) == 16 and len(tally.buckets) == DIGEST_BUCKETS
    assert {len(part) for part in tally.buckets} == {8}


@given(entries, entries)
def test_sets_that_differ_have_other_digests_in_the_buckets_that_differ(
    one, other
) -> None:
    a, b = tallied(one), tallied(other)
    assert (a.digest == b.digest) is (set(one) == set(other))
    for at in range(DIGEST_BUCKETS):
        here = [{e for e in each if bucket(e[1]) == at} for each in (one, other)]
        assert (a.buckets[at] == b.buckets[at]) is (here[0] == here[1])


right_ones = st.lists(right, unique_by=said)
some_buckets = st.sets(st.integers(0, DIGEST_BUCKETS - 1))


@given(right_ones, right_ones, some_buckets)
def test_names_tell_which_facts_somebody_lacks(one, other, buckets) -> None:
    a, b = tallied(one), tallied(other)
    names = [name for at in range(DIGEST_BUCKETS) for name in a.names(at)]
    assert len(set(names)) == len(names) == len(one)
    assert {len(name) for name in names} <= {FACT_ID_BYTES}
    assert all(a.has(name) for name in names) and not a.has(b"\xff" * FACT_ID_BYTES)
    there = [(said(x), bucket(x[1])) for x in other]
    lacking = [
        x
        for x in one
        if bucket(x[1]) in buckets and (said(x), bucket(x[1])) not in there
    ]
    found = a.besides(buckets, {name for at in buckets for name in b.names(at)})
    assert travelling(found) == {repr(fact) for _, _, fact in lacking}
    wanted = [name for at in buckets for name in a.names(at) if not b.has(name)]
    assert a.named([*wanted, b"\xff" * FACT_ID_BYTES]) == a.named(wanted)
    assert travelling(a.named(wanted)) == travelling(found)


def travelling(found: Facts) -> set[str]:
    lists = (found.members, found.revocations, found.accusations, found.recoveries)
    return {repr(fact) for each in lists for fact in each}


@given(right_ones)
def test_whose_place_another_took_is_known_to_be_old(known) -> None:
    tally, bare = tallied(known), Tally()
    names = tally.added
    assert len(names) == len(known) and not any(bare.knew(name) for name in names)
    for entry in known:
        tally.remove(*entry)
    assert all(tally.knew(name) and not tally.has(name) for name in names)
    for entry in known:
        tally.add(*entry)
    assert all(tally.has(name) for name in names)


def test_names_of_old_facts_are_forgotten_in_the_end() -> None:
    tally = Tally()
    for number in range(MAX_FORMER_FACTS + 5):
        fact = Signed(number.to_bytes(4, "big"), b"")
        tally.add("accusation", b"x", fact)
        tally.remove("accusation", b"x", fact)
    kept = [tally.knew(name) for name in tally.added]
    assert kept == [False] * 5 + [True] * MAX_FORMER_FACTS


def test_every_byte_that_is_passed_on_matters_and_so_does_where_it_stands() -> None:
    first = Membership(Signed(b"ab", b"c"), b"d")
    others = [
        replace(first, credential=b"e"),
        Membership(Signed(b"a", b"bc"), b"d"),
        Membership(Signed(b"ab", b""), b"cd"),
        Revocation(first.record, b"x"),
    ]
    digests = {tallied([("member", b"", each)]).digest for each in [first, *others]}
    digests.add(tallied([("start", b"", first)]).digest)
    assert len(digests) == 6


def test_buckets_are_about_equally_full() -> None:
    counts = [0] * DIGEST_BUCKETS
    for number in range(100 * DIGEST_BUCKETS):
        counts[bucket(f"p{number}".encode())] += 1
    assert min(counts) > 50 and max(counts) < 200
