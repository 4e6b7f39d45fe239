"""One word of each about each: which is kept, and which counts."""

from __future__ import annotations

from itertools import permutations

from hypothesis import given
from hypothesis import strategies as st

from p2pfusion.limits import MAX_ACCUSERS
from p2pfusion.protocol.accusations import Accusation, Accusations
from p2pfusion.protocol.messages import Signed
from p2pfusion.protocol.observers import distance, place
from p2pfusion.protocol.renewal import renewed
from p2pfusion.protocol.statements import AccusationFact
from p2pfusion.protocol.tally import Tally
from tests.protocol.names import accusation, record

SWARM = "s"


def said(
    by: str, peer: str = "x", *, age: tuple[int, int] = (1, 0), epoch: int = 5
) -> Accusation:
    signed = accusation(peer, SWARM, by=by, age=age, epoch=epoch)
    return Accusation(AccusationFact(by, peer, age, epoch), signed)


def resigned(one: Accusation, last: int) -> Accusation:
    signature = one.signed.signature[:63] + bytes([last])
    return Accusation(one.fact, Signed(one.signed.payload, signature))


def kept(known: list[Accusation]) -> tuple[Accusations, Tally]:
    tally = Tally()
    found = Accusations(SWARM, tally)
    for each in known:
        found.keep(each)
    return found, tally


def test_of_two_by_one_the_newer_records_counts_then_the_earlier_epoch() -> None:
    rising = [
        *(said("a", epoch=7), said("a", epoch=4)),
        *(said("a", age=(1, 1), epoch=9), said("a", age=(2, 0), epoch=9)),
    ]
    for order in permutations(rising):
        found, tally = kept(list(order))
        assert found.about["x"]["a"] == rising[-1] and len(found._known) == 1
        assert tally.digest == kept(rising[-1:])[1].digest
    found, _ = kept(rising[:1])
    assert [found.keep(each) for each in rising[1:]] == [True] * 3
    assert not any(found.keep(each) for each in rising)


def test_two_signatures_of_one_accusation_do_not_chase_each_other() -> None:
    many = [resigned(said("a"), last) for last in range(3)]
    ends = {kept(list(order))[1].digest for order in permutations(many)}
    assert len(ends) == 1


pool = st.lists(
    st.builds(
        said,
        st.integers(0, 3 * MAX_ACCUSERS).map(lambda n: f"p{n}"),
        st.sampled_from(["x", "y"]),
        age=st.tuples(st.just(1), st.integers(0, 1)),
        epoch=st.integers(3, 4),
    ),
    max_size=3 * MAX_ACCUSERS,
)


@given(pool, st.randoms(use_true_random=False))
def test_order_and_repetition_do_not_matter(known: list[Accusation], random) -> None:
    one, tally = kept(known)
    shuffled = [*known, *known]
    random.shuffle(shuffled)
    other, its = kept(shuffled)
    assert one.about == other.about and tally.digest == its.digest
    assert one.about_all(["y", "x"]) == other.about_all(["y", "x"])


@given(pool)
def test_the_nearest_accusers_are_kept_each_with_what_counts(
    known: list[Accusation],
) -> None:
    found, tally = kept(known)
    for peer in ("x", "y"):
        said_of = [each for each in known if each.fact.peer == peer]
        by = {each.fact.by for each in said_of}
        here = place(SWARM, peer)
        near = sorted(by, key=lambda b: (distance(place(SWARM, b), here), b))
        best = {
            one: max((e for e in said_of if e.fact.by == one), key=lambda e: e.order)
            for one in near[:MAX_ACCUSERS]
        }
        assert found.about.get(peer, {}) == best
    everything = found.about_all(["x", "y"])
    assert tally.digest == kept([e for e in known if e.signed in everything])[1].digest
    assert all(found.knows(signed) for signed in everything)
    assert len(everything) == len(found._known)


def test_words_about_former_stays_answered_ones_and_unseen_records_do_not_count() -> (
    None
):
    first = record("x")
    answered = renewed(first, refutes_epoch=4)
    found, _ = kept([said("a", epoch=3), said("b", epoch=5), said("c", age=(1, 1))])
    assert found.against(first, 0) == {"a": 3, "b": 5}, "nobody has seen a (1, 1)"
    assert found.against(answered, 0) == {"a": 3, "c": 5}
    assert found.against(answered, 5) == {"c": 5}, "it has joined anew since"
    assert found.against(record("y"), 0) == {}
