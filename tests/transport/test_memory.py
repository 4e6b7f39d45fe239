"""The hub; what a transport promises is tested in ``contracts/test_transports.py``."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from hypothesis import given
from hypothesis import strategies as st

from p2pfusion.transport import Address, Incoming, Plane, Remote
from p2pfusion.transport.memory import Hub, MemoryTransport

TARGET = Address("127.0.0.1", 7_788)
ANY_PORT = Address("127.0.0.1", 0)


def nothing() -> None:
    """What a listener does who does not want to be woken."""


@given(
    queues=st.lists(st.integers(0, 5), max_size=5),
    closed=st.sets(st.integers(0, 4)),
    batch=st.integers(1, 7),
)
def test_every_message_is_taken_once_and_in_turn(
    queues: list[int], closed: set[int], batch: int
) -> None:
    hub = Hub()
    hub.listen(TARGET, nothing)
    for index, count in enumerate(queues):
        link = hub.open(f"peer-{index}", TARGET, capacity=5)
        for number in range(count):
            assert hub.post(link, (b"%d" % number,))
        if index in closed:
            hub.shut(link, deliver=True)
    taken = []
    while got := hub.take(TARGET, batch):
        assert len(got) <= batch
        taken += got
    turns = [
        (f"peer-{index}", (b"%d" % number,))
        for number in range(5)
        for index, count in enumerate(queues)
        if number < count
    ]
    assert taken == turns


def test_link_is_full_at_its_capacity_and_has_room_again() -> None:
    hub = Hub()
    link = hub.open("a", TARGET, capacity=2)
    assert [hub.post(link, (b"",)) for _ in range(3)] == [True, True, False]
    hub.take(TARGET, 1)
    assert [hub.post(link, (b"",)) for _ in range(2)] == [True, False]


def test_shut_link_delivers_only_to_a_listener() -> None:
    for listening, deliver in ((True, True), (True, False), (False, True)):
        hub = Hub()
        if listening:
            hub.listen(TARGET, nothing)
        link = hub.open("a", TARGET, capacity=2)
        hub.post(link, (b"word",))
        hub.shut(link, deliver=deliver)
        assert len(hub.take(TARGET, 9)) == (listening and deliver)


def test_listener_is_woken_for_what_waited() -> None:
    hub = Hub()
    bells: list[str] = []
    ring: Callable[[], None] = lambda: bells.append("ring")  # noqa: E731
    link = hub.open("a", TARGET, capacity=2)
    hub.post(link, (b"word",))
    hub.listen(TARGET, ring)
    assert bells == ["ring"]
    hub.post(link, (b"word",))
    assert bells == ["ring", "ring"]


def test_banner_is_said_while_somebody_listens() -> None:
    hub = Hub()
    assert hub.ask(TARGET) is None
    hub.listen(TARGET, nothing)
    assert hub.ask(TARGET) == b""
    hub.say(TARGET, b"who I am")
    assert hub.ask(TARGET) == b"who I am"
    hub.leave(TARGET)
    assert hub.ask(TARGET) is None
    hub.listen(TARGET, nothing)
    assert hub.ask(TARGET) == b""


def test_many_threads_lose_nothing() -> None:
    hub = Hub()
    listener = MemoryTransport(hub, "listener", ANY_PORT)
    addresses = listener.addresses
    remote = Remote(addresses[Plane.CONTROL], addresses[Plane.DATA], b"")

    def talk(name: str) -> None:
        sender = MemoryTransport(hub, name, ANY_PORT)
        sender.connect("listener", remote)
        for number in range(100):
            assert sender.send("listener", Plane.CONTROL, [b"%d" % number])
        sender.close()

    threads = [threading.Thread(target=talk, args=(f"peer-{n}",)) for n in range(4)]
    for thread in threads:
        thread.start()
    got: dict[str, list[bytes]] = {}
    deadline = time.monotonic() + 20.0
    while sum(map(len, got.values())) < 400:
        # A poll may come back empty: a message can be taken before its bell rings.
        assert time.monotonic() < deadline, "messages were lost"
        messages, _ = listener.poll(1.0, {})
        for message in messages:
            assert isinstance(message, Incoming)
            got.setdefault(message.sender, []).append(bytes(message.frames[0]))
    for thread in threads:
        thread.join()
    listener.close()
    assert got.keys() == {f"peer-{n}" for n in range(4)}
    assert all(words == [b"%d" % n for n in range(100)] for words in got.values())
