"""Both ends of the local socket: ``daemon/control.py`` and ``daemon/client.py``."""

from __future__ import annotations

import json
import os
import selectors
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pfusion import errors
from p2pfusion.daemon.client import CONTROL_SOCKET, LocalClient, socket_path
from p2pfusion.daemon.control import LOCK_FILE, ControlServer, Request
from p2pfusion.errors import (
    ConfigError,
    ConflictError,
    IncompatibleError,
    LocalProtocolError,
    NotRunningError,
    P2PFusionError,
    WaitTimeoutError,
)
from p2pfusion.limits import (
    MAX_LOCAL_CLIENTS,
    MAX_LOCAL_REPLY_BYTES,
    MAX_LOCAL_REQUEST_BYTES,
    MAX_SOCKET_PATH_BYTES,
)

PATIENCE_S = 20.0


class Daemon:
    """A control server and the loop that a daemon would have around it."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.server = ControlServer(home / CONTROL_SOCKET)

    def turn(self, timeout_s: float = PATIENCE_S) -> list[Request]:
        """Waits once and serves what is ready."""
        with selectors.PollSelector() as selector:
            for descriptor, interest in self.server.descriptors().items():
                selector.register(descriptor, interest)
            ready = [key.fd for key, _ in selector.select(timeout_s)]
        return [item for number in ready for item in self.server.ready(number)]

    def next_request(self) -> Request:
        """Turns until somebody asks something."""
        deadline = time.monotonic() + PATIENCE_S
        while not (requests := self.turn()):
            assert time.monotonic() < deadline
        (request,) = requests
        return request

    def turn_until(self, condition: Callable[[], bool]) -> None:
        """Turns, with no question coming, until the condition holds."""
        deadline = time.monotonic() + PATIENCE_S
        while not condition():
            assert time.monotonic() < deadline
            assert self.turn() == []

    def dial(self) -> socket.socket:
        channel = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        channel.settimeout(PATIENCE_S)
        channel.connect(str(self.home / CONTROL_SOCKET))
        return channel


@pytest.fixture
def home() -> Iterator[Path]:
    # Not pytest's directory, whose path may be too long for a socket.
    with tempfile.TemporaryDirectory(prefix="p2pf") as directory:
        yield Path(directory) / "home"


@pytest.fixture
def daemon(home: Path) -> Iterator[Daemon]:
    made = Daemon(home)
    yield made
    made.server.close()


class Call(threading.Thread):
    """A client's call, whose outcome is there after ``finish``."""

    def __init__(
        self,
        home: Path,
        command: str,
        /,
        timeout_s: float = PATIENCE_S,
        **arguments: object,
    ) -> None:
        super().__init__()
        self.events: list[Mapping[str, object]] = []
        self.data: object = None
        self.error: P2PFusionError | None = None
        self._call = lambda: LocalClient(home).call(
            command, timeout_s=timeout_s, on_event=self.events.append, **arguments
        )
        self.start()

    def run(self) -> None:
        try:
            self.data = self._call()
        except P2PFusionError as error:
            self.error = error

    def finish(self) -> object:
        self.join(PATIENCE_S)
        assert not self.is_alive()
        if self.error is not None:
            raise self.error
        return self.data


def read_line(channel: socket.socket) -> dict[str, object]:
    with channel.makefile("rb") as lines:
        message = json.loads(lines.readline())
    assert isinstance(message, dict)
    return message


FINITE = st.floats(allow_nan=False, allow_infinity=False)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | FINITE | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)


def test_question_and_answer(daemon: Daemon) -> None:
    call = Call(daemon.home, "split", peer="lab-b", rounds=[1, 2])
    request = daemon.next_request()
    assert request.command == "split"
    assert request.arguments == {"peer": "lab-b", "rounds": [1, 2]}
    assert not request.closed
    request.reply({"fraction": 0.5})
    assert call.finish() == {"fraction": 0.5}
    assert call.events == []


def test_any_json_comes_through_unchanged(daemon: Daemon) -> None:
    @given(argument=JSON, answer=JSON)
    def check(argument: object, answer: object) -> None:
        call = Call(daemon.home, "echo", argument=argument)
        request = daemon.next_request()
        assert request.arguments == {"argument": argument}
        request.reply(answer)
        assert call.finish() == answer

    check()


