"""The link to the trainer process, with small stand-ins and with the real trainer."""

from __future__ import annotations

import json
import os
import selectors
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from p2pfusion.daemon.trainer_link import TrainerLink
from p2pfusion.errors import LocalProtocolError, TrainerError
from p2pfusion.limits import MAX_TRAINER_LINE_BYTES, MAX_TRAINER_LOG_BYTES

PATIENCE_S = 60.0

PREAMBLE = """
import json, os, signal, socket, sys, time
channel = socket.socket(fileno=int(sys.argv[-1]))
lines = channel.makefile("rwb")
def say(**message):
    lines.write(json.dumps(message).encode() + b"\\n")
    lines.flush()
"""

ECHO = """
say(hello=os.getpid())
for line in lines:
    say(echo=json.loads(line))
"""

Start = Callable[..., TrainerLink]


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "trainer.log"


@pytest.fixture
def start(log: Path) -> Iterator[Start]:
    """Starts a stand-in; whatever still runs at the end is stopped."""
    links = []

    def run(program: str, **environment: str) -> TrainerLink:
        command = [sys.executable, "-c", PREAMBLE + program]
        links.append(TrainerLink(log, environment=environment, command=command))
        return links[-1]

    yield run
    for link in links:
        link.stop(5.0)


def hear(link: TrainerLink, count: int = 1) -> list[dict[str, object]]:
    """The next messages."""
    messages: list[dict[str, object]] = []
    while len(messages) < count:
        with selectors.PollSelector() as selector:
            for descriptor, interest in link.descriptors().items():
                selector.register(descriptor, interest)
            assert selector.get_map(), "the trainer has gone"
            assert selector.select(PATIENCE_S), "the trainer is silent"
        messages += link.ready()
    assert len(messages) == count, messages
    return messages


def is_gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


def test_messages_go_both_ways_in_order(start: Start) -> None:
    link = start(ECHO)
    assert hear(link) == [{"hello": link.pid}]
    for number in range(100):
        link.send({"number": number})
    assert hear(link, 100) == [{"echo": {"number": n}} for n in range(100)]
    assert link.descriptor in link.descriptors()


def test_long_lines_come_through(start: Start) -> None:
    """A layout is megabytes, many times what a socket holds."""
    link = start(ECHO)
    text = "x" * (4 << 20)
    link.send({"text": text})
    assert link.descriptors()[link.descriptor] & selectors.EVENT_WRITE
    _, message = hear(link, 2)
    assert message == {"echo": {"text": text}}
    assert link.descriptors() == {link.descriptor: selectors.EVENT_READ}


