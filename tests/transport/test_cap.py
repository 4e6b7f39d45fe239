"""Caps: the bucket against a slow second version, turns in line, and two planes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pfusion.limits import CHUNK_BYTES, MIN_CAP_BYTES_PER_S
from p2pfusion.transport.base import Caps
from p2pfusion.transport.cap import UNCAPPED, Bucket, Cap
from p2pfusion.transport.tcp import DataPlane
from p2pfusion.transport.watch import Budget, Watch
from tests.transport.planes import Bench, Clock, benches, meet

TICK_S = 1 / 1024
"""Exact in binary, so that both versions can be compared to the byte."""

rates = st.integers(16, 1 << 20).map(lambda per_tick: per_tick * 1024)
moves = st.lists(st.tuples(st.integers(0, 3_000), st.integers(0, 1 << 20)), max_size=40)


class SlowBucket:
    """Tick by tick: so many tokens come, and what does not fit is lost."""

    def __init__(self, per_tick: int, burst: int) -> None:
        self.level, self._per_tick, self._burst = burst, per_tick, burst

    def pass_ticks(self, count: int) -> None:
        for _ in range(count):
            self.level = min(self.level + self._per_tick, self._burst)

    def ticks_until(self, wanted: int) -> int:
        ticks, level = 0, self.level
        while level < wanted:
            level += self._per_tick
            ticks += 1
        return ticks


@given(rates, moves)
def test_the_bucket_holds_what_a_slow_one_holds(
    rate: int, steps: list[tuple[int, int]]
) -> None:
    now = 0.0
    fast = Bucket(rate, now)
    slow = SlowBucket(rate // 1024, fast.burst_bytes)
    for ticks, wanted in steps:
        now += ticks * TICK_S
        slow.pass_ticks(ticks)
        wait_s = fast.wait_s(now)
        assert (wait_s == 0.0) == (slow.level >= fast.quantum_bytes)
        ahead = slow.ticks_until(fast.quantum_bytes)
        assert (ahead - 1) * TICK_S < wait_s <= max(ahead * TICK_S, 0.001) or not ahead
        if wait_s == 0.0:
            count = min(wanted, fast.quantum_bytes)
            fast.take(count, now)
            slow.level -= count


@given(st.floats(MIN_CAP_BYTES_PER_S, 1e12), moves)
def test_no_stretch_of_time_moves_more_than_its_share_and_a_burst(
    rate: float, steps: list[tuple[int, int]]
) -> None:
    now = 0.0
    bucket = Bucket(rate, now)
    moved: list[tuple[float, int]] = []
    for ticks, wanted in steps:
        now += ticks * TICK_S
        if not bucket.wait_s(now):
            count = min(wanted, bucket.quantum_bytes)
            bucket.take(count, now)
            moved.append((now, count))
    for first, (begin, _) in enumerate(moved):
        total = 0
        for end, count in moved[first:]:
            total += count
            # Rounding of the level is far below a byte for each step.
            assert total <= bucket.burst_bytes + rate * (end - begin) * 1.000001 + 1


# --- The line ------------------------------------------------------------------------


class Mover:
    """Has bytes to move, and room for some of them at a time."""

    def __init__(self, cap: Cap, left: int, room: int = UNCAPPED) -> None:
        self.left, self.moved = left, 0
        self._cap, self._room = cap, room

    def go(self, most: int) -> None:
        count = min(most, self.left, self._room)
        self.left -= count
        self.moved += count
        self._cap.spend(count)

    def try_to(self) -> None:
        most = self._cap.ask(self) if self.left else 0
        if most:
            self.go(most)


@pytest.fixture
def watch() -> Iterator[Watch]:
    made = Watch(Clock())
    yield made
    made.close()


def pass_time(watch: Watch, seconds: float) -> None:
    assert isinstance(watch.clock, Clock)
    watch.clock.advance(seconds)
    watch.turn(Budget(1 << 30, 1 << 30))


def test_without_a_cap_nobody_waits(watch: Watch) -> None:
    mover = Mover(Cap(watch, None), 10 * CHUNK_BYTES)
    mover.try_to()
    assert mover.left == 0 and watch.deadline() is None


def test_all_in_line_get_as_much_however_little_room_one_has(watch: Watch) -> None:
    rate = 100_000.0
    cap = Cap(watch, rate)
    movers = [Mover(cap, CHUNK_BYTES) for _ in range(3)]
    slow = Mover(cap, CHUNK_BYTES, room=10)
    for _ in range(2_000):
        for mover in (*movers, slow):
            mover.try_to()
        due = watch.deadline()
        pass_time(watch, 0.0 if due is None else max(0.0, due - watch.clock()))
        if min(mover.left for mover in movers) == 0:
            break
    moved = [mover.moved for mover in movers]
    assert max(moved) - min(moved) <= Bucket(rate, 0.0).burst_bytes
    assert 0 < slow.moved < min(moved)


def test_who_leaves_the_line_is_not_called(watch: Watch) -> None:
    cap = Cap(watch, 100_000.0)
    first, second = Mover(cap, CHUNK_BYTES), Mover(cap, CHUNK_BYTES)
    while cap.ask(first):
        first.go(Bucket(100_000.0, 0.0).quantum_bytes)
    second.try_to()
    assert cap.line == [first, second]
    moved = first.moved
    cap.leave(first)
    pass_time(watch, 10.0)
    assert first.moved == moved and second.moved and cap.line == []


# --- Planes --------------------------------------------------------------------------


@pytest.fixture
def bench() -> Iterator[Bench]:
    with benches() as made:
        yield made


def run_for(bench: Bench, seconds: float, step_s: float = 0.01) -> None:
    """The clock goes on by steps, and whatever is due is done."""
    for _ in range(round(seconds / step_s)):
        bench.clock.advance(step_s)
        bench.settle()


def moved_s(rate: float) -> float:
    """How long a chunk takes at that rate."""
    return CHUNK_BYTES / rate


@pytest.mark.parametrize("side", ["up", "down"])
def test_a_capped_plane_takes_the_time_that_its_cap_says(
    bench: Bench, side: str
) -> None:
    rate = 1_000_000.0
    a = bench.plane(caps=Caps(up=rate) if side == "up" else Caps())
    b = bench.plane(caps=Caps(down=rate) if side == "down" else Caps())
    meet(a, b)
    for number in range(2):
        assert a.send("b", [b"%d" % number, bytes(CHUNK_BYTES)])
    burst_s = Bucket(rate, 0.0).burst_bytes / rate
    bench.settle()
    run_for(bench, 2 * moved_s(rate) - burst_s - 0.1)
    assert bench.words(b) == [b"0"]
    run_for(bench, burst_s + 0.3)
    assert bench.words(b) == [b"0", b"1"]
    assert a.deadline() is None or a.deadline() > bench.clock.now
    assert not bench.dropped(a) and not bench.dropped(b)


def test_of_three_receivers_none_starves_and_a_silent_one_holds_up_nobody(
    bench: Bench,
) -> None:
    rate = 1_000_000.0
    sender = bench.plane(caps=Caps(up=rate))
    receivers = {name: bench.plane() for name in ("b", "c", "d")}
    for name, plane in receivers.items():
        sender.connect(name, plane.address)
        token = b"%8b" % name.encode()
        sender.open_session(name, sending=token, receiving=b"x" * 7 + name.encode())
        plane.open_session("a", sending=b"y" * 8, receiving=token)
    _, nobody = bench.listener()  # accepts in the kernel, and never reads
    sender.connect("e", nobody)
    sender.open_session("e", sending=b"to-e----", receiving=b"from-e--")
    for number in range(10):
        for name in (*receivers, "e"):
            sender.send(name, [b"%d" % number, bytes(CHUNK_BYTES // 8)])
    while not any(len(bench.words(plane)) == 10 for plane in receivers.values()):
        run_for(bench, 0.05)
    shares = Counter({n: len(bench.words(p)) for n, p in receivers.items()})
    assert min(shares.values()) >= 8, shares


def test_of_three_senders_none_starves(bench: Bench) -> None:
    receiver = bench.plane(caps=Caps(down=1_000_000.0))
    for name in ("b", "c", "d"):
        plane = bench.plane()
        plane.connect("a", receiver.address)
        token = b"%8b" % name.encode()
        plane.open_session("a", sending=token, receiving=b"y" * 8)
        receiver.open_session(name, sending=b"z" * 8, receiving=token)
        for number in range(10):
            plane.send("a", [b"%d" % number, bytes(CHUNK_BYTES // 8)])
    shares: Counter[str] = Counter()
    while not shares or max(shares.values()) < 10:
        run_for(bench, 0.05)
        shares = Counter(each.sender for each in bench.messages(receiver))
    assert len(shares) == 3 and min(shares.values()) >= 8, shares


def test_a_message_that_waits_for_its_turn_is_not_too_slow(bench: Bench) -> None:
    a, b = bench.plane(), bench.plane(caps=Caps(down=float(MIN_CAP_BYTES_PER_S)))
    meet(a, b)
    assert a.send("b", [b"slow", bytes(CHUNK_BYTES)])
    bench.settle()
    run_for(bench, 80.0, step_s=0.25)  # 1 MiB at 16 KiB/s: 64 s
    assert bench.words(b) == [b"slow"] and not bench.dropped(b)


def moving(bench: Bench, plane: DataPlane) -> int:
    """How often a plane has told that a message comes."""
    return len(bench.arrived[plane]) - len(bench.messages(plane))


def test_somebody_hears_now_and_then_that_a_slow_message_comes(bench: Bench) -> None:
    a, b = bench.plane(caps=Caps(up=100_000.0)), bench.plane()
    meet(a, b)
    assert a.send("b", [b"slow", bytes(CHUNK_BYTES)])
    bench.settle()
    run_for(bench, 11.0)
    assert bench.words(b) == [b"slow"]
    assert 15 <= moving(bench, b) <= 22  # each half second of ten
