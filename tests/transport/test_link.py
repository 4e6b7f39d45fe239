"""Queues that outlive connections, and messages that do not."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from p2pfusion import limits
from p2pfusion.limits import (
    CHUNK_BYTES,
)
from p2pfusion.transport.asking import write_banner
from p2pfusion.transport.base import Address
from p2pfusion.transport.bounds import (
    DATA_SEND_QUEUE_MESSAGES,
    RECONNECT_CEILING_MS,
    RECONNECT_INTERVAL_MS,
)
from p2pfusion.transport.connection import PREFIX
from p2pfusion.transport.tcp import DataPlane
from tests.transport.planes import Bench, benches, is_readable, message

TOKEN = b"to-them-"


@pytest.fixture
def bench() -> Iterator[Bench]:
    with benches() as made:
        yield made


def sending(bench: Bench, address: Address) -> DataPlane:
    """A plane that has a session with ``them`` at an address."""
    plane = bench.plane()
    plane.connect("them", address)
    plane.open_session("them", sending=TOKEN, receiving=b"to-us---")
    return plane


def read(bench: Bench, channel: socket.socket, count: int) -> bytes:
    """So many bytes, while the planes go on."""
    channel.setblocking(False)
    found = bytearray()

    def enough() -> bool:
        try:
            part = channel.recv(count - len(found))
        except BlockingIOError:
            return False
        assert part, "hung up"
        found.extend(part)
        return len(found) == count

    bench.until(enough)
    return bytes(found)


def rest(bench: Bench) -> None:
    """Time passes until every link may connect again."""
    bench.clock.advance(RECONNECT_CEILING_MS / 1_000)


def test_nothing_connects_before_there_is_something_to_send(bench: Bench) -> None:
    listener, address = bench.listener()
    plane = sending(bench, address)
    bench.settle()
    listener.setblocking(False)
    with pytest.raises(BlockingIOError):
        listener.accept()
    assert plane.deadline() is None
    assert plane.send("them", [b"word"])
    channel = bench.accepted(listener)
    assert read(bench, channel, 20) == message(TOKEN, b"word")


def test_receiver_that_does_not_read_fills_the_queue_and_loses_nothing(
    bench: Bench,
) -> None:
    listener, address = bench.listener()
    plane = sending(bench, address)
    payload = bytes(CHUNK_BYTES)
    sent = 0
    channel = None
    while True:
        while plane.send("them", [b"%8d" % sent, payload]):
            sent += 1
        if channel is None:
            channel = bench.accepted(listener)
        bench.settle()
        if not plane.send("them", [b"%8d" % sent, payload]):
            break
        sent += 1
    assert sent * CHUNK_BYTES >= limits.DATA_SEND_BYTES
    assert not is_readable(plane) and plane.deadline() is None
    for number in range(sent):
        whole = message(TOKEN, b"%8d" % number, payload)
        assert read(bench, channel, len(whole)) == whole
    assert plane.send("them", [b"room again"])
    assert bench.dropped(plane).keys() == {"queue full"}


def test_what_the_kernel_has_is_under_way_until_the_other_side_acknowledges_it(
    bench: Bench,
) -> None:
    listener, address = bench.listener()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
    plane = sending(bench, address)
    assert plane.under_way("them") == plane.under_way("nobody") == 0
    payload, sent = bytes(1_000), 0
    while plane.send("them", [b"%8d" % sent, payload]):
        sent += 1
    channel = bench.accepted(listener)
    bench.settle()
    assert plane.waiting("them") < plane.under_way("them") <= sent
    for number in range(sent):
        whole = message(TOKEN, b"%8d" % number, payload)
        assert read(bench, channel, len(whole)) == whole
    bench.until(lambda: not plane.under_way("them"))
    while plane.send("them", [b"lost", payload]):
        pass
    bench.settle()
    assert plane.waiting("them") < plane.under_way("them")
    channel.close()
    bench.until(lambda: plane.deadline() is not None)
    assert plane.waiting("them") == plane.under_way("them")


def test_half_sent_message_is_lost_whole_and_the_next_begins_anew(
    bench: Bench,
) -> None:
    listener, address = bench.listener()
    plane = sending(bench, address)
    for number in range(3):
        assert plane.send("them", [b"%d" % number])
    channel = bench.accepted(listener)
    read(bench, channel, 3 * len(message(TOKEN, b"0")))
    large = b"x" * CHUNK_BYTES
    for number in range(8):  # more than the kernel holds for both ends
        assert plane.send("them", [b"%d" % number, large])
    bench.settle()
    begun = read(bench, channel, 100)
    assert begun.startswith(PREFIX.pack(TOKEN, 1, CHUNK_BYTES) + b"0x")
    channel.close()
    rest(bench)
    bench.until(lambda: bench.dropped(plane))
    assert bench.dropped(plane) == {"cut off": 1}
    rest(bench)
    channel = bench.accepted(listener)
    first = int(read(bench, channel, PREFIX.size + 1)[-1:])
    assert first > 0
    read(bench, channel, CHUNK_BYTES)
    for number in range(first + 1, 8):
        whole = message(TOKEN, b"%d" % number, large)
        assert read(bench, channel, len(whole)) == whole


def test_pauses_grow_while_nobody_answers_and_end_with_success(bench: Bench) -> None:
    later, address = bench.refusing()
    plane = sending(bench, address)
    assert plane.send("them", [b"word"])
    pauses = []
    for _ in range(8):
        bench.settle()
        due = plane.deadline()
        assert due is not None
        assert plane.send("them", [b"more"])  # does not hurry the next attempt
        bench.settle()
        assert plane.deadline() == due
        pauses.append(due - bench.clock.now)
        bench.clock.advance(pauses[-1])
        bench.turn()
    for exponent, pause_s in enumerate(pauses):
        most_ms = min(RECONNECT_INTERVAL_MS * 2**exponent, RECONNECT_CEILING_MS)
        assert most_ms / 2_001 <= pause_s <= most_ms / 999
    bench.settle()
    later.listen()
    rest(bench)
    assert read(bench, bench.accepted(later), 20) == message(TOKEN, b"word")


def test_being_accepted_and_dropped_is_no_success(bench: Bench) -> None:
    """As by a peer that does not know the session yet."""
    listener, address = bench.listener()
    plane = sending(bench, address)
    pauses = []
    for _ in range(6):
        assert plane.send("them", [b"word"])
        channel = bench.accepted(listener)
        read(bench, channel, 20)
        channel.close()
        bench.until(lambda: plane.deadline() is not None)
        due = plane.deadline()
        assert due is not None
        pauses.append(due - bench.clock.now)
        bench.clock.advance(pauses[-1])
        bench.turn()
    assert pauses[-1] > RECONNECT_CEILING_MS / 2_001
    assert plane.send("them", [b"word"])
    channel = bench.accepted(listener)
    bench.settle()
    rest(bench)  # this one holds
    channel.close()
    bench.until(lambda: plane.deadline() is not None)
    due = plane.deadline()
    assert due is not None and due - bench.clock.now <= RECONNECT_INTERVAL_MS / 999


def test_lost_idle_connection_is_not_opened_again_without_need(bench: Bench) -> None:
    listener, address = bench.listener()
    plane = sending(bench, address)
    assert plane.send("them", [b"word"])
    channel = bench.accepted(listener)
    read(bench, channel, 20)
    channel.close()
    bench.until(lambda: plane.deadline() is not None)
    rest(bench)
    bench.until(lambda: plane.deadline() is None)
    listener.setblocking(False)
    with pytest.raises(BlockingIOError):
        listener.accept()
    assert plane.send("them", [b"next"])
    assert read(bench, bench.accepted(listener), 20) == message(TOKEN, b"next")


def test_banner_is_skipped_and_anything_more_ends_the_connection(
    bench: Bench,
) -> None:
    listener, address = bench.listener()
    plane = sending(bench, address)
    assert plane.send("them", [b"word"])
    channel = bench.accepted(listener)
    channel.send(write_banner(b"b" * limits.MAX_BANNER_BYTES))
    bench.settle()
    assert plane.send("them", [b"next"])
    read(bench, channel, 40)
    assert plane.deadline() is None
    channel.send(b"!")
    bench.until(lambda: bench.hung_up(channel))
    rest(bench)
    bench.settle()
    assert plane.send("them", [b"word"])
    channel = bench.accepted(listener)
    channel.send(write_banner(b"once more"))
    bench.settle()
    assert not bench.hung_up(channel)


def test_unread_banner_does_not_cut_off_the_last_words(bench: Bench) -> None:
    """What is unread when a socket closes makes the kernel drop what is unsent."""
    listener, address = bench.listener()
    plane = sending(bench, address)
    assert plane.send("them", [b"word"])
    channel = bench.accepted(listener)
    read(bench, channel, 20)
    channel.send(write_banner(b"this is me"))
    assert plane.send("them", [b"head", bytes(CHUNK_BYTES)])  # more than arrives unread
    plane.disconnect("them")
    whole = message(TOKEN, b"head", bytes(CHUNK_BYTES))
    assert read(bench, channel, len(whole)) == whole
    bench.until(lambda: bench.hung_up(channel))


def test_new_session_begins_with_the_shortest_pause(bench: Bench) -> None:
    _, address = bench.refusing()
    plane = sending(bench, address)
    for _ in range(5):
        assert plane.send("them", [b"word"])
        bench.settle()
        rest(bench)
        bench.settle()
    plane.open_session("them", sending=b"newtoken", receiving=b"to-us---")
    assert plane.send("them", [b"word"])
    bench.settle()
    due = plane.deadline()
    assert due is not None and due - bench.clock.now <= RECONNECT_INTERVAL_MS / 999


def test_new_session_drops_what_waits_and_connects_without_a_pause(
    bench: Bench,
) -> None:
    later, address = bench.refusing()
    plane = sending(bench, address)
    for _ in range(5):
        assert plane.send("them", [b"old"])
        bench.until(lambda: plane.deadline() is not None)
        rest(bench)
        bench.turn()
    bench.until(lambda: plane.deadline() is not None)
    later.listen()
    plane.open_session("them", sending=b"newtoken", receiving=b"to-us---")
    assert plane.deadline() is None
    assert plane.send("them", [b"new"])
    channel = bench.accepted(later)
    assert read(bench, channel, 19) == message(b"newtoken", b"new")
    plane.open_session("them", sending=b"newtoken", receiving=b"to-us---")
    bench.settle()
    assert not bench.hung_up(channel)  # nothing was new
    plane.open_session("them", sending=b"another-", receiving=b"to-us---")
    bench.until(lambda: bench.hung_up(channel))


def test_changed_address_replaces_connection_and_queue(bench: Bench) -> None:
    (old, old_address), (new, new_address) = bench.listener(), bench.listener()
    plane = sending(bench, old_address)
    assert plane.send("them", [b"word"])
    channel = bench.accepted(old)
    read(bench, channel, 20)
    plane.connect("them", old_address)
    bench.settle()
    assert not bench.hung_up(channel)
    plane.connect("them", new_address)
    bench.until(lambda: bench.hung_up(channel))
    assert plane.send("them", [b"here"])
    assert read(bench, bench.accepted(new), 20) == message(TOKEN, b"here")


def test_expelled_peer_gets_nothing_more(bench: Bench) -> None:
    listener, address = bench.listener()
    plane = sending(bench, address)
    assert plane.send("them", [b"word"])
    channel = bench.accepted(listener)
    read(bench, channel, 20)
    while plane.send("them", [b"head", bytes(CHUNK_BYTES)]):
        pass
    plane.expel("them")
    with pytest.raises(ConnectionResetError):
        while True:
            bench.turn()
            channel.setblocking(True)
            channel.recv(1 << 20)
    assert plane.deadline() is None
    assert not plane.send("them", [b"word"])


@pytest.mark.parametrize("end", ["expel", "disconnect"])
def test_attempt_under_way_ends_with_its_link(bench: Bench, end: str) -> None:
    listener, address = bench.listener()
    plane = sending(bench, address)
    assert plane.send("them", [b"word"])
    assert plane.deadline() is not None
    if end == "expel":
        plane.expel("them")
    else:
        plane.disconnect("them")
    assert plane.deadline() is None
    channel = bench.accepted(listener)  # the kernel was faster
    bench.until(lambda: bench.hung_up(channel))


def test_disconnected_peer_gets_what_can_leave_at_once(bench: Bench) -> None:
    listener, address = bench.listener()
    plane = sending(bench, address)
    assert plane.send("them", [b"word"])
    channel = bench.accepted(listener)
    assert read(bench, channel, 20) == message(TOKEN, b"word")
    assert plane.send("them", [b"last"])
    plane.disconnect("them")
    assert not plane.send("them", [b"more"])
    assert read(bench, channel, 20) == message(TOKEN, b"last")
    bench.until(lambda: bench.hung_up(channel))
    plane.connect("them", address)  # the session is still there
    assert plane.send("them", [b"back"])
    assert read(bench, bench.accepted(listener), 20) == message(TOKEN, b"back")


def test_dead_peer_costs_a_bounded_queue(bench: Bench) -> None:
    _, address = bench.refusing()
    plane = sending(bench, address)
    accepted = 0
    while plane.send("them", [b"word"]):
        accepted += 1
    assert accepted == DATA_SEND_QUEUE_MESSAGES
    assert bench.dropped(plane) == {"queue full": 1}