def test_progress_comes_before_the_answer(daemon: Daemon) -> None:
    call = Call(daemon.home, "export")
    request = daemon.next_request()
    for part in range(3):
        request.progress({"part": part})
    request.reply(None)
    assert call.finish() is None
    assert call.events == [{"part": 0}, {"part": 1}, {"part": 2}]


def error_classes() -> list[type[P2PFusionError]]:
    return [
        item
        for item in vars(errors).values()
        if isinstance(item, type) and issubclass(item, P2PFusionError)
    ]


@pytest.mark.parametrize("error_class", error_classes())
def test_error_keeps_its_class(
    daemon: Daemon, error_class: type[P2PFusionError]
) -> None:
    call = Call(daemon.home, "status")
    daemon.next_request().fail(error_class("what happened", hint="what to do"))
    with pytest.raises(P2PFusionError) as raised:
        call.finish()
    assert type(raised.value) is error_class
    assert raised.value.message == "what happened"
    assert raised.value.hint == "what to do"


def test_not_a_number_becomes_null(daemon: Daemon) -> None:
    call = Call(daemon.home, "status")
    answer = {"loss": float("nan"), "norms": [1.5, float("inf")], "round": 3}
    daemon.next_request().reply(answer)
    assert call.finish() == {"loss": None, "norms": [1.5, None], "round": 3}


def test_large_answers_are_written_as_the_client_reads(daemon: Daemon) -> None:
    call = Call(daemon.home, "events")
    data = "x" * (8 << 20)
    daemon.next_request().reply(data)
    # The client hangs up when it has read everything.
    daemon.turn_until(lambda: len(daemon.server.descriptors()) == 1)
    assert call.finish() == data


def test_requests_wait_while_others_are_answered(daemon: Daemon) -> None:
    calls = [Call(daemon.home, "wait", number=number) for number in range(10)]
    requests = [daemon.next_request() for _ in calls]
    for request in reversed(requests):
        request.reply(request.arguments["number"])
    assert [call.finish() for call in calls] == list(range(10))


def test_connection_serves_one_question_after_the_other(daemon: Daemon) -> None:
    with daemon.dial() as channel:
        for number in range(3):
            line = b'{"command": "status", "arguments": {}}\n'
            for byte_index in range(0, len(line), 7):
                channel.sendall(line[byte_index : byte_index + 7])
                requests = daemon.turn()
            (request,) = requests
            request.reply(number)
            assert read_line(channel) == {"ok": True, "error": None, "data": number}


def test_answer_is_given_once(daemon: Daemon) -> None:
    call = Call(daemon.home, "status")
    request = daemon.next_request()
    request.reply(1)
    for again in (
        lambda: request.reply(2),
        lambda: request.progress({}),
        lambda: request.fail(ConfigError("no")),
    ):
        with pytest.raises(LocalProtocolError):
            again()
    assert call.finish() == 1


def test_client_that_leaves_is_noticed_and_forgotten(daemon: Daemon) -> None:
    with daemon.dial() as channel:
        channel.sendall(b'{"command": "wait"}\n')
        request = daemon.next_request()
        assert len(daemon.server.descriptors()) == 2
    daemon.turn_until(lambda: request.closed)
    assert len(daemon.server.descriptors()) == 1
    request.progress({"nobody": "listens"})
    request.reply("to nobody")


def test_client_that_does_not_read_is_dropped(daemon: Daemon) -> None:
    with daemon.dial() as channel:
        channel.sendall(b'{"command": "events"}\n')
        request = daemon.next_request()
        event = {"text": "x" * (1 << 20)}
        count = 0
        while not request.closed:
            request.progress(event)
            count += 1
            assert count << 20 <= MAX_LOCAL_REPLY_BYTES + (8 << 20)
        assert len(daemon.server.descriptors()) == 1


