"""What waits to leave: against a slow second version, and what is never sent twice."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pfusion.daemon.outbox import HEAD, ROOM_MESSAGES, Outbox, Piece
from p2pfusion.limits import MAX_HELD_PIECES
from p2pfusion.protocol.messages import StreamStart

Send = Callable[[StreamStart | None], bool]


class Lines:
    """A transport whose messages leave when the test says so."""

    def __init__(self) -> None:
        self.waiting: dict[str, list[list[tuple[int, int]]]] = {}
        self.slow: dict[str, list[list[tuple[int, int]]]] = {}
        """What has left and not arrived, where ``is_slow``."""
        self.is_slow = False
        self.left: list[tuple[str, int, int]] = []
        self.broken: set[str] = set()
        self.outbox = Outbox(
            lambda peer: len(self.waiting.get(peer, [])),
            lambda peer: len(self.waiting.get(peer, []) + self.slow.get(peer, [])),
        )

    def add(self, pull: int, offset: int, peer: str = "b") -> None:
        head = StreamStart(pull, 1, 1, b"") if offset == HEAD else None
        send = self._sender(peer, pull, offset)
        self.outbox.add(Piece(peer, pull, offset, send, head))

    def _sender(self, peer: str, pull: int, offset: int) -> Send:
        def send(head: StreamStart | None) -> bool:
            if peer in self.broken:
                return False
            offsets = [offset] if head is None else [HEAD, offset]
            assert head is None or head.pull == pull
            self.waiting.setdefault(peer, []).append([(pull, o) for o in offsets])
            return True

        return send

    def leave(self, peer: str = "b") -> None:
        """One message leaves."""
        if self.waiting.get(peer):
            message = self.waiting[peer].pop(0)
            self.left += [(peer, *label) for label in message]
            if self.is_slow:
                self.slow.setdefault(peer, []).append(message)
        self.outbox.flush()

    def arrive(self) -> None:
        """All that has left is there, or lost with its connection."""
        self.slow.clear()
        self.outbox.flush()

    def drain(self) -> list[tuple[str, int, int]]:
        """All that can leave leaves."""
        self.outbox.flush()
        while any(self.waiting.values()):
            for peer in list(self.waiting):
                self.leave(peer)
        return self.left


def test_pieces_leave_in_order_and_few_wait_at_the_transport() -> None:
    lines = Lines()
    for offset in (HEAD, *range(20)):
        lines.add(1, offset)
        assert len(lines.waiting.get("b", [])) <= ROOM_MESSAGES
    assert not lines.outbox.is_empty
    assert lines.drain() == [("b", 1, offset) for offset in (HEAD, *range(20))]
    assert lines.outbox.is_empty


def test_a_head_leaves_with_the_piece_after_it_or_alone() -> None:
    lines = Lines()
    for pull, offset in ((1, HEAD), (1, 0), (2, HEAD), (3, HEAD), (3, 0)):
        lines.add(pull, offset)
    assert lines.waiting["b"] == [[(1, HEAD), (1, 0)], [(2, HEAD)]]
    lines.leave()
    assert lines.waiting["b"] == [[(2, HEAD)], [(3, HEAD), (3, 0)]]


def test_a_slow_peer_holds_up_no_other() -> None:
    lines = Lines()
    for offset in range(5):
        lines.add(1, offset, "slow")
    lines.add(2, 0, "quick")
    lines.leave("quick")
    assert lines.left == [("quick", 2, 0)]


def test_what_has_not_left_is_not_sent_twice() -> None:
    lines = Lines()
    lines.add(1, HEAD)
    lines.outbox.flush()  # nothing comes after it for now
    for offset in range(6):
        lines.add(1, offset)
    lines.leave()  # the head; 0 and 1 wait at the transport, the rest here
    for _ in range(3):
        for offset in (HEAD, *range(6)):
            lines.add(1, offset)
    left = lines.drain()
    assert [offset for _, _, offset in left if offset != HEAD] == list(range(6))


def test_what_has_left_is_sent_again_when_asked_for() -> None:
    lines = Lines()
    for _ in range(2):
        for offset in (HEAD, 0, 1):
            lines.add(1, offset)
        lines.drain()
    assert lines.left == 2 * [("b", 1, HEAD), ("b", 1, 0), ("b", 1, 1)]


def test_what_is_on_a_slow_line_is_not_sent_twice_before_it_is_there() -> None:
    lines = Lines()
    lines.is_slow = True
    for _ in range(3):
        for offset in (HEAD, 0, 1):
            lines.add(1, offset)
        lines.drain()
    once = [("b", 1, HEAD), ("b", 1, 0), ("b", 1, 1)]
    assert lines.left == once
    lines.arrive()
    for offset in (HEAD, 0, 1):
        lines.add(1, offset)
    assert lines.drain() == 2 * once
    lines.arrive()
    assert not lines.outbox._lines


def test_of_a_stream_that_nobody_wants_nothing_more_is_held() -> None:
    lines = Lines()
    for offset in range(5):
        lines.add(1, offset)
        lines.add(2, offset)
    lines.outbox.drop("b", 1)
    lines.outbox.drop("c", 1)
    assert [pull for _, pull, _ in lines.drain()] == [1, *5 * [2]]


def test_what_finds_no_way_is_lost_and_holds_up_nothing() -> None:
    lines = Lines()
    lines.broken.add("b")
    lines.add(1, 0)
    assert lines.outbox.is_empty
    lines.broken.clear()
    lines.add(1, 0)
    assert lines.drain() == [("b", 1, 0)]


def test_a_peer_that_claims_endless_credit_costs_a_bounded_number_of_pieces() -> None:
    lines = Lines()
    for offset in range(2 * MAX_HELD_PIECES):
        lines.add(1, offset)
    assert len(lines.drain()) == MAX_HELD_PIECES + ROOM_MESSAGES


steps = st.lists(
    st.one_of(
        st.tuples(st.just("ask"), st.sampled_from("bc"), st.integers(1, 3)),
        st.tuples(st.just("leave"), st.sampled_from("bc"), st.just(0)),
        st.tuples(st.just("arrive"), st.just(""), st.just(0)),
        st.tuples(st.just("drop"), st.sampled_from("bc"), st.integers(1, 3)),
    ),
    max_size=60,
)


@given(steps, st.booleans())
def test_streams_leave_as_a_slow_version_lets_them(
    script: list[tuple[str, str, int]], is_slow: bool
) -> None:
    """The slow one keeps plain lists, and looks through all of them each time."""
    lines = Lines()
    lines.is_slow = is_slow
    slow: dict[str, list[list[tuple[int, int]]]] = {"b": [], "c": []}
    held: dict[str, list[tuple[int, int]]] = {"b": [], "c": []}
    given: dict[str, list[list[tuple[int, int]]]] = {"b": [], "c": []}
    left: list[tuple[str, int, int]] = []

    def move(peer: str) -> None:
        while held[peer] and len(given[peer]) < ROOM_MESSAGES:
            message = [held[peer].pop(0)]
            pulls = [pull for pull, _ in held[peer][:1]]
            if message[0][1] == HEAD and pulls == [message[0][0]]:
                message.append(held[peer].pop(0))
            given[peer].append(message)

    for what, peer, pull in script:
        if what == "ask":
            for offset in (HEAD, 0, 1, 2):
                lines.add(pull, offset, peer)
                if offset == HEAD:
                    held[peer] = [each for each in held[peer] if each[0] != pull]
                under_way = slow[peer] + given[peer]
                if any((pull, offset) in message for message in under_way):
                    continue
                held[peer].append((pull, offset))
                if offset != HEAD:
                    move(peer)
        elif what == "drop":
            lines.outbox.drop(peer, pull)
            held[peer] = [each for each in held[peer] if each[0] != pull]
        elif what == "arrive":
            lines.arrive()
            slow = {"b": [], "c": []}
        else:
            lines.leave(peer)
            if given[peer]:
                message = given[peer].pop(0)
                left += [(peer, *label) for label in message]
                slow[peer] += [message] if lines.is_slow else []
            for each in held:
                move(each)
        assert lines.left == left
        assert lines.outbox.is_empty == (not any(held.values()))


@pytest.mark.parametrize("count", [1, ROOM_MESSAGES])
def test_a_line_that_is_idle_is_forgotten(count: int) -> None:
    lines = Lines()
    for offset in range(count):
        lines.add(1, offset)
    lines.drain()
    assert lines.outbox._lines == {}
