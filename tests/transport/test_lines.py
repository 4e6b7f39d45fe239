"""When a line is lost, and why a knock leads nowhere; nobody's fault in between."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress

import pytest

from p2pfusion.errors import ConflictError
from p2pfusion.transport import bounds
from p2pfusion.transport.base import Address, Keys
from p2pfusion.transport.lines import Knock, Line
from p2pfusion.transport.zeromq import Context, Listener, open_context
from tests.transport.strangers import ANY_PORT, PATIENCE_S, keys_of


@pytest.fixture
def context() -> Iterator[Context]:
    made = open_context()
    yield made
    made.destroy(linger=0)


@contextmanager
def another_program() -> Iterator[Address]:
    """A port where something speaks, but not our language."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            with suppress(OSError):
                while True:
                    with listener.accept()[0] as caller:
                        caller.recv(1_000)
                        caller.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield Address("127.0.0.1", listener.getsockname()[1])
        listener.shutdown(socket.SHUT_RDWR)
        thread.join()


def until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"


def free_address() -> Address:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return Address("127.0.0.1", listener.getsockname()[1])


@contextmanager
def listening(
    context: Context, address: Address, keys: Keys | None = None
) -> Iterator[Listener]:
    """Listens as soon as who listened there before has gone, which takes a moment."""
    made: list[Listener] = []

    def is_free() -> bool:
        with suppress(ConflictError):
            made.append(Listener(context, address, keys))
        return bool(made)

    until(is_free)
    with closing(made[0]) as listener:
        yield listener


def is_heard(listener: Listener) -> bool:
    return any(message.frames for message in listener.messages())


def test_line_to_another_program_is_lost(context: Context) -> None:
    with another_program() as address:
        line = Line(context, address, keys=keys_of("me"), key=keys_of("host").public)
        assert not line.is_lost(time.monotonic())
        until(lambda: line.is_lost(time.monotonic()))
        line.close(linger_ms=0)


def test_line_is_not_lost_while_nobody_listens_and_not_when_somebody_does(
    context: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bounds, "LOST_LINK_S", 0.4)
    address = free_address()
    line = Line(context, address, keys=None, key=b"")

    def is_heard_by(listener: Listener) -> bool:
        assert not line.is_lost(time.monotonic())
        line.send([b"word"])
        return is_heard(listener)

    for _ in range(2):
        with listening(context, address) as listener:
            until(lambda listener=listener: is_heard_by(listener))
        end = time.monotonic() + 2 * bounds.LOST_LINK_S
        while time.monotonic() < end:
            assert not line.is_lost(time.monotonic())
    line.close(linger_ms=0)


def knock_at(context: Context, address: Address, name: str | None) -> Knock:
    keys = None if name is None else keys_of(name)
    knock = Knock(context, address, keys=keys, key=keys_of("host").public)
    assert knock.send([b"hello"], time.monotonic())
    return knock


@pytest.mark.parametrize("name", [None, "me"])
def test_knock_at_another_program_finds_the_wrong_key(
    context: Context, name: str | None
) -> None:
    with another_program() as address:
        knock = knock_at(context, address, name)
        reasons: list[str | None] = []
        until(lambda: reasons.append(knock.failure(time.monotonic())) or reasons[-1])
        assert reasons[-1] == "wrong-key" and knock.awaits_news
        knock.close()


def test_knock_at_a_plain_peer_with_keys_finds_the_wrong_key(context: Context) -> None:
    with closing(Listener(context, ANY_PORT, None)) as listener:
        knock = knock_at(context, listener.address, "me")
        reasons: list[str | None] = []
        until(lambda: reasons.append(knock.failure(time.monotonic())) or reasons[-1])
        assert reasons[-1] == "wrong-key"
        knock.close()


def test_knock_that_came_through_and_was_hung_up_on_has_not_failed(
    context: Context,
) -> None:
    address = free_address()
    knock = knock_at(context, address, None)
    for _ in range(3):
        with listening(context, address) as listener:

            def comes_through(listener: Listener = listener) -> bool:
                assert knock.failure(time.monotonic()) is None
                knock.send([b"hello"], time.monotonic())
                return is_heard(listener)

            until(comes_through)
        assert knock.failure(time.monotonic()) is None
    knock.close()


def test_knock_that_was_hung_up_on_once_tries_again(context: Context) -> None:
    """Somebody who ends in this moment does the same as one with another key."""
    with socket.create_server(("127.0.0.1", 0)) as ending:
        address = Address("127.0.0.1", ending.getsockname()[1])
        knock = knock_at(context, address, "me")
        caller, _ = ending.accept()
    caller.close()
    questions: list[list[bytes]] = []
    with listening(context, address, keys_of("host")) as listener:

        def is_asked() -> bool:
            assert knock.failure(time.monotonic()) is None
            questions.extend(listener.questions())
            return bool(questions)

        until(is_asked)
    knock.close()


def test_knock_that_came_through_awaits_no_news(context: Context) -> None:
    with closing(Listener(context, ANY_PORT, None)) as listener:
        knock = knock_at(context, listener.address, None)
        assert knock.awaits_news
        until(lambda: is_heard(listener))
        assert knock.failure(time.monotonic()) is None
        assert not knock.awaits_news
        knock.close()