def test_environment_is_added(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KEPT", "kept")
    say = 'say(**{key: os.environ[key] for key in ("KEPT", "ADDED")})'
    link = start(f"{say}; lines.read()", ADDED="a")
    assert hear(link) == [{"KEPT": "kept", "ADDED": "a"}]


def test_trainer_has_a_process_group_and_no_input(start: Start) -> None:
    link = start("say(group=os.getpgid(0), input=sys.stdin.read()); lines.read()")
    assert hear(link) == [{"group": link.pid, "input": ""}]


@pytest.mark.parametrize(
    ("program", "died"),
    [
        ("sys.exit(3)", "exit code 3"),
        ("sys.exit(0)", "exit code 0"),
        ("os.kill(os.getpid(), signal.SIGKILL)", "killed by SIGKILL"),
    ],
)
def test_death_is_told_once(start: Start, program: str, died: str) -> None:
    link = start(f"print('last words', flush=True)\nsay(first=1)\n{program}")
    assert hear(link, 2) == [{"first": 1}, {"died": died, "log": ["last words"]}]
    assert link.descriptors() == {}
    assert link.descriptor == -1
    assert link.ready() == []
    link.send({"to": "nobody"})
    link.stop(0.0)


def test_last_lines_are_this_trainers_own(start: Start, log: Path) -> None:
    log.write_text("the trainer before\n")
    link = start("print(*range(100), sep='\\n')\nraise RuntimeError('no memory')")
    (message,) = hear(link)
    assert message["died"] == "exit code 1"
    lines = message["log"]
    assert isinstance(lines, list)
    assert len(lines) == 20
    assert lines[-1] == "RuntimeError: no memory"
    assert log.read_text().startswith("the trainer before\n0\n1\n")
    (message,) = hear(start("sys.exit(1)"))
    assert message["log"] == []


def test_large_log_is_set_aside(start: Start, log: Path) -> None:
    log.write_bytes(b"x" * (MAX_TRAINER_LOG_BYTES + 1))
    (message,) = hear(start("print('new'); sys.exit(1)"))
    assert message["log"] == ["new"]
    assert log.read_text() == "new\n"
    assert log.with_name("trainer.log.1").stat().st_size == MAX_TRAINER_LOG_BYTES + 1


@pytest.mark.parametrize(
    ("program", "died"),
    [
        ("lines.write(b'not JSON\\n')", "it sent a line that is not a JSON object"),
        ("lines.write(b'[1]\\n')", "it sent a line that is not a JSON object"),
        (
            f"lines.write(b'x' * {MAX_TRAINER_LINE_BYTES + (1 << 20)})",
            "it sent a line without end",
        ),
    ],
)
def test_trainer_that_babbles_is_ended(start: Start, program: str, died: str) -> None:
    link = start(f"{program}\nlines.flush()\nsignal.pause()")
    assert hear(link) == [{"died": died, "log": []}]
    assert is_gone(link.pid)


def test_trainer_that_only_hangs_up_is_ended(start: Start) -> None:
    link = start("lines.close(); channel.close(); signal.pause()")
    assert hear(link) == [{"died": "it hung up", "log": []}]
    assert is_gone(link.pid)


def test_stop_lets_the_trainer_leave(start: Start, log: Path) -> None:
    link = start("say(ready=1)\nlines.read()\nprint('left by itself')")
    hear(link)
    link.stop(PATIENCE_S)
    assert is_gone(link.pid)
    assert log.read_text() == "left by itself\n"
    assert link.ready() == []
    link.stop(0.0)


def test_stop_ends_one_that_does_not_listen_and_its_children(
    start: Start, tmp_path: Path
) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    link = start(
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "import subprocess\n"
        f"held = open({str(pipe)!r}, 'w')\n"
        "subprocess.Popen(['sleep', '1000'], pass_fds=[held.fileno()])\n"
        "say(ready=1)\n"
        "while True: signal.pause()"
    )
    with open(os.open(pipe, os.O_RDONLY | os.O_NONBLOCK), "rb") as reader:
        hear(link)
        link.stop(0.0)
        assert is_gone(link.pid)
        wait_for_end(reader.fileno())


def wait_for_end(pipe: int) -> bytes:
    """What comes through the pipe until nobody holds its other end."""
    content = b""
    with selectors.PollSelector() as selector:
        selector.register(pipe, selectors.EVENT_READ)
        while True:
            assert selector.select(PATIENCE_S), "somebody still runs"
            data = os.read(pipe, 1_000)
            if not data:
                return content
            content += data


PARENT = """
import sys
from pathlib import Path
from p2pfusion.daemon.trainer_link import TrainerLink
link = TrainerLink(Path(sys.argv[1]), command=[sys.executable, "-c", sys.argv[2]])
print(link.pid, flush=True)
sys.stdin.read()
"""


def test_trainer_dies_with_a_killed_daemon(log: Path, tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    trainer = (
        PREAMBLE + f"held = open({str(pipe)!r}, 'w')\n"
        "held.write('alive'); held.flush()\n"
        "lines.read()"
    )
    with open(os.open(pipe, os.O_RDONLY | os.O_NONBLOCK), "rb") as reader:
        with subprocess.Popen(
            [sys.executable, "-c", PARENT, str(log), trainer],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        ) as parent:
            assert parent.stdout is not None
            pid = int(parent.stdout.readline())
            with selectors.PollSelector() as selector:
                selector.register(reader, selectors.EVENT_READ)
                assert selector.select(PATIENCE_S), "the trainer never came up"
            assert os.read(reader.fileno(), 5) == b"alive"
            assert not is_gone(pid)
            parent.send_signal(signal.SIGKILL)
        # The pipe ends when the trainer, its only writer, has gone.
        assert wait_for_end(reader.fileno()) == b""


def test_too_much_for_one_line_is_our_bug(start: Start) -> None:
    link = start(ECHO)
    with pytest.raises(LocalProtocolError):
        link.send({"text": "x" * MAX_TRAINER_LINE_BYTES})
    link.send({"still": "works"})
    assert hear(link, 2)[1] == {"echo": {"still": "works"}}


def test_trainer_that_cannot_start(log: Path) -> None:
    open_before = os.listdir("/proc/self/fd")
    with pytest.raises(TrainerError, match="cannot be started"):
        TrainerLink(log, command=["/nowhere/trainer"])
    assert os.listdir("/proc/self/fd") == open_before


def test_new_link_after_death(start: Start) -> None:
    hear(start("sys.exit(1)"))
    assert "hello" in hear(start(ECHO))[0]


@pytest.mark.slow
def test_real_trainer_describes_a_model(
    log: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # From another directory: the trainer must find the package all the same.
    monkeypatch.chdir(tmp_path)
    link = TrainerLink(log, environment={"OMP_NUM_THREADS": "1"})
    link.send({"do": "describe", "model": "mlp", "arguments": {}})
    (message,) = hear(link)
    link.stop(PATIENCE_S)
    assert message.get("done") == "describe", json.dumps(message)
    assert message["layout"]
    assert is_gone(link.pid)
