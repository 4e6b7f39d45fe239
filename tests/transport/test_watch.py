"""Instants in order, and sources in turn."""

from __future__ import annotations

import select
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from hypothesis import given
from hypothesis import strategies as st

from p2pfusion.transport.watch import READ, WRITE, Budget, Deadlines, Watch
from tests.transport.planes import Clock

KEYS = st.sampled_from("abcd")
TIMES = st.integers(0, 9).map(float)
STEPS = st.lists(
    st.tuples(st.just("set"), KEYS, TIMES)
    | st.tuples(st.just("clear"), KEYS, TIMES)
    | st.tuples(st.just("pop"), KEYS, TIMES),
    max_size=300,
)


@given(STEPS)
def test_deadlines_are_a_dictionary_with_the_earliest_first(
    steps: list[tuple[str, str, float]],
) -> None:
    deadlines: Deadlines[str] = Deadlines()
    slow: dict[str, float] = {}
    for what, key, when in steps:
        if what == "set":
            deadlines.set(key, when)
            slow[key] = when
        elif what == "clear":
            deadlines.clear(key)
            slow.pop(key, None)
        else:
            taken = []
            while (found := deadlines.pop(when)) is not None:
                taken.append(slow.pop(found))
            assert taken == sorted(taken)
            assert all(left > when for left in slow.values())
            assert all(due <= when for due in taken)
        assert deadlines.next() == min(slow.values(), default=None)


def test_what_was_cleared_is_forgotten() -> None:
    """Or a flood of short connections would fill the memory for the longest timeout."""
    deadlines: Deadlines[object] = Deadlines()
    for number in range(10_000):
        key = object()
        deadlines.set(key, float(number))
        deadlines.clear(key)
    assert len(deadlines._heap) < 100


def test_order_survives_tidying_up() -> None:
    deadlines: Deadlines[int] = Deadlines()
    for number in range(1_000):
        deadlines.set(number % 50, float(1_000 - number))
    taken = iter(lambda: deadlines.pop(2_000.0), None)
    assert list(taken) == list(reversed(range(50)))


class Reader:
    """Reads one byte in a step and notes whose turn it was."""

    def __init__(self, name: str, channel: socket.socket, log: list[str]) -> None:
        self.name, self.channel, self.log = name, channel, log
        self.due = 0

    def ready(self, events: int, budget: Budget) -> bool:
        assert events == READ
        self.channel.recv(1)
        self.log.append(self.name)
        budget.bytes_left -= 1
        return len(self.channel.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)) > 0

    def overdue(self) -> None:
        self.due += 1


@contextmanager
def readers(*backlogs: int) -> Iterator[tuple[Watch, list[Reader], list[str]]]:
    """Watched sources that have so many bytes each to read, and one that stays."""
    log: list[str] = []
    with ExitStack() as stack:
        watch = Watch(Clock())
        stack.callback(watch.close)
        made = []
        for number, count in enumerate(backlogs):
            near, far = socket.socketpair()
            stack.enter_context(near)
            stack.enter_context(far)
            far.send(b"x" * (count + 1))
            made.append(Reader("abcdefgh"[number], near, log))
            watch.set(made[-1], near, READ)
        yield watch, made, log


def is_readable(watch: Watch) -> bool:
    poller = select.poll()
    poller.register(watch.fileno(), select.POLLIN)
    return bool(poller.poll(0))


def test_sources_work_in_turn_and_the_budget_ends_the_turn() -> None:
    with readers(9, 9, 9) as (watch, _, log):
        watch.turn(Budget(bytes_left=7, messages_left=99))
        assert sorted(log[:3]) == sorted(log[3:6]) == ["a", "b", "c"]
        assert len(log) == 7
        assert is_readable(watch)


def test_who_waited_longest_comes_first() -> None:
    with readers(9, 9, 9) as (watch, _, log):
        for _ in range(6):
            watch.turn(Budget(bytes_left=1, messages_left=99))
        assert sorted(log[:3]) == ["a", "b", "c"]
        assert log[3:] == log[:3]


class Ender(Reader):
    """Ends everybody's wait, its own included."""

    def __init__(self, watch: Watch, among: list[Reader], like: Reader) -> None:
        super().__init__(like.name, like.channel, like.log)
        self.watch, self.among = watch, among

    def ready(self, events: int, budget: Budget) -> bool:
        for source in self.among:
            self.watch.set(source, source.channel, 0)
        self.log.append(self.name)
        return True


def test_one_step_may_end_the_wait_of_another() -> None:
    with readers(0, 0) as (watch, made, log):
        for source in made:
            watch.set(source, source.channel, 0)
            watch.set(Ender(watch, made, source), source.channel, READ)
        watch.turn(Budget(9, 9))
        assert len(log) == 1
        assert not is_readable(watch)


def test_interest_can_change_and_end() -> None:
    with readers(0) as (watch, made, _):
        (source,) = made
        assert is_readable(watch)
        watch.set(source, source.channel, 0)
        watch.set(source, source.channel, 0)
        assert not is_readable(watch)
        watch.set(source, source.channel, READ | WRITE)
        watch.set(source, source.channel, READ)
        assert is_readable(watch)


def test_what_is_due_is_told_once_and_may_be_called_off() -> None:
    with readers(0, 0) as (watch, (first, second), _):
        clock = watch.clock
        assert isinstance(clock, Clock)
        watch.remind(first, 1.0)
        watch.remind(second, 2.0)
        assert watch.deadline() == clock.now + 1.0
        watch.remind(first, 3.0)
        watch.remind(second, None)
        assert watch.deadline() == clock.now + 3.0
        clock.advance(3.0)
        for _ in range(2):
            watch.turn(Budget(0, 0))
        assert (first.due, second.due) == (1, 0)
        assert watch.deadline() is None
