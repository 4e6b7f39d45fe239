"""What listens, as parsers of the bytes that somebody sends there.

Every input is a connection of its own to a real socket on loopback, which says the
bytes and hangs up. A library that ends the process does so here as well; the campaign
notes the input before it is tried.
"""

from __future__ import annotations

import json
import os
import random
import selectors
import socket
import struct
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path

from zeroconf import ServiceInfo

from p2pfusion import limits
from p2pfusion.daemon import lan
from p2pfusion.daemon.control import ControlServer
from p2pfusion.daemon.web.server import WebServer, _Site
from p2pfusion.errors import NotFoundError, RemoteProtocolError
from p2pfusion.transport import Address, Keys
from p2pfusion.transport.base import Incoming, Plane, Traffic
from p2pfusion.transport.connection import PREFIX, WISHES, Receiver
from p2pfusion.transport.control import ControlPlane
from p2pfusion.transport.tcp import DataPlane
from p2pfusion.transport.watch import Budget
from tests.daemon.running import ALONE, Running, running
from tests.end_to_end.besiegers import GREETING
from tests.end_to_end.callers import new_keys
from tests.fuzz.parsers import (
    REFUSED,
    TAKEN,
    Parser,
    changed_json,
    parts,
    refusing,
)

TOKEN, OTHER, PASSAGE = b"a-token!", b"unknown!", b"passage!"
FRIEND = "friend"
HERE = Address("127.0.0.1", 0)
TURNS = 3
"""Turns of a loop in which what was sent is dealt with; what is not then is the next
input's company, as with any crowd."""


ANSWER_S = 0.05
"""How long the page's threads are waited for."""


def parsers(stack: ExitStack, root: Path) -> list[Parser]:
    """Parsers whose sockets ``stack`` frees."""
    data = stack.enter_context(closing(_data_plane()))
    control = stack.enter_context(closing(_control_plane(new_keys())))
    plain = stack.enter_context(closing(_control_plane(None)))
    local = stack.enter_context(closing(ControlServer(root / "control.sock")))
    web = stack.enter_context(closing(WebServer("127.0.0.1", 0, "token", _asked)))
    return [
        Parser("stream", _stream, _bulk),
        Parser("data-port", lambda said: _at_data_port(data, said), _bulk),
        Parser(
            "control-port",
            lambda said: _at_control_port(control, said),
            _greetings,
            is_native=True,
        ),
        Parser(
            "plain-port",
            lambda said: _at_control_port(plain, said),
            _plain,
            is_native=True,
        ),
        Parser("local", lambda said: _at_local_socket(local, root, said), _requests),
        Parser(
            "commands",
            _commands(stack.enter_context(_alone())),
            _requests,
            changed_json,
        ),
        Parser("lan", _heard, _announcements),
        Parser("web", _site(_Site("127.0.0.1", "token", _asked)), _questions),
        Parser("web-port", lambda said: _at_web_port(web, said), _http),
    ]


def _say(place: tuple[str, int] | str, said: bytes, turn: Callable[[], object]) -> None:
    """Somebody connects, says this, and hangs up; ``turn`` lets the other side work."""
    family = socket.AF_UNIX if isinstance(place, str) else socket.AF_INET
    with socket.socket(family) as channel:
        channel.connect(place)
        channel.setblocking(False)
        with suppress(OSError):
            channel.send(said)
        for _ in range(TURNS):
            turn()
    turn()


# --- Bulk ----------------------------------------------------------------------------