@pytest.mark.parametrize(
    "line",
    [
        b"GET / HTTP/1.1\n",
        b"\n",
        b"\xff\xfe\n",
        b"[1]\n",
        b"{}\n",
        b'{"command": 1}\n',
        b'{"command": "x", "arguments": []}\n',
        b'{"command": "a"}\n{"command": "b"}\n',
        b"[" * 100_000 + b"\n",
    ],
)
def test_nonsense_is_refused_and_disconnected(daemon: Daemon, line: bytes) -> None:
    with daemon.dial() as channel:
        channel.sendall(line)
        daemon.turn_until(lambda: len(daemon.server.descriptors()) == 2)
        daemon.turn_until(lambda: len(daemon.server.descriptors()) == 1)
        answer = read_line(channel)
    assert answer["ok"] is False
    assert isinstance(answer["error"], dict)
    assert answer["error"]["name"] == "remote-protocol"


def test_second_question_before_the_answer_is_refused(daemon: Daemon) -> None:
    with daemon.dial() as channel:
        channel.sendall(b'{"command": "wait"}\n')
        request = daemon.next_request()
        channel.sendall(b'{"command": "wait"}\n')
        daemon.turn_until(lambda: request.closed)
        assert read_line(channel)["ok"] is False


def test_endless_request_is_refused(daemon: Daemon) -> None:
    with daemon.dial() as channel:
        channel.setblocking(False)
        sent_bytes = 0
        while len(daemon.server.descriptors()) == 1 or sent_bytes == 0:
            daemon.turn(0)
            sent_bytes += channel.send(b"x")
        while len(daemon.server.descriptors()) == 2:
            try:
                sent_bytes += channel.send(b"x" * 65_536)
            except BlockingIOError:
                assert daemon.turn() == []
        assert sent_bytes < 2 * MAX_LOCAL_REQUEST_BYTES + (1 << 20)


def test_longest_request_is_served(daemon: Daemon) -> None:
    text = "x" * (MAX_LOCAL_REQUEST_BYTES - 100)
    call = Call(daemon.home, "echo", text=text)
    request = daemon.next_request()
    assert request.arguments == {"text": text}
    request.reply(None)
    assert call.finish() is None


def test_too_many_clients_are_told_so(daemon: Daemon) -> None:
    channels = []
    for count in range(MAX_LOCAL_CLIENTS):
        channels.append(daemon.dial())
        channels[-1].sendall(b'{"command": "wait"}\n')
        daemon.next_request()  # and it is not answered
        assert len(daemon.server.descriptors()) == count + 2
    with daemon.dial() as last:
        daemon.turn()
        answer = read_line(last)
        assert isinstance(answer["error"], dict)
        assert answer["error"]["name"] == "resources"
    for channel in channels:
        channel.close()
    daemon.turn_until(lambda: len(daemon.server.descriptors()) == 1)
    call = Call(daemon.home, "status")
    daemon.next_request().reply("back again")
    assert call.finish() == "back again"


def test_the_oldest_that_wait_for_no_answer_give_way(daemon: Daemon) -> None:
    first = daemon.dial()
    first.sendall(b'{"command": "wait"}\n')
    daemon.next_request()
    silent = [daemon.dial() for _ in range(MAX_LOCAL_CLIENTS)]
    while len(daemon.server.descriptors()) <= MAX_LOCAL_CLIENTS:
        daemon.turn()
    daemon.turn()
    assert silent[0].recv(1) == b""  # hung up on, in place of the last
    call = Call(daemon.home, "status")
    daemon.next_request().reply("here")
    assert call.finish() == "here"
    for channel in (first, *silent):
        channel.close()


def test_home_is_private(daemon: Daemon) -> None:
    def mode(path: Path) -> int:
        return stat.S_IMODE(path.stat().st_mode)

    assert mode(daemon.home) == 0o700
    assert mode(daemon.home / CONTROL_SOCKET) == 0o600
    assert mode(daemon.home / LOCK_FILE) == 0o600


def test_second_daemon_is_a_conflict_with_the_first_ones_pid(daemon: Daemon) -> None:
    with pytest.raises(ConflictError) as raised:
        ControlServer(daemon.home / CONTROL_SOCKET)
    text = f"a daemon already runs in this home (pid {os.getpid()})"
    assert raised.value.message == text
    assert "p2pfusion stop" in raised.value.hint
    call = Call(daemon.home, "status")
    daemon.next_request().reply("undisturbed")
    assert call.finish() == "undisturbed"


