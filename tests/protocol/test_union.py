"""Sets of facts merge like sets: all kinds of facts, in any order and grouping."""

from __future__ import annotations

import sys
from collections.abc import Callable

from hypothesis import given
from hypothesis import strategies as st

from p2pfusion.limits import DIGEST_BUCKETS
from p2pfusion.protocol.facts import FactSet
from p2pfusion.protocol.messages import NEVER, Facts
from p2pfusion.protocol.tally import bucket
from tests.protocol.family import (
    CHAINS,
    accused,
    everybody,
    fresh,
    lost,
    member,
    merged,
    out,
    plain,
    start,
    swarm_of,
)

PEERS = sorted(CHAINS)
EPOCHS = st.integers(0, 8)


@st.composite
def records(draw: st.DrawFn) -> Facts:
    """What a peer says of itself, sensible or not."""
    peer = draw(st.sampled_from(PEERS))
    incarnation, sequence = draw(st.integers(1, 2)), draw(st.integers(0, 3))
    steps = st.tuples(st.just(1), st.integers(0, sequence), EPOCHS)
    changes: dict[str, object] = {
        "refutes_epoch": draw(st.sampled_from([NEVER, NEVER, NEVER, 2, 5])),
        "leave_epoch": draw(st.sampled_from([NEVER, NEVER, 4])),
        "refuted": tuple(draw(st.lists(steps, max_size=2))),
        "former_fraction": draw(st.sampled_from(["", "1"])),
        "since_epoch": draw(EPOCHS),
    }
    which = draw(st.integers(0, len(CHAINS[peer]) - 1))
    epoch = draw(st.sampled_from([-1, -1, -1, 0, 3, 6]))
    return Facts(
        (
            member(
                peer,
                which=which,
                incarnation=incarnation,
                sequence=sequence,
                epoch=epoch,
                **changes,
            ),
        )
    )


@st.composite
def accusations(draw: st.DrawFn) -> Facts:
    """Some accuse one other."""
    peer = draw(st.sampled_from(PEERS))
    others = [other for other in PEERS if other != peer]
    by = draw(st.lists(st.sampled_from(others), min_size=1, max_size=6, unique=True))
    most = draw(st.booleans())
    age = draw(st.sampled_from([(1, 0), (1, 0), (1, 0), (1, 2), (2, 0)]))
    epoch = draw(EPOCHS)
    return accused(peer, *(others if most else by), age=age, epoch=epoch)


news = st.lists(
    st.one_of(
        records(),
        accusations(),
        accusations(),
        st.builds(
            lambda peers, by, epoch: lost(*sorted(peers), by=by, epoch=epoch),
            st.sets(st.sampled_from([*PEERS, "stranger"]), min_size=1),
            st.sampled_from(["p0", "a", "b"]),
            EPOCHS,
        ),
        st.builds(
            lambda peer, by, epoch: out(peer, by, epoch=epoch),
            st.sampled_from(PEERS),
            st.sampled_from(["p0", "a", "b", "d"]),
            EPOCHS,
        ),
        st.just(Facts(start=start("a", "b", "c", "d", "m"))),
    ),
    max_size=20,
)


def known(said: list[Facts]) -> FactSet:
    """Somebody who knows everybody, all first members, and then has heard this."""
    return merged([everybody(), Facts(start=start(*PEERS)), *said])


def union(*sets: FactSet) -> FactSet:
    found = fresh()
    for each in sets:
        for message in each.messages():
            found.merge(message)
    return found


def state(facts: FactSet) -> tuple[object, ...]:
    """Everything that others ask of a set."""
    return (
        *(facts.all(), facts.digest, facts.buckets(), facts.start),
        *(facts.revoked, facts.lost, facts.evicted, list(facts.members())),
        [facts.roster(epoch) for epoch in range(12)],
        [facts.accusers(peer) for peer in PEERS],
        [facts.is_gone(peer, epoch) for peer in PEERS for epoch in (0, 5)],
        [facts.observers(peer, 6) for peer in PEERS],
    )


@given(news, st.randoms(use_true_random=False))
def test_order_and_repetition_do_not_matter(said: list[Facts], random) -> None:
    shuffled = [*said, *said]
    random.shuffle(shuffled)
    assert state(known(shuffled)) == state(known(said))