@refusing(RemoteProtocolError)
def _stream(said: bytes) -> str:
    """The reading end of one connection of the data plane."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.setblocking(False)
        ours.setblocking(False)
        sent = ours.send(said) if said else 0
        receiver = Receiver(theirs, lambda token: token == TOKEN)
        messages = 0
        while receiver.wish is None:
            if receiver.hungry:
                receiver.buffer = memoryview(bytearray(limits.CHUNK_BYTES + (1 << 17)))
            if receiver.receive(Budget(1 << 30, 1)) is not None:
                receiver.buffer = None
                messages += 1
            elif not receiver.hungry:
                break
        assert receiver.come_bytes <= sent
    return "a wish" if receiver.wish else f"{min(messages, 3)} messages"


def _bulk(rng: random.Random) -> list[bytes]:
    one = PREFIX.pack(TOKEN, 4, 5) + b"headvalue"
    wishes = [PREFIX.pack(PASSAGE, wish, 6) + b"friend" for wish in WISHES]
    huge = PREFIX.pack(TOKEN, 1 << 31, 1 << 31)
    return [one, one * 3, PREFIX.pack(OTHER, 4, 0) + b"head", huge, *wishes]


def _data_plane() -> DataPlane:
    plane = DataPlane(HERE, Traffic(), me="me", relays=True)
    plane.open_session(FRIEND, sending=b"sending!", receiving=TOKEN)
    plane.passages.know(FRIEND, PASSAGE)
    return plane


def _at_data_port(plane: DataPlane, said: bytes) -> str:
    arrived: list[object] = []
    _say((HERE.host, plane.address.port), said, lambda: arrived.extend(plane.take()))
    messages = [each for each in arrived if isinstance(each, Incoming)]
    assert all(each.sender == FRIEND for each in messages)
    assert all(each.plane is Plane.DATA for each in messages)
    return f"{min(len(messages), 3)} messages"


# --- Control -------------------------------------------------------------------------


def _control_plane(keys: Keys | None) -> ControlPlane:
    plane = ControlPlane("me", HERE, keys, Traffic())
    plane.admit(FRIEND, bytes(range(32)))
    return plane


def _at_control_port(plane: ControlPlane, said: bytes) -> str:
    arrived: list[object] = []

    def turn() -> None:
        arrived.extend(plane.poll(0.001, {})[0])

    _say((HERE.host, plane.address.port), said, turn)
    messages = [each for each in arrived if isinstance(each, Incoming)]
    assert all(len(each.frames) <= 16 for each in messages)
    return TAKEN if messages else REFUSED


def _greetings(rng: random.Random) -> list[bytes]:
    hello = b"\x04\xc8\x05HELLO\x01\x00" + rng.randbytes(192)
    initiate = b"\x06" + struct.pack(">Q", 300) + b"\x08INITIATE" + rng.randbytes(291)
    return [GREETING, GREETING + hello, GREETING + hello + initiate]


def _plain(rng: random.Random) -> list[bytes]:
    """How ZeroMQ speaks without keys: a greeting, READY, and messages."""
    greeting = GREETING.replace(b"CURVE", b"NULL\0").replace(b"\x03\x01", b"\x03\0")
    ready = b"\x04\x1a\x05READY\x0bSocket-Type\x00\x00\x00\x04PUSH"
    message = b"\x01\x06friend" + b"\x00\x05hello"
    many = b"\x01\x06friend" + b"\x01\x01x" * 20 + b"\x00\x01x"
    return [greeting + ready + each for each in (b"", message, message * 3, many)]


# --- The local network ---------------------------------------------------------------


def _heard(said: bytes) -> str:
    """What somebody announces there, as the library hands it over."""
    port, address, told = said[:2], said[2:6], said[6:]
    info = ServiceInfo(
        lan.KIND,
        f"somebody.{lan.KIND}",
        port=int.from_bytes(port, "big"),
        addresses=[address] if len(address) == 4 else [],
        properties=told,
    )
    return REFUSED if lan.read(info) is None else TAKEN


def _announcements(rng: random.Random) -> list[bytes]:
    made = lan.Announced("a-peer", "a name", "swarm", ("127.0.0.1",), 4747).info()
    place = (4747).to_bytes(2, "big") + bytes([127, 0, 0, 1])
    return [place + made.text, place + b"\x08peer=abc\x04name", place]


# --- Local ---------------------------------------------------------------------------


def _at_local_socket(server: ControlServer, root: Path, said: bytes) -> str:
    outcome: Counter[str] = Counter()

    def turn() -> None:
        with selectors.DefaultSelector() as selector:
            for descriptor, interest in server.descriptors().items():
                selector.register(descriptor, interest)
            for key, _ in selector.select(0):
                for request in server.ready(key.fd):
                    outcome[TAKEN] += 1
                    request.progress({"so": "far"})
                    request.reply({"command": request.command})

    _say(str(root / "control.sock"), said, turn)
    return TAKEN if outcome else REFUSED


@contextmanager
def _alone() -> Iterator[Running]:
    """A real node that has founded a swarm, for itself."""
    with running(data={"kind": "digits"}, swarm=ALONE) as made:
        made.turn_until(lambda: made.node.peer.manifest is not None)
        yield made


REACHES_OUT = {"join", "meet", "export", "checkpoint-create"}
"""Commands that call other machines, or write where the question says."""


def _commands(alone: Running) -> Callable[[bytes], str]:
    """Questions of all kinds, to a node that answers them."""

    def turn() -> None:
        os.write(alone.poke, b".")
        alone.node._turn(alone.wake)

    def read(said: bytes) -> str:
        line, _, _ = said.partition(b"\n")
        try:
            asked = json.loads(line)
        except (ValueError, RecursionError):
            asked = None
        command = asked.get("command") if isinstance(asked, dict) else None
        if not isinstance(command, str) or command in REACHES_OUT:
            return "not asked"
        _say(str(alone.home.socket), said, turn)
        return command if command in COMMANDS else "an unknown command"

    return read


COMMANDS = (
    *("status", "view", "peers", "peer", "rounds", "events", "ping", "bench-link"),
    *("wait", "plan", "stop", "leave", "recover", "invite-create", "invite-ls"),
    *("invite-revoke", "pending-ls", "pending-accept", "pending-deny", "trust-ls"),
    "trust-revoke",
)


def _requests(rng: random.Random) -> list[bytes]:
    arguments: dict[str, object] = {
        **{"peer": "me", "count": 3, "for": "joined", "limit_s": 0.5, "role": "admin"},
        **{"uses": 2, "expires_s": 60, "id": "x", "reason": "why", "drain_s": 0.0},
        **{"round": 1, "window": 1, "event": 3, "follow": True, "peers": ["me"]},
    }
    return [
        json.dumps({"command": command, "arguments": arguments}).encode() + b"\n"
        for command in COMMANDS
    ]


# --- The page ------------------------------------------------------------------------


def _asked(cursors: dict[str, int]) -> dict[str, object]:
    """A daemon that is not there for strange questions."""
    if any(number < 0 for number in cursors.values()):
        raise NotFoundError("a daemon that does not run")
    return dict(cursors)


def _site(site: _Site) -> Callable[[bytes], str]:
    """Questions as they come out of the HTTP server: texts of single bytes."""
    names = ("REQUEST_METHOD", "PATH_INFO", "QUERY_STRING", "HTTP_HOST")
    names += ("HTTP_ORIGIN", "HTTP_AUTHORIZATION")

    def read(said: bytes) -> str:
        fields = [each.decode("latin-1") for each in parts(said)] + [""] * len(names)
        told: list[str] = []
        site(
            dict(zip(names, fields, strict=False)),
            lambda status, headers: told.append(status),
        )
        return told[0]

    return read


def _questions(rng: random.Random) -> list[bytes]:
    rows = [
        (b"GET", b"/", b"", b"127.0.0.1:1", b"", b""),
        (b"GET", b"/api/view", b"round=1&window=2&event=3", b"[::1]", b"", b"Bearer x"),
        (b"GET", b"/api/view", b"round=1", b"localhost:9", b"", b"Bearer token"),
        (b"POST", b"/main.js", b"a=b", b"localhost:9", b"http://localhost:9", b""),
    ]
    return [b"".join(len(f).to_bytes(2, "big") + f for f in row) for row in rows]


def _at_web_port(server: WebServer, said: bytes) -> str:
    """Raw bytes to the HTTP server; its threads answer, or hang up."""
    host, port = server.url.removeprefix("http://").rstrip("/").rsplit(":", 1)
    with socket.create_connection((host, int(port))) as channel:
        channel.settimeout(ANSWER_S)
        try:
            channel.sendall(said)
            channel.shutdown(socket.SHUT_WR)
            answer = channel.recv(64)
        except OSError:
            return "no answer"
    return answer[:12].decode("latin-1") or "hung up on"


def _http(rng: random.Random) -> list[bytes]:
    whole = b"GET /api/view?round=1 HTTP/1.1\r\nHost: localhost\r\n"
    return [
        whole + b"Authorization: Bearer token\r\n\r\n",
        whole + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
        whole + b"Content-Length: 5\r\n\r\nhello" + whole,
    ]
