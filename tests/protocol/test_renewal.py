"""What a peer says next, and which accusations stay answered by it."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from p2pfusion.limits import MAX_REFUTED
from p2pfusion.protocol.messages import NEVER, Age, PeerRecord
from p2pfusion.protocol.renewal import carried_over, refutes, renewed
from p2pfusion.protocol.statements import read_record, sign_record
from tests.protocol.names import NAMES, NamedKey, record


def test_a_change_is_said_in_a_newer_record_and_no_change_is_not_said() -> None:
    first = record("a")
    assert renewed(first) is first and renewed(first, port=first.port) is first
    second = renewed(first, port=7)
    assert second == replace(first, port=7, sequence=1)


def test_a_refutation_answers_older_records_from_its_epoch_on() -> None:
    first = record("a")
    second = renewed(first, refutes_epoch=4)
    assert second.age == (1, 1) and second.refutes_epoch == 4
    assert refutes(second, first.age, 4) and refutes(second, first.age, 5)
    assert not refutes(second, first.age, 3), "that one has counted already"
    assert not refutes(second, second.age, 5), "that one is about this very record"
    assert not refutes(first, first.age, 5)


def test_a_second_refutation_in_one_epoch_is_a_newer_record_too() -> None:
    second = renewed(record("a"), refutes_epoch=4)
    third = renewed(second, refutes_epoch=4)
    assert third.age == (1, 2) and refutes(third, second.age, 5)
    assert third.refuted == (), "the newer one says all that the older one said"


def test_what_was_refuted_stays_so_and_nothing_else_becomes_so() -> None:
    answered = renewed(record("a"), refutes_epoch=4)
    moved = renewed(answered, port=9)
    later = renewed(moved, refutes_epoch=20)
    for newer in (moved, later):
        assert refutes(newer, (1, 0), 5), "or it would be put out in hindsight"
        assert not refutes(newer, (1, 0), 3)
    assert not refutes(moved, (1, 1), 9), "moving is no answer"
    assert not refutes(later, (1, 1), 9) and refutes(later, (1, 1), 20)


def test_a_new_life_refutes_nothing_and_keeps_what_the_last_one_promised() -> None:
    before = renewed(
        record("a", join_epoch=3, leave_epoch=40, former_fraction="1", since_epoch=9),
        refutes_epoch=4,
    )
    after = carried_over(record("a", incarnation=2), before)
    assert after.age == (2, 0) and after.refutes_epoch == NEVER
    assert (after.join_epoch, after.leave_epoch) == (3, 40)
    assert (after.former_fraction, after.since_epoch) == ("1", 9)
    assert refutes(after, (1, 0), 5), "it was answered in the former life"
    assert not refutes(after, before.age, 9), "it may have been put out since"
    other = carried_over(record("a", incarnation=2, split_fraction="1/4"), before)
    assert (other.split_fraction, other.former_fraction) == ("1/4", "")


def test_a_life_that_counts_from_an_older_backup_can_still_be_signed() -> None:
    before = renewed(record("a", incarnation=3), refutes_epoch=4)
    after = carried_over(record("a", incarnation=2), before)
    assert after.refuted == () and sign_record(after, NamedKey("a"))


# --- Against all that was ever said --------------------------------------------------

epochs = st.integers(0, 12)
acts = st.one_of(
    st.builds(lambda epoch: ("refutes", epoch), epochs),
    st.just(("moves", 0)),
    st.just(("restarts", 0)),
)


def lived(said: list[tuple[str, int]]) -> list[PeerRecord]:
    """All records of a peer that does this, in a swarm whose epochs only grow."""
    found, epoch = [record("a")], 0
    for what, number in said:
        last = found[-1]
        if what == "refutes":
            epoch = max(epoch, number)
            found.append(renewed(last, refutes_epoch=epoch))
        elif what == "moves":
            found.append(renewed(last, port=last.port + 1))
        else:
            fresh = record("a", incarnation=last.incarnation + 1)
            found.append(carried_over(fresh, last))
    return found


def was_refuted(known: list[PeerRecord], age: Age, epoch: int) -> bool:
    """By one of all these records, each taken alone: the slow obvious version."""
    return any(age < r.age and epoch >= r.refutes_epoch for r in known)


@given(st.lists(acts, max_size=20))
def test_the_newest_record_answers_what_any_has_answered(
    said: list[tuple[str, int]],
) -> None:
    known = lived(said)
    assert all(one.age < other.age for one, other in pairwise(known))
    different = len({r.refutes_epoch for r in known} - {NEVER})
    for index, newest in enumerate(known):
        assert len(newest.refuted) <= MAX_REFUTED
        assert read_record(sign_record(newest, NamedKey("a")), NAMES) == newest
        for age in [r.age for r in known]:
            for epoch in range(14):
                was = was_refuted(known[: index + 1], age, epoch)
                now = refutes(newest, age, epoch)
                assert now >= was
                if different <= MAX_REFUTED:
                    assert now is was
                assert not (now and age >= newest.age)