@given(news, news, news)
def test_merging_is_commutative_associative_and_idempotent(
    a: list[Facts], b: list[Facts], c: list[Facts]
) -> None:
    one, two, three = known(a), known(b), known(c)
    everything = state(known([*a, *b, *c]))
    assert state(union(one, two)) == state(union(two, one))
    assert state(union(union(one, two), three)) == everything
    assert state(union(one, union(two, three))) == everything
    assert state(union(one, one)) == state(one) == state(union(one))


@given(news, news)
def test_a_set_that_was_asked_in_between_is_the_same(
    a: list[Facts], b: list[Facts]
) -> None:
    """What is remembered between two changes is forgotten with the second."""
    facts = known(a)
    for each in b:
        state(facts)
        facts.merge(each)
    assert state(facts) == state(known([*a, *b]))


@given(news)
def test_what_is_new_is_told_and_nothing_else(said: list[Facts]) -> None:
    facts = known([])
    for each in said:
        before = facts.all()
        new = facts.merge(each)
        after = facts.all()
        assert (new == Facts()) is (after == before)
        assert set(new.accusations) <= set(after.accusations)
        assert set(new.recoveries) <= set(after.recoveries)
        assert facts.merge(each) == Facts()


# --- Digests -------------------------------------------------------------------------


@given(news, news)
def test_digests_are_equal_when_sets_are(a: list[Facts], b: list[Facts]) -> None:
    one, other = known(a), known(b)
    assert (one.digest == other.digest) is (one.all() == other.all())
    assert (one.buckets() == other.buckets()) is (one.all() == other.all())


@given(news)
def test_the_digest_that_is_kept_up_to_date_is_that_of_the_set(
    said: list[Facts],
) -> None:
    facts, copy = known(said), fresh()
    copy.merge(facts.all())
    assert (copy.digest, copy.buckets()) == (facts.digest, facts.buckets())


@given(news, news)
def test_exchanging_what_the_names_say_is_lacking_makes_two_sets_equal(
    a: list[Facts], b: list[Facts]
) -> None:
    one, other = known(a), known(b)
    pairs = zip(one.buckets(), other.buckets(), strict=True)
    differ = [at for at, (mine, theirs) in enumerate(pairs) if mine != theirs]
    mine = {name for at in differ for name in one.names(at)}
    theirs = {name for at in differ for name in other.names(at)}
    told, asked = one.besides(differ, theirs), other.named(sorted(theirs - mine))
    for fact in (*told.members, *told.accusations, *told.revocations):
        assert fact not in (*other.all().members, *other.all().accusations)
    one.merge(asked)
    other.merge(told)
    assert state(one) == state(other)


@given(news)
def test_every_fact_is_in_one_bucket_and_all_about_a_peer_in_the_same(
    said: list[Facts],
) -> None:
    facts = known(said)
    parts = [facts.besides([at], ()) for at in range(DIGEST_BUCKETS)]
    everything = facts.all()
    for kind in ("members", "revocations", "accusations", "recoveries"):
        found = [fact for part in parts for fact in getattr(part, kind)]
        assert len(found) == len(set(found))
        assert set(found) == set(getattr(everything, kind))
    assert [part.start for part in parts if part.start] == (
        [everything.start] if everything.start else []
    )
    for peer in PEERS:
        here = parts[bucket(peer.encode())]
        assert facts.membership(peer) in here.members
    assert facts.besides([], ()) == Facts()


# --- What it costs -------------------------------------------------------------------


def lines_run(act: Callable[[], object]) -> int:
    """Lines of Python that this takes, one turn of a loop at a time."""
    count = 0

    def trace(frame: object, event: str, arg: object) -> object:
        nonlocal count
        count += event == "line"
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        act()
    finally:
        sys.settrace(before)
    return count


def test_a_piece_of_news_costs_the_same_in_a_small_set_and_in_a_large_one() -> None:
    costs: list[int] = []
    for size in (40, 400):
        names = [f"x{number:03}" for number in range(size)]
        facts = merged([swarm_of("p0", *names), lost("x001", epoch=3)])
        assert facts.members() and facts.roster(7) and not facts.revoked
        news = [
            Facts((plain("new", join_epoch=4),)),
            Facts((plain("x007", sequence=1),)),
            accused("x007", "x008", age=(1, 1), epoch=6),
            out("x009"),
        ]

        def hear(facts: FactSet = facts, news: list[Facts] = news) -> None:
            for each in news:
                assert facts.merge(each) == each
                assert facts.digest and facts.buckets()
                assert facts.accusers("x007") is not None

        costs.append(lines_run(hear))
    # What was hashed before is remembered, which may save the one or the other a few.
    assert abs(costs[0] - costs[1]) < 40
