"""Every flood that somebody can make, against a daemon that trains, one after another.

What is promised while it lasts: the daemon answers ``status``, its rounds go on, and it
stays below the ceilings that ``docs/security.md`` states. Afterwards it is as before.
The operating system helps to watch: the daemon may write no file larger than
``LARGEST_FILE_BYTES``, and where control groups can be made, have no more memory.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import psutil
import pytest

from p2pfusion.daemon.client import CONTROL_SOCKET
from tests.end_to_end import ceilings, outsiders
from tests.end_to_end.besiegers import GREETING
from tests.end_to_end.ceilings import MIB, Usage, usage
from tests.end_to_end.inspection import identity, number_of_round, refused
from tests.end_to_end.swarm import Daemon, Swarm, share, swarms
from tests.end_to_end.sybils import knock_all
from tests.end_to_end.test_memory_limit import new_group
from tests.end_to_end.traitor import ATTACKS as TREASONS
from tests.end_to_end.traitor import ORDERS, TOLD

pytestmark = [pytest.mark.slow, pytest.mark.soak]

PATIENCE_S = 240.0
ANSWER_S = 10.0
"""How long ``status`` is waited for at most, on a machine that does other things too.
What it takes on an idle one, ``benchmarks/siege.py`` measures."""

ROUNDS = 2
"""That an attack has to last."""

LEAST_S = 3.0
"""... and how long, so that it comes to what it can do."""

CALLS = 40
"""Connections, or messages, that an attack has to make by then."""

SLACK_FILES = 16
"""Files that are open for a moment, and connections of members that have come back."""

FEW_FILES = 512
"""Descriptors of a daemon whose system is mean."""

LARGEST_FILE_BYTES = 64 * MIB

SETTINGS = {
    "name": "besieged",
    "model": "mlp",
    "model_arguments": {"hidden": [32, 32]},
    "method": "msfusion",
    "rounds": 100_000,
    "learning_rate": 0.1,
    "min_peers": 3,
    # Whoever attacks by not doing its part is waited for so long.
    "deadline_min_s": 4.0,
    "deadline_max_s": 8.0,
}
TRAITOR = (sys.executable, "-m", "tests.end_to_end.traitor")


@dataclass
class Besieged:
    """A swarm of three, one of which is a traitor."""

    founder: Daemon
    honest: Daemon
    traitor: Daemon

    @contextlib.contextmanager
    def betrayed(self, attack: str) -> Iterator[Callable[[], int]]:
        """The traitor has orders while this lasts; how much it has said of them."""
        orders, told = (self.traitor.home / name for name in (ORDERS, TOLD))
        orders.write_text(attack)

        def sent() -> int:
            said = json.loads(told.read_text()) if told.exists() else {}
            return int(said["sent"]) if said.get("orders") == attack else 0

        try:
            yield sent
        finally:
            orders.unlink()


def besieged_in(swarm: Swarm) -> Besieged:
    """The swarm, in its third round."""
    founder = swarm.add(data=share(0, 3), swarm=SETTINGS)
    honest, traitor = (swarm.add(data=share(rank, 3)) for rank in (1, 2))
    traitor.program = TRAITOR
    founder.start("--metrics", "127.0.0.1:0", "--web", "127.0.0.1:0")
    ticket = founder.ticket(uses=2)
    honest.start("--join", ticket)
    traitor.start("--join", ticket)
    founder.wait("round=3")
    return Besieged(founder, honest, traitor)


@pytest.fixture(scope="module")
def besieged() -> Iterator[Besieged]:
    """The same, under the system's limits."""
    with swarms() as swarm, contextlib.ExitStack() as closing:
        made = besieged_in(swarm)
        file_bytes = (LARGEST_FILE_BYTES, LARGEST_FILE_BYTES)
        psutil.Process(made.founder.pid).rlimit(psutil.RLIMIT_FSIZE, file_bytes)
        _limit_memory(made.founder, closing)
        yield made


def _limit_memory(daemon: Daemon, closing: contextlib.ExitStack) -> None:
    """Whatever the daemon takes from now on is below the ceiling, or it is killed."""
    with contextlib.suppress(pytest.skip.Exception):
        name, most = f"p2pfusion-floods-{os.getpid()}", ceilings.most_growth_bytes(2)
        group = new_group(name, most)
        closing.callback(group.end)
        closing.callback(lambda: daemon.process and daemon.kill())
        group.add(daemon.pid)


# --- What is promised ----------------------------------------------------------------


def assert_holds_out(besieged: Besieged, sent: Callable[[], int]) -> Usage:
    """While an attack lasts: until enough of it has come, and so many rounds have gone
    on. What the daemon took before."""
    founder = besieged.founder
    before = worst = usage(founder)
    since, polls = number_of_round(founder), 0
    begun = time.monotonic()
    while (
        time.monotonic() < begun + LEAST_S
        or sent() < CALLS
        or number_of_round(founder) < since + ROUNDS
    ):
        assert time.monotonic() < begun + PATIENCE_S, "no rounds, or no attack"
        founder.client.call("status", timeout_s=ANSWER_S)
        polls += 1
        worst = ceilings.most(worst, usage(founder))
        founder.let_pass(0.05)
    grown_bytes = worst.memory_bytes - before.memory_bytes
    written_bytes = worst.disk_bytes - before.disk_bytes
    assert grown_bytes < ceilings.most_growth_bytes(others=2)
    assert worst.files < ceilings.most_files(others=2)
    assert worst.threads < ceilings.THREADS
    assert written_bytes < ceilings.LOGS_BYTES + ceilings.FACTS_BYTES
    print(
        f"{sent()} came, {polls} answers, {grown_bytes / MIB:.1f} MiB, "
        f"{worst.files} files ({before.files} before), {worst.threads} threads, "
        f"{written_bytes / 1024:.0f} KiB on disk"
    )
    return before


