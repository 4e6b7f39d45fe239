"""Digests that are kept up to date are those of the whole set."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from p2pfusion.limits import DIGEST_BUCKETS
from p2pfusion.protocol.messages import Membership, Recovery, Revocation, Signed
from p2pfusion.protocol.tally import Tally, bucket

signed = st.builds(Signed, st.binary(max_size=3), st.binary(max_size=3))
facts = st.one_of(
    signed,
    st.builds(Membership, signed, st.binary(max_size=3)),
    st.builds(Revocation, signed, st.binary(max_size=3)),
    st.builds(Recovery, signed, st.binary(max_size=3)),
)
kinds = st.sampled_from(["member", "start", "revocation", "accusation", "recovery"])
entries = st.lists(st.tuples(kinds, st.binary(max_size=2), facts), unique=True)


def tallied(known: list[tuple[str, bytes, object]]) -> Tally:
    tally = Tally()
    for kind, about, fact in known:
        tally.add(kind, about, fact)  # type: ignore[arg-type]
    return tally


@given(entries, entries, st.randoms(use_true_random=False))
def test_what_came_and_went_leaves_no_trace(kept, gone, random) -> None:
    moves = [(True, e) for e in [*kept, *gone]] + [(False, e) for e in gone]
    random.shuffle(moves)
    tally = Tally()
    for comes, (kind, about, fact) in moves:
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
