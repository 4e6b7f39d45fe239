"""A swarm over many epochs: accused, answered, evicted, back, gone, lost.

Every story is told to three sets of facts, in order, backwards, and all at once: they
must end in the same.
"""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from p2pfusion.protocol.facts import FactSet
from p2pfusion.protocol.messages import NEVER, Facts, PeerRecord
from p2pfusion.protocol.renewal import carried_over, renewed
from tests.protocol.family import SWARM, accused, fresh, lost, plain, start, swarm_of
from tests.protocol.names import membership, record

FIVE = ("p0", "a", "b", "c", "d")


def told(*story: Facts, swarm: Sequence[str] = FIVE) -> FactSet:
    """What is known at the end."""
    begin = swarm_of(*swarm)
    found = fresh()
    for each in (begin, *story):
        found.merge(each)
    backwards, at_once = fresh(), fresh()
    for each in (begin, *story[::-1]):
        backwards.merge(each)
    at_once.merge(
        Facts(
            (*begin.members, *(m for s in story for m in s.members)),
            begin.start,
            tuple(r for s in story for r in s.revocations),
            tuple(a for s in story for a in s.accusations),
            tuple(r for s in story for r in s.recoveries),
        )
    )
    for other in (backwards, at_once):
        assert other.all() == found.all() and other.digest == found.digest
        assert [other.roster(n) for n in range(40)] == [
            found.roster(n) for n in range(40)
        ]
    return found


def present(facts: FactSet, epoch: int) -> set[str]:
    return {member.peer for member in facts.roster(epoch)}


def says(newest: PeerRecord) -> Facts:
    return Facts((membership(newest, SWARM),))


ALL = set(FIVE)


def test_one_that_is_accused_and_answers_in_time_stays_as_it_was() -> None:
    word = accused("d", "p0", "a", "b", epoch=5)
    facts = told(word)
    assert facts.accusers("d") == {"p0": 5, "a": 5, "b": 5}
    assert facts.is_gone("d", 3) and present(facts, 4) == ALL
    assert present(facts, 5) == ALL - {"d"} and facts.evicted == {"d": 5}
    answer = renewed(record("d"), refutes_epoch=4)
    facts = told(word, says(answer))
    assert facts.accusers("d") == {} and not facts.is_gone("d", 9)
    assert all(present(facts, epoch) == ALL for epoch in range(12))
    assert facts.roster(9) == told().roster(9)


def test_an_answer_that_comes_too_late_does_not_change_who_was_there() -> None:
    word = accused("d", "p0", "a", "b", epoch=5)
    facts = told(word, says(renewed(record("d"), refutes_epoch=6)))
    assert facts.evicted == {"d": 5}


def test_what_was_answered_long_ago_stays_answered() -> None:
    """Accused by three, later by one more: it is not put out in hindsight."""
    early = accused("d", "p0", "a", "b", epoch=5)
    first = renewed(record("d"), refutes_epoch=4)
    late = accused("d", "c", age=first.age, epoch=21)
    second = renewed(first, refutes_epoch=20)
    for newest in (second, carried_over(record("d", incarnation=2), second)):
        facts = told(early, says(first), late, says(newest))
        assert facts.accusers("d") == {} and facts.evicted == {}


def test_one_that_starts_again_answers_nothing_before_it_has_looked() -> None:
    word = accused("d", "p0", "a", "b", epoch=5)
    again = carried_over(record("d", incarnation=2), record("d"))
    facts = told(word, says(again))
    assert facts.evicted == {"d": 5} and facts.is_gone("d", 7)


def test_evicted_and_back_at_a_later_epoch() -> None:
    word = accused("d", "p0", "a", "b", epoch=5)
    back = renewed(record("d"), join_epoch=9, refutes_epoch=8)
    facts = told(word, says(back))
    assert facts.evicted == {} and not facts.is_gone("d", 7)
    assert [present(facts, n) == ALL for n in (4, 5, 8, 9, 12)] == [
        *(False, False, False, True, True)
    ]
    assert [m.peer for m in facts.roster(9)][-1] == "d", "with a newcomer's rank"
    again = accused("d", "p0", "a", "b", age=back.age, epoch=15)
    assert told(word, says(back), again).evicted == {"d": 15}
    late = accused("d", "p0", "a", "b", epoch=11)
    assert told(late, says(back)).evicted == {}, "it has come back knowing of that"


def test_two_evictions_over_time() -> None:
    """The second is decided by those who are left."""
    words = [accused("d", "p0", "a", "b", epoch=5), accused("c", "p0", "a", epoch=9)]
    facts = told(*words)
    assert facts.evicted == {"d": 5, "c": 9}
    assert present(facts, 8) == {"p0", "a", "b", "c"}
    assert present(facts, 9) == {"p0", "a", "b"}
    facts = told(accused("d", "p0", "a", epoch=5), accused("c", "p0", "a", epoch=9))
    assert facts.evicted == {}, "2 of 4 observers are not most, for either"


def test_one_observer_of_five_never_evicts() -> None:
    facts = told(accused("c", "d", epoch=2), accused("b", "d", epoch=2))
    assert facts.evicted == {} and facts.accusers("c") == {"d": 2}
    assert not facts.is_gone("c", 9) and present(facts, 30) == ALL