def assert_is_as_before(besieged: Besieged, before: Usage) -> None:
    """After an attack: what it took is free, and both honest ones train on."""
    founder = besieged.founder
    founder.until(lambda: usage(founder).files <= before.files + SLACK_FILES)
    since = number_of_round(founder)

    def is_whole(row: dict[str, object]) -> bool:
        named = str(row["contributors"])
        return int(str(row["number"])) >= since and "p0" in named and "p1" in named

    founder.until(lambda: any(map(is_whole, founder.rounds()[-20:])))


# --- From outside --------------------------------------------------------------------


@pytest.mark.parametrize("attack", outsiders.ATTACKS)
def test_strangers_cannot_stop_a_daemon(besieged: Besieged, attack: str) -> None:
    founder = besieged.founder
    control, _ = ports_of(founder)
    key = identity(founder).transport_key
    with outsiders.attacked(attack, control, key) as told:
        before = assert_holds_out(besieged, lambda: CALLS)
    assert told["calls"] >= CALLS
    # At most how ZeroMQ introduces itself, and nothing from us.
    assert told["heard"] <= len(GREETING)
    assert_is_as_before(besieged, before)


def ports_of(daemon: Daemon) -> tuple[int, int]:
    """Where a daemon listens to peers."""
    port = int(daemon.address.rpartition(":")[2])
    return port, port + 1


def test_one_ticket_lets_in_as_many_as_it_says_and_not_one_more(
    besieged: Besieged,
) -> None:
    """Also when all come at once, while a member floods the door."""
    ticket = besieged.founder.ticket(uses=3)
    with besieged.betrayed("hello"):
        sybils = knock_all(ticket, 9)
    assert sum(each.is_in for each in sybils) == 3
    assert sum(bool(each.refused) for each in sybils) == 6
    assert not any(each.is_in for each in knock_all(ticket, 3))


# --- From inside ---------------------------------------------------------------------


@pytest.mark.parametrize("attack", TREASONS)
def test_a_member_cannot_stop_a_daemon(besieged: Besieged, attack: str) -> None:
    with besieged.betrayed(attack) as sent:
        before = assert_holds_out(besieged, sent)
    assert_is_as_before(besieged, before)


def test_a_member_that_asks_and_never_reads_holds_nobody_up(
    besieged: Besieged,
) -> None:
    """It wants all streams at once, and then its process stands still."""
    traitor = besieged.traitor.process
    assert traitor is not None
    with besieged.betrayed("requests") as sent:
        besieged.founder.until(lambda: sent() >= CALLS)
        traitor.send_signal(signal.SIGSTOP)
        try:
            before = assert_holds_out(besieged, sent)
        finally:
            traitor.send_signal(signal.SIGCONT)
    assert_is_as_before(besieged, before)


# --- From the same machine -----------------------------------------------------------


def local_places(daemon: Daemon) -> dict[str, str | tuple[str, int]]:
    """The local socket, and the ports of the metrics and the page."""
    listens = {
        each.laddr.port
        for each in psutil.Process(daemon.pid).net_connections("tcp")
        if each.status == psutil.CONN_LISTEN
    }
    outlets = sorted(listens - set(ports_of(daemon)))
    assert len(outlets) == 2
    places = {f"outlet {n}": ("127.0.0.1", port) for n, port in enumerate(outlets)}
    return {"local socket": str(daemon.home / CONTROL_SOCKET), **places}


WORDS = {
    "nothing": b"",
    "half a request": b'{"command": "sta',
    "nonsense": b"\x00" * 4_096,
    "questions": b'{"command": "status", "arguments": {}}\n',
    "http": b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n",
}


@pytest.mark.parametrize("words", WORDS)
def test_crowds_at_its_own_doors_cannot_stop_a_daemon(
    besieged: Besieged, words: str
) -> None:
    places = local_places(besieged.founder)
    there: list[socket.socket] = []
    calls = 0

    def come() -> int:
        """More of them; of each place the last hundred stay."""
        nonlocal calls
        for place in places.values():
            family = socket.AF_UNIX if isinstance(place, str) else socket.AF_INET
            for _ in range(20):
                channel = socket.socket(family)
                channel.setblocking(False)
                there.append(channel)
                with contextlib.suppress(OSError):
                    channel.connect(place)
                with contextlib.suppress(OSError):
                    channel.send(WORDS[words])
                    calls += 1
        while len(there) > 300:
            there.pop(0).close()
        return calls

    try:
        before = assert_holds_out(besieged, come)
    finally:
        for channel in there:
            channel.close()
    assert_is_as_before(besieged, before)


# --- Without descriptors -------------------------------------------------------------


def test_a_daemon_that_may_open_few_files_lets_in_fewer(besieged: Besieged) -> None:
    """A crowd of twice as many as it has descriptors cannot take them all."""
    founder = besieged.founder
    process = psutil.Process(founder.pid)
    allowed = process.rlimit(psutil.RLIMIT_NOFILE)
    process.rlimit(psutil.RLIMIT_NOFILE, (FEW_FILES, allowed[1]))
    try:
        key = identity(founder).transport_key
        with outsiders.attacked("crowd", ports_of(founder)[0], key) as told:
            before = assert_holds_out(besieged, lambda: CALLS)
    finally:
        process.rlimit(psutil.RLIMIT_NOFILE, allowed)
    assert told["calls"] > 2 * FEW_FILES
    assert_is_as_before(besieged, before)


def test_what_was_refused_is_counted(besieged: Besieged) -> None:
    """The last of all: whoever looks finds what has happened."""
    founder = besieged.founder
    for reason in ("an unknown token", "malformed message: not msgpack"):
        assert refused(founder, reason) > 0
