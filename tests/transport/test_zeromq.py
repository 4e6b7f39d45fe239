"""What only TCP has; the promises are tested in ``contracts/test_transports.py``."""

from __future__ import annotations

import contextlib
import os
import socket
import time
from collections.abc import Iterator
from contextlib import closing

import psutil
import pytest
import zmq

from p2pfusion.errors import ConfigError, ResourceError
from p2pfusion.limits import CHUNK_BYTES
from p2pfusion.transport import Address, Incoming, Plane
from p2pfusion.transport.base import FRAME_LIMIT_BYTES
from p2pfusion.transport.zeromq import ZeroMQTransport

PATIENCE_S = 20.0
ANY_PORT = Address("127.0.0.1", 0)


def open_at(peer: str, host: str) -> ZeroMQTransport:
    address = Address(host, 0)
    return ZeroMQTransport(peer, control=address, data=address)


def meet(sender: ZeroMQTransport, receiver: ZeroMQTransport, host: str) -> None:
    control, data = (
        Address(host, receiver.addresses[plane].port)
        for plane in (Plane.CONTROL, Plane.DATA)
    )
    sender.connect("receiver", control=control, data=data)


def first(receiver: ZeroMQTransport, sender: str = "sender") -> Incoming:
    """The next message of one sender."""
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        for message in receiver.poll(0.1, {})[0]:
            if message.sender == sender:
                return message
    raise AssertionError(f"nothing arrived from {sender}")


@pytest.fixture
def receiver() -> Iterator[ZeroMQTransport]:
    with closing(open_at("receiver", "127.0.0.1")) as transport:
        yield transport


def has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return False
    return True


@pytest.mark.parametrize(
    ("listen", "reach"),
    [
        ("127.0.0.1", "localhost"),
        ("0.0.0.0", "127.0.0.1"),
        ("localhost", "localhost"),
        pytest.param(
            "::1",
            "::1",
            marks=pytest.mark.skipif(not has_ipv6(), reason="no IPv6 on this machine"),
        ),
    ],
)
def test_hosts_by_name_and_number(listen: str, reach: str) -> None:
    with (
        closing(open_at("receiver", listen)) as receiver,
        closing(open_at("sender", "127.0.0.1")) as sender,
    ):
        assert {address.host for address in receiver.addresses.values()} == {listen}
        assert len({address.port for address in receiver.addresses.values()} - {0}) == 2
        meet(sender, receiver, reach)
        assert sender.send("receiver", Plane.DATA, [b"word"])
        assert first(receiver).frames == (b"word",)


@pytest.mark.parametrize("host", ["192.0.2.1", "nobody.invalid"])
def test_foreign_listen_address_is_a_config_error(host: str) -> None:
    with pytest.raises(ConfigError) as raised:
        open_at("receiver", host)
    assert f"cannot listen on {host}:0" in raised.value.message
    assert raised.value.hint


@pytest.mark.parametrize("plane", Plane)
def test_strangers_who_talk_nonsense_disturb_nobody(
    receiver: ZeroMQTransport, plane: Plane
) -> None:
    """Without keys, noise may by accident be an old ZeroMQ's message of somebody."""
    address = receiver.addresses[plane]
    with closing(open_at("sender", "127.0.0.1")) as sender:
        meet(sender, receiver, "127.0.0.1")
        for babble in (b"", b"GET / HTTP/1.1\r\n\r\n", b"\xff" * 64, os.urandom(4096)):
            with socket.create_connection((address.host, address.port)) as stranger:
                stranger.sendall(babble)
        silent = socket.create_connection((address.host, address.port))
        with silent:
            assert sender.send("receiver", plane, [b"word"])
            assert first(receiver).frames == (b"word",)


@pytest.mark.parametrize("plane", Plane)
def test_oversized_frame_is_refused_before_it_is_received(
    receiver: ZeroMQTransport, plane: Plane
) -> None:
    """libzmq hangs up by the length it reads, so nothing is left to drop or count."""
    with zmq.Context() as context, context.socket(zmq.DEALER) as stranger:
        stranger.set(zmq.LINGER, 0)
        stranger.set(zmq.ROUTING_ID, b"stranger")
        stranger.connect(f"tcp://{receiver.addresses[plane]}")
        stranger.send(bytes(FRAME_LIMIT_BYTES[plane]))
        assert len(first(receiver, "stranger").frames[0]) == FRAME_LIMIT_BYTES[plane]
        hung_up = stranger.get_monitor_socket(zmq.EVENT_DISCONNECTED)
        stranger.send(bytes(FRAME_LIMIT_BYTES[plane] + 1))
        assert hung_up.poll(int(1000 * PATIENCE_S))
        stranger.disable_monitor()
    assert receiver.poll(0, {}) == ([], [])
    assert not receiver.traffic.dropped


def test_large_frames_arrive_without_a_copy(receiver: ZeroMQTransport) -> None:
    """Holding a hundred received chunks costs a hundred chunks, not two hundred."""
    process = psutil.Process()
    with closing(open_at("sender", "127.0.0.1")) as sender:
        meet(sender, receiver, "127.0.0.1")
        chunk = os.urandom(CHUNK_BYTES)
        held = []
        before_bytes = process.memory_info().rss
        for _ in range(100):
            assert sender.send("receiver", Plane.DATA, [b"header", chunk])
            held.append(first(receiver))
        grown_bytes = process.memory_info().rss - before_bytes
    assert all(message.frames[1] == chunk for message in held)
    assert grown_bytes < 150 * CHUNK_BYTES


def test_running_out_of_sockets_is_reported_and_passes(
    monkeypatch: pytest.MonkeyPatch, receiver: ZeroMQTransport
) -> None:
    monkeypatch.setattr("p2pfusion.limits.MAX_ROSTER", 16)
    with closing(open_at("sender", "127.0.0.1")) as sender:
        connected = 0
        with pytest.raises(ResourceError, match="no more connections"):
            for number in range(100):
                sender.connect(f"peer-{number}", control=ANY_PORT, data=ANY_PORT)
                connected += 1
        assert connected > 16
        assert not sender.send(f"peer-{connected}", Plane.CONTROL, [b"word"])
        sender.disconnect("peer-0")
        deadline = time.monotonic() + PATIENCE_S
        while not sender.send("receiver", Plane.CONTROL, [b"word"]):
            # Sockets are freed by another thread, a moment after the call.
            assert time.monotonic() < deadline
            with contextlib.suppress(ResourceError):
                meet(sender, receiver, "127.0.0.1")
        assert first(receiver).frames == (b"word",)
