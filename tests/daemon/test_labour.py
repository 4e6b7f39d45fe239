"""Who makes much work is not heard for a while, and nobody else pays for it."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from p2pfusion.daemon.labour import (
    BURST_S,
    LEAST_SHARE,
    MOST_COUNTED_S,
    REASON,
    SHARE_OF_ALL,
    Labour,
)
from p2pfusion.transport import GUEST, Incoming, Moving, Plane


class Bench:
    """A loop whose clock and work the test moves."""

    def __init__(self, others: int = 2) -> None:
        self.dropped: Counter[str] = Counter()
        self.now = self.worked = 0.0
        self.labour = Labour(
            self.dropped,
            lambda: range(others),
            clock=lambda: self.now,
            worked=lambda: self.worked,
        )

    def hears(self, sender: str, work_s: float, plane: Plane = Plane.CONTROL) -> bool:
        """Whether a message is listened to, which then is so much work."""
        heard = False
        for _ in self.labour.heard([Incoming(sender, plane, ())]):
            self.worked += work_s
            heard = True
        return heard


def test_a_burst_is_heard_and_then_a_share(others: int = 2) -> None:
    bench = Bench(others)
    heard = 0
    while bench.hears("a", 0.01):
        heard += 1
    assert heard == round(BURST_S / 0.01)
    assert bench.dropped == {REASON: 1}
    # From then on what the share pays for: half of the time for the two of them.
    bench.now += 1.0
    heard = 0
    while bench.hears("a", 0.01):
        heard += 1
    assert abs(heard - SHARE_OF_ALL / others / 0.01) <= 1


def test_others_are_heard_all_the_same() -> None:
    bench = Bench()
    while bench.hears("a", 0.05):
        pass
    assert bench.hears("b", 0.05)


def test_values_guests_and_signs_of_life_are_not_counted() -> None:
    bench = Bench()
    while bench.hears("a", 0.05):
        pass
    assert bench.hears("a", 9.0, Plane.DATA)
    assert bench.hears(GUEST + "00" * 32, 9.0)
    assert bench.hears(GUEST + "00" * 32, 9.0)
    assert list(bench.labour.heard([Moving("a")])) == [Moving("a")]


def test_what_a_message_brings_on_counts_as_one_message() -> None:
    bench = Bench()
    assert bench.hears("a", 1_000.0)  # a plan, say
    for _ in range(int(BURST_S / MOST_COUNTED_S) - 2):
        assert bench.hears("a", 1_000.0)


@given(
    st.lists(st.tuples(st.sampled_from("abc"), st.floats(0.0, 0.05), st.floats(0, 3))),
    st.integers(1, 200),
)
def test_nobody_takes_more_than_its_share_and_a_burst(
    story: list[tuple[str, float, float]], others: int
) -> None:
    bench = Bench(others)
    taken: Counter[str] = Counter()
    for sender, work_s, pause_s in story:
        bench.now += pause_s
        if bench.hears(sender, work_s):
            taken[sender] += work_s  # type: ignore[assignment]
    share = max(LEAST_SHARE, SHARE_OF_ALL / others)
    for sender in taken:
        assert taken[sender] <= BURST_S + MOST_COUNTED_S + share * bench.now + 1e-6


def test_debts_are_few_however_many_names_there_have_been() -> None:
    bench = Bench(others=3)
    for number in range(100):
        bench.hears(str(number), 0.01)
    assert len(bench.labour._debts) <= 6
