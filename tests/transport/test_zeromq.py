"""Sockets, events and questions of the library, over real connections."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, suppress

import pytest
import zmq

from p2pfusion import limits
from p2pfusion.errors import ConfigError, ConflictError, ResourceError
from p2pfusion.transport import bounds
from p2pfusion.transport.base import Address, Keys
from p2pfusion.transport.zap import Handshake, Verdict
from p2pfusion.transport.zeromq import (
    Context,
    Event,
    Listener,
    Message,
    Outgoing,
    open_context,
    wait,
)
from tests.transport.strangers import ANY_PORT, PATIENCE_S, keys_of

ALL_EVENTS = [event for event in Event if event is not Event.BEGUN]


@pytest.fixture
def context() -> Iterator[Context]:
    made = open_context()
    yield made
    made.destroy(linger=0)


def call(
    context: Context,
    listener: Listener,
    *,
    own: Keys | None = None,
    key: bytes = b"",
    events: Sequence[Event] = ALL_EVENTS,
) -> Outgoing:
    return Outgoing(
        context,
        listener.address,
        key=key,
        own=own,
        queue_messages=10,
        handshake_ms=bounds.HANDSHAKE_TIMEOUT_MS,
        events=events,
    )


def first(listener: Listener) -> Message:
    """The next message."""
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        wait(listener.waits_for, {}, 0.1)
        for message in listener.messages():
            return message
    raise AssertionError("nothing arrived")


def until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"


def test_message_tells_whose_connection_it_came_over(context: Context) -> None:
    own = keys_of("guest")
    with closing(Listener(context, ANY_PORT, keys_of("host"))) as listener:
        outgoing = call(context, listener, own=own, key=keys_of("host").public)
        assert outgoing.send([b"one", b"two"])
        questions: list[list[bytes]] = []
        until(lambda: questions.extend(listener.questions()) or questions)
        handshake = Handshake.parse(questions[0])
        assert handshake is not None
        assert (handshake.key, handshake.source) == (own.public, "127.0.0.1")
        listener.answer(handshake.answer(Verdict.WELCOME))
        message = first(listener)
        assert [bytes(frame) for frame in message.frames] == [b"one", b"two"]
        assert message.user == own.public.hex()
        assert message.host == "127.0.0.1"
        assert (Event.BEGUN, message.descriptor) in listener.connections()
        outgoing.close(linger_ms=0)
        ended = (Event.ENDED, message.descriptor)
        until(lambda: ended in listener.connections())


def test_plain_message_has_no_user(context: Context) -> None:
    with closing(Listener(context, ANY_PORT, None)) as listener:
        outgoing = call(context, listener)
        assert outgoing.send([b"word"])
        message = first(listener)
        assert (message.user, message.host) == ("", "127.0.0.1")
        assert list(listener.questions()) == []
        outgoing.close(linger_ms=0)


def test_answer_to_nobody_is_no_error(context: Context) -> None:
    with closing(Listener(context, ANY_PORT, keys_of("host"))) as listener:
        listener.answer([b"nobody", b"", b"1.0", b"1", b"200", b"", b"", b""])
    with closing(Listener(context, ANY_PORT, None)) as listener:
        listener.answer([b"nobody", b"", b"1.0", b"1", b"200", b"", b"", b""])


def test_oversized_frame_is_refused_before_it_is_received(context: Context) -> None:
    """libzmq hangs up by the length it reads, so nothing is left to drop or count."""
    most_bytes = limits.MAX_CONTROL_FRAME_BYTES + limits.SEAL_BYTES
    with closing(Listener(context, ANY_PORT, None)) as listener:
        outgoing = call(context, listener)
        assert outgoing.send([bytes(most_bytes)])
        assert len(first(listener).frames[0]) == most_bytes
        assert outgoing.send([bytes(most_bytes + 1)])
        until(lambda: Event.ENDED in dict(outgoing.events()))
        assert list(listener.messages()) == []
        outgoing.close(linger_ms=0)


def test_largest_message_passes_sealed(context: Context) -> None:
    with closing(Listener(context, ANY_PORT, keys_of("host"))) as listener:
        outgoing = call(
            context, listener, own=keys_of("guest"), key=keys_of("host").public
        )
        frames = [os.urandom(limits.MAX_CONTROL_FRAME_BYTES)] * 3
        assert outgoing.send(frames)
        questions: list[list[bytes]] = []
        until(lambda: questions.extend(listener.questions()) or questions)
        handshake = Handshake.parse(questions[0])
        assert handshake is not None
        listener.answer(handshake.answer(Verdict.WELCOME))
        assert list(first(listener).frames) == frames
        outgoing.close(linger_ms=0)


def test_strangers_who_talk_nonsense_disturb_nobody(context: Context) -> None:
    """Without keys, noise may by accident be an old ZeroMQ's message."""
    with closing(Listener(context, ANY_PORT, None)) as listener:
        outgoing = call(context, listener)
        place = (listener.address.host, listener.address.port)
        babbles = (b"", b"GET / HTTP/1.1\r\n\r\n", b"\xff" * 64, os.urandom(4_096))
        for babble in babbles:
            with socket.create_connection(place) as stranger:
                stranger.sendall(babble)
        with socket.create_connection(place):
            assert outgoing.send([b"word"])
            until(lambda: first(listener).frames == (b"word",))
        outgoing.close(linger_ms=0)


@pytest.mark.parametrize("host", ["192.0.2.1", "nobody.invalid"])
def test_foreign_listen_address_is_a_config_error(context: Context, host: str) -> None:
    with pytest.raises(ConfigError) as raised:
        Listener(context, Address(host, 0), None)
    assert f"cannot listen on {host}:0" in raised.value.message
    assert raised.value.hint


def test_taken_port_is_a_conflict(context: Context) -> None:
    with closing(Listener(context, ANY_PORT, None)) as listener:
        with pytest.raises(ConflictError) as raised:
            Listener(context, listener.address, None)
        assert f"port {listener.address.port} on 127.0.0.1" in raised.value.message


def test_running_out_of_sockets_is_reported_and_passes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("p2pfusion.limits.MAX_ROSTER", 16)
    context = open_context()
    with closing(Listener(context, ANY_PORT, None)) as listener:
        made: list[Outgoing] = []
        with pytest.raises(ResourceError, match="no more connections"):
            for _ in range(100):
                made.append(call(context, listener))
        assert len(made) > 10
        made.pop().close(linger_ms=0)

        def makes_another() -> bool:
            # Sockets are freed by another thread, a moment after the call.
            with suppress(ResourceError):
                made.append(call(context, listener))
                return True
            return False

        until(makes_another)
        assert made[-1].send([b"word"])
        assert first(listener).frames == (b"word",)
        for outgoing in made:
            outgoing.close(linger_ms=0)
    context.term()


def test_no_connection_has_heartbeats(context: Context) -> None:
    """A process that was frozen for longer than a heartbeat, with a full queue and a
    peer that hung up meanwhile, would be ended by libzmq when it wakes."""
    with closing(Listener(context, ANY_PORT, None)) as listener:
        outgoing = call(context, listener)
        for socket_ in (*listener.waits_for, *outgoing.waits_for):
            assert socket_.get(zmq.HEARTBEAT_IVL) == 0
        outgoing.close(linger_ms=0)