def test_close_leaves_an_empty_home_for_the_next(home: Path) -> None:
    for _ in range(2):
        server = ControlServer(home / CONTROL_SOCKET)
        assert sorted(os.listdir(home)) == [CONTROL_SOCKET, LOCK_FILE]
        server.close()
        assert os.listdir(home) == []


KILLED_DAEMON = """
import sys
from pathlib import Path
from p2pfusion.daemon.control import ControlServer
server = ControlServer(Path(sys.argv[1]))
print("ready", flush=True)
sys.stdin.read()
"""


def test_killed_daemons_files_are_replaced(home: Path) -> None:
    path = home / CONTROL_SOCKET
    command = [sys.executable, "-c", KILLED_DAEMON, str(path)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        with pytest.raises(ConflictError, match=rf"pid {process.pid}\)"):
            ControlServer(path)
        process.send_signal(signal.SIGKILL)
    assert sorted(os.listdir(home)) == [CONTROL_SOCKET, LOCK_FILE]
    with pytest.raises(NotRunningError):
        LocalClient(home).call("status")
    ControlServer(path).close()


def test_long_path_is_refused_at_both_ends(tmp_path: Path) -> None:
    home = tmp_path / ("x" * MAX_SOCKET_PATH_BYTES)
    for attempt in (
        lambda: socket_path(home),
        lambda: ControlServer(home / CONTROL_SOCKET),
        lambda: LocalClient(home).call("status"),
    ):
        with pytest.raises(ConfigError, match="too long") as raised:
            attempt()
        assert "--home" in raised.value.hint
    assert not home.exists()


def test_home_that_is_a_file_is_refused(home: Path) -> None:
    home.write_text("not a directory")
    with pytest.raises(ConfigError, match=str(home)):
        ControlServer(home / CONTROL_SOCKET)
    with pytest.raises(NotRunningError):
        LocalClient(home).call("status")


def test_nobody_home(home: Path) -> None:
    with pytest.raises(NotRunningError) as raised:
        LocalClient(home).call("status")
    assert raised.value.message == f"no daemon runs in {home}"
    assert raised.value.hint == "start one with: p2pfusion start"


def test_silent_daemon_is_a_timeout(daemon: Daemon) -> None:
    with pytest.raises(WaitTimeoutError, match=r"within 0\.05 s"):
        LocalClient(daemon.home).call("status", timeout_s=0.05)


def test_chatty_daemon_is_a_timeout_too(daemon: Daemon) -> None:
    call = Call(daemon.home, "events", timeout_s=0.05)
    request = daemon.next_request()
    while not request.closed:
        request.progress({"text": "still busy"})
        daemon.turn(0)
    with pytest.raises(WaitTimeoutError):
        call.finish()


def test_daemon_that_leaves_before_answering(daemon: Daemon) -> None:
    call = Call(daemon.home, "wait")
    daemon.next_request().progress({"so": "far"})
    daemon.server.close()
    with pytest.raises(NotRunningError, match="stopped before it answered 'wait'"):
        call.finish()
    daemon.server = ControlServer(daemon.home / CONTROL_SOCKET)


@pytest.mark.parametrize("line", [b"HTTP/1.1 400\n", b"[]\n", b'{"ok": false}\n'])
def test_another_program_on_the_socket(home: Path, line: bytes) -> None:
    home.mkdir()
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.bind(str(home / CONTROL_SOCKET))
        listener.listen()
        call = Call(home, "status")
        channel, _ = listener.accept()
        with channel:
            channel.recv(1_000)
            channel.sendall(line)
            with pytest.raises(IncompatibleError):
                call.finish()


def test_client_imports_nothing_heavy() -> None:
    """``p2pfusion status`` has a quarter of a second."""
    program = (
        "import sys, p2pfusion.daemon.client\n"
        "print(*sorted({name.split('.')[0] for name in sys.modules}))"
    )
    output = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    loaded = set(output.stdout.split())
    assert "p2pfusion" in loaded
    assert not loaded & {"torch", "numpy", "zmq", "msgpack", "asyncio", "cryptography"}
