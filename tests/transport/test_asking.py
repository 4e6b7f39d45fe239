"""Banners, and questions to who has none."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pfusion.errors import LocalProtocolError, RemoteProtocolError
from p2pfusion.limits import (
    MAX_BANNER_BYTES,
)
from p2pfusion.transport import bounds
from p2pfusion.transport.asking import MARK, read_banner, write_banner
from p2pfusion.transport.base import Address, Banner, KnockFailed
from p2pfusion.transport.bounds import (
    MAX_KNOCKS,
)
from p2pfusion.transport.tcp import DataPlane
from tests.transport.planes import Bench, benches

BANNERS = st.binary(min_size=1, max_size=MAX_BANNER_BYTES)


@pytest.fixture
def bench() -> Iterator[Bench]:
    with benches() as made:
        yield made


def control_of(data: Address) -> Address:
    """The control address that goes with a data address."""
    return Address(data.host, data.port - 1)


def no_banner(address: Address) -> KnockFailed:
    return KnockFailed(address, "no-banner")


def no_answer(address: Address) -> KnockFailed:
    return KnockFailed(address, "no-answer")


def answers(bench: Bench, plane: DataPlane, count: int) -> list[object]:
    """So many answers, and no more."""
    bench.until(lambda: len(bench.arrived[plane]) >= count)
    assert len(bench.arrived[plane]) == count
    return list(bench.arrived[plane])


@given(BANNERS, st.binary(max_size=9))
def test_banner_is_read_as_soon_as_it_is_whole(data: bytes, after: bytes) -> None:
    said = write_banner(data)
    assert read_banner(said + after) == data
    for size in range(len(said)):
        assert read_banner(said[:size]) is None


@given(st.binary(max_size=2 * MAX_BANNER_BYTES))
def test_any_bytes_are_a_banner_or_a_remote_protocol_error(heard: bytes) -> None:
    for said in (heard, MARK + heard):
        try:
            found = read_banner(said)
        except RemoteProtocolError:
            continue
        assert found is None or said.startswith(write_banner(found))


def test_own_banner_is_bounded(bench: Bench) -> None:
    plane = bench.plane()
    assert write_banner(b"") == plane.banner == b""
    with pytest.raises(LocalProtocolError):
        plane.banner = bytes(MAX_BANNER_BYTES + 1)
    plane.banner = bytes(MAX_BANNER_BYTES)
    assert plane.banner == bytes(MAX_BANNER_BYTES)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_banner_is_fetched(bench: Bench, host: str) -> None:
    asking, asked = bench.plane(), bench.plane()
    asked.banner = b"this is me"
    address = Address(host, asked.address.port - 1)
    asking.ask(address)
    asking.ask(address)  # is under way: one answer for both
    assert answers(bench, asking, 1) == [Banner(address, b"this is me")]
    assert asking.deadline() is None
    asked.banner = b"this was me"
    asking.ask(address)
    assert answers(bench, asking, 2)[1] == Banner(address, b"this was me")
    bench.settle()
    assert not bench.dropped(asked)


def test_everybody_who_connects_is_told_at_once_and_nobody_without_a_banner(
    bench: Bench,
) -> None:
    plane = bench.plane()
    before = bench.visitor(plane)
    bench.settle()
    plane.banner = b"this is me"
    after = bench.visitor(plane)
    bench.settle()
    assert after.recv(1_000) == write_banner(b"this is me")
    before.setblocking(False)
    with pytest.raises(BlockingIOError):
        before.recv(1)


def test_silent_door_is_given_up_in_time(bench: Bench) -> None:
    asking, asked = bench.plane(), bench.plane()
    address = control_of(asked.address)
    asking.ask(address)
    bench.settle()
    assert not bench.arrived[asking]
    bench.clock.advance(bounds.HANDSHAKE_TIMEOUT_MS / 1_000)
    assert answers(bench, asking, 1) == [no_banner(address)]
    assert asking.deadline() is None


@pytest.mark.parametrize(
    "said", [b"SSH-2.0-OpenSSH_9.6\r\n", b"p2pf\xff\xff", write_banner(b"cut off")[:-1]]
)
def test_other_programs_have_no_banner(bench: Bench, said: bytes) -> None:
    listener, data = bench.listener()
    plane = bench.plane()
    plane.ask(control_of(data))
    channel = bench.accepted(listener)
    channel.send(said)
    channel.shutdown(socket.SHUT_WR)
    assert answers(bench, plane, 1) == [no_banner(control_of(data))]


def test_banner_may_come_in_pieces(bench: Bench) -> None:
    listener, data = bench.listener()
    plane = bench.plane()
    plane.ask(control_of(data))
    channel = bench.accepted(listener)
    for byte in write_banner(b"this is me"):
        assert not bench.arrived[plane]
        channel.send(bytes([byte]))
        bench.settle()
    assert answers(bench, plane, 1) == [Banner(control_of(data), b"this is me")]


def test_nobody_there(bench: Bench) -> None:
    _, data = bench.refusing()
    plane = bench.plane()
    places = [
        control_of(data),
        Address("127.0.0.1", 65_535),
        Address("nobody.invalid", 7_788),
    ]
    for place in places:
        plane.ask(place)
    found = answers(bench, plane, 3)
    assert all(no_answer(place) in found for place in places)


def test_questions_are_bounded_and_the_oldest_gives_way(bench: Bench) -> None:
    listeners = [bench.listener()[1] for _ in range(MAX_KNOCKS + 1)]
    plane = bench.plane()
    for data in listeners:
        plane.ask(control_of(data))
    assert answers(bench, plane, 1) == [no_answer(control_of(listeners[0]))]
    bench.settle()
    bench.clock.advance(bounds.HANDSHAKE_TIMEOUT_MS / 1_000)
    answers(bench, plane, MAX_KNOCKS + 1)


def test_closing_ends_questions_without_an_answer(bench: Bench) -> None:
    asking, asked = bench.plane(), bench.plane()
    asking.ask(control_of(asked.address))
    bench.settle()
    bench.shut(asking)
    bench.settle()
    assert not bench.arrived[asking]