def test_the_word_of_one_that_was_evicted_before_does_not_count() -> None:
    out = accused("d", "p0", "a", "b", epoch=5)
    two_of_three = accused("c", "p0", "a", epoch=9)
    one_of_three = Facts(
        accusations=(
            *accused("c", "p0", epoch=9).accusations,
            *accused("c", "d", epoch=9).accusations,
        )
    )
    assert told(out, two_of_three).evicted == {"d": 5, "c": 9}
    assert told(out, one_of_three).evicted == {"d": 5}


def test_the_word_of_one_that_was_evicted_since_still_does() -> None:
    first = accused("d", "p0", "a", "b", epoch=5)
    second = accused("b", "p0", "a", epoch=12)
    facts = told(first, second)
    assert facts.evicted == {"d": 5, "b": 12}
    back = renewed(record("b"), join_epoch=20, refutes_epoch=19)
    facts = told(first, second, says(back))
    assert facts.evicted == {"d": 5} and present(facts, 20) == ALL - {"d"}


def test_a_word_of_a_stranger_or_about_one_is_not_kept() -> None:
    facts = told(accused("d", "stranger", epoch=5), accused("stranger", "d", epoch=5))
    assert facts.all().accusations == () and facts.digest == told().digest
    newcomer = Facts((plain("stranger", join_epoch=3),))
    facts.merge(newcomer)
    facts.merge(accused("d", "stranger", epoch=5))
    assert facts.accusers("d") == {"stranger": 5}


# --- Leaving, and being lost ---------------------------------------------------------


def test_who_leaves_is_out_from_the_epoch_that_it_names() -> None:
    left = renewed(record("d"), leave_epoch=6)
    facts = told(says(left))
    assert present(facts, 5) == ALL and present(facts, 6) == ALL - {"d"}
    assert not facts.is_gone("d", 5) and facts.is_gone("d", 6)
    assert "d" in {r.peer for r in facts.members()}, "it may come back"
    back = renewed(left, join_epoch=9, leave_epoch=NEVER)
    facts = told(says(back))
    assert present(facts, 8) == ALL - {"d"} and present(facts, 9) == ALL
    assert not facts.is_gone("d", 9)


def test_the_lost_are_out_from_the_recoverys_epoch_and_gone_at_once() -> None:
    facts = told(lost("c", "d", epoch=6, reason="fire"))
    assert facts.lost.keys() == {"c", "d"} and facts.lost["c"].reason == "fire"
    assert facts.is_gone("c", 2) and not facts.is_gone("b", 2)
    assert present(facts, 5) == ALL and present(facts, 6) == ALL - {"c", "d"}
    back = renewed(record("c"), join_epoch=9)
    facts = told(lost("c", "d", epoch=6), says(back))
    assert facts.lost.keys() == {"d"} and not facts.is_gone("c", 2)
    assert present(facts, 9) == ALL - {"d"}
    facts = told(lost("c", "d", epoch=6), says(back), lost("c", epoch=12))
    assert facts.lost["c"].epoch == 12, "lost again"
    assert present(facts, 11) == ALL - {"d"} and "c" not in present(facts, 12)


def test_after_a_recovery_the_rest_decides() -> None:
    word = accused("b", "a", epoch=8)
    assert told(word).evicted == {}
    rest = told(word, lost("c", "d", "p0", epoch=6))
    assert rest.evicted == {"b": 8}, "a is all that is left to watch it"


@pytest.mark.parametrize("epoch", [0, 4])
def test_several_recoveries_are_a_union(epoch: int) -> None:
    facts = told(lost("c", epoch=epoch), lost("d", epoch=7), lost("c", "d", epoch=9))
    assert {peer: fact.epoch for peer, fact in facts.lost.items()} == {
        "c": epoch,
        "d": 7,
    }


# --- Fractions -----------------------------------------------------------------------


def test_a_fraction_changes_with_an_epoch() -> None:
    changed = renewed(
        record("d"), split_fraction="1/4", former_fraction="1/2", since_epoch=6
    )
    facts = told(says(changed))
    by_epoch = [
        next(str(m.split_fraction) for m in facts.roster(n) if m.peer == "d")
        for n in (0, 5, 6, 9)
    ]
    assert by_epoch == ["1/2", "1/2", "1/4", "1/4"]
    assert str(facts.fraction("d", 5)) == "1/2" and str(facts.fraction("a", 5)) == "1/2"


def test_who_was_named_in_the_start_counts_from_the_first_epoch_until_it_rejoins() -> (
    None
):
    facts = fresh()
    facts.merge(Facts((plain("p0"), plain("a"), plain("b")), start("p0", "a")))
    joined = {r.peer: facts.join_epoch(r) for r in facts.records.values()}
    assert joined == {"p0": 0, "a": 0, "b": None}
    assert facts.accusers("b") == {} and not facts.is_gone("nobody", 3)
    facts.merge(Facts((plain("a", sequence=1, join_epoch=4),)))
    assert present(facts, 3) == {"p0"} and present(facts, 4) == {"p0", "a"}
