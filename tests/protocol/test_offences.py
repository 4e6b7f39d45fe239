"""The ledger of offences: against a slow one, and what each rule of it says."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pfusion.errors import LocalProtocolError
from p2pfusion.protocol.offences import (
    ENOUGH,
    HALF_LIFE_ROUNDS,
    MOST,
    PARDON,
    WEIGHTS,
    Offences,
)

PEERS = ("ann", "bob")
KINDS = tuple(WEIGHTS)

steps = st.lists(
    st.one_of(
        st.tuples(st.sampled_from(PEERS), st.sampled_from(KINDS)),
        st.integers(1, 30),
    ),
    max_size=40,
)


class Slow:
    """The same by keeping everything and passing every round singly."""

    def __init__(self) -> None:
        self.score = dict.fromkeys(PEERS, 0.0)
        self.out = dict.fromkeys(PEERS, False)
        self.counted: set[tuple[str, str]] = set()

    def note(self, peer: str, kind: str) -> bool:
        if (peer, kind) in self.counted:
            return False
        self.counted.add((peer, kind))
        self.score[peer] = min(MOST, self.score[peer] + WEIGHTS[kind])
        was, self.out[peer] = (
            self.out[peer],
            self.out[peer] or (self.score[peer] >= ENOUGH),
        )
        return self.out[peer] and not was

    def pass_rounds(self, count: int) -> None:
        self.counted.clear()
        for peer in PEERS:
            for _ in range(count):
                self.score[peer] *= 0.5 ** (1 / HALF_LIFE_ROUNDS)
            if self.score[peer] <= PARDON * (1 + 1e-9):
                self.out[peer] = False
            if self.score[peer] < min(WEIGHTS.values()) / 2:
                self.score[peer] = 0.0


@given(steps)
def test_it_agrees_with_a_slow_one(taken: list[tuple[str, str] | int]) -> None:
    """Scores, who is out, and who is back, after any history."""
    offences, slow, number = Offences(), Slow(), 0
    for step in taken:
        if isinstance(step, int):
            number += step
            offences.enter(number)
            slow.pass_rounds(step)
            continue
        peer, kind = step
        assert offences.note(peer, kind, "seen") == slow.note(peer, kind)
        charge = offences.of(peer)
        assert charge is not None
        assert charge.score_in(number) == pytest.approx(slow.score[peer])
        assert offences.out == {p for p in PEERS if slow.out[p]}


def test_two_of_the_grave_ones_are_enough() -> None:
    """One bad moment of a machine puts nobody out; a second one does."""
    offences = Offences()
    assert not offences.note("ann", "values", "not finite")
    offences.enter(13)
    assert not offences.out
    assert offences.note("ann", "stream", "too long")
    charge = offences.of("ann")
    assert charge is not None and (charge.kind, charge.since_round) == ("stream", 13)


def test_four_rounds_of_outlying_values_are_enough() -> None:
    """Three may happen."""
    offences, found = Offences(), []
    for number in range(4):
        offences.enter(number)
        found.append(offences.note("ann", "outlying", "far from the others"))
    assert found == [False, False, False, True]


def test_one_kind_counts_once_a_round() -> None:
    """A peer that repeats itself within a round is no worse for it."""
    offences = Offences()
    for _ in range(100):
        offences.note("ann", "values", "not finite")
    assert offences.charges[0].score == WEIGHTS["values"]


def test_small_rules_alone_are_never_enough() -> None:
    """Once a round, for as long as anybody likes."""
    offences = Offences()
    for number in range(1_000):
        offences.enter(number)
        offences.note("ann", "rules", "again")
    assert not offences.out


def test_it_fades_and_is_forgotten() -> None:
    """Who is out is back when half of it is gone, and in the end has done nothing."""
    offences = Offences()
    assert offences.note("ann", "digest", "other bytes")
    fades = HALF_LIFE_ROUNDS * math.log2(WEIGHTS["digest"] / PARDON)
    assert offences.enter(math.floor(fades)) == []
    assert offences.enter(math.ceil(fades)) == ["ann"]
    assert not offences.out
    offences.enter(1_000)
    assert offences.of("ann") is None


def test_a_pardon_forgives_everything() -> None:
    """And says whether there was anything to forgive."""
    offences = Offences()
    offences.note("ann", "digest", "other bytes")
    assert offences.pardon("ann")
    assert not offences.out
    assert not offences.pardon("ann")


def test_it_goes_on_after_a_restart() -> None:
    """What was known before is known again."""
    before, after = Offences(), Offences()
    before.note("ann", "digest", "other bytes")
    after.restore(before.charges)
    assert after.out == {"ann"}
    assert after.charges == before.charges


def test_an_unknown_kind_is_our_own_bug() -> None:
    """Kinds are a closed list."""
    with pytest.raises(LocalProtocolError, match="no offence"):
        Offences().note("ann", "rudeness", "said nothing")
