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
import socket
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from p2pfusion.daemon.client import CONTROL_SOCKET
from tests.end_to_end import ceilings, outsiders
from tests.end_to_end.ceilings import MIB, Usage, usage
from tests.end_to_end.inspection import identity, number_of_round, ports, refused
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

CALLS = 400
"""Connections, or messages, that an attack has to make."""

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

    swarm: Swarm
    founder: Daemon
    honest: Daemon
    traitor: Daemon
    url: str

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


@pytest.fixture(scope="module")
def besieged() -> Iterator[Besieged]:
    """The swarm, in its third round, under the system's limits."""
    with swarms() as swarm, contextlib.ExitStack() as closing:
        founder = swarm.add(data=share(0, 3), swarm=SETTINGS)
        honest, traitor = (swarm.add(data=share(rank, 3)) for rank in (1, 2))
        traitor.program = TRAITOR
        founder.start("--metrics", "127.0.0.1:0", "--web", "127.0.0.1:0")
        ticket = founder.ticket(uses=2)
        honest.start("--join", ticket)
        traitor.start("--join", ticket)
        founder.wait("round=3")
        file_bytes = (LARGEST_FILE_BYTES, LARGEST_FILE_BYTES)
        psutil.Process(founder.pid).rlimit(psutil.RLIMIT_FSIZE, file_bytes)
        _limit_memory(founder, closing)
        yield Besieged(swarm, founder, honest, traitor, "")


def _limit_memory(daemon: Daemon, closing: contextlib.ExitStack) -> None:
    """Whatever the daemon takes from now on is below the ceiling, or it is killed."""
    with contextlib.suppress(pytest.skip.Exception):
        group = new_group(f"p2pfusion-floods-{os.getpid()}")
        closing.callback(group.end)
        closing.callback(lambda: daemon.process and daemon.kill())
        group.add(daemon.pid)


# --- What is promised ----------------------------------------------------------------


def assert_holds_out(
    besieged: Besieged, enough: Callable[[], bool]
) -> tuple[int, Usage]:
    """While an attack lasts: until it was enough, and so many rounds have gone on. How
    often ``status`` was answered, and the most that the daemon took."""
    founder = besieged.founder
    before = worst = usage(founder)
    since, polls = number_of_round(founder), 0
    deadline = time.monotonic() + PATIENCE_S
    while not enough() or number_of_round(founder) < since + ROUNDS:
        assert time.monotonic() < deadline, "rounds do not go on, or no attack"
        founder.client.call("status", timeout_s=ANSWER_S)
        polls += 1
        worst = ceilings.most(worst, usage(founder))
        founder.let_pass(0.05)
    grown_bytes = worst.memory_bytes - before.memory_bytes
    assert grown_bytes < ceilings.most_growth_bytes(others=2)
    assert worst.files < ceilings.most_files(others=2)
    assert worst.threads < ceilings.THREADS
    assert worst.disk_bytes - before.disk_bytes < ceilings.LOGS_BYTES
    print(
        f"{polls} answers, {grown_bytes / MIB:.1f} MiB, {worst.files} files "
        f"({before.files} before), {worst.threads} threads, "
        f"{(worst.disk_bytes - before.disk_bytes) / 1024:.0f} KiB on disk"
    )
    return polls, before


def assert_is_as_before(besieged: Besieged, before: Usage) -> None:
    """After an attack: what it took is free, and both honest ones train on."""
    founder = besieged.founder
    founder.until(lambda: usage(founder).files <= before.files + SLACK_FILES)
    since = number_of_round(founder)
    wanted = {besieged.founder.peer, besieged.honest.peer}

    def is_whole() -> bool:
        return any(
            int(str(row["number"])) >= since
            and all(peer in str(row["contributors"]) for peer in ("p0", "p1"))
            for row in founder.rounds()[-20:]
        )

    assert len(wanted) == 2
    founder.until(is_whole)


SLACK_FILES = 12
"""Files that are open for a moment, and connections of members that have come back."""


# --- From outside --------------------------------------------------------------------


@pytest.mark.parametrize("attack", outsiders.ATTACKS)
def test_strangers_cannot_stop_a_daemon(besieged: Besieged, attack: str) -> None:
    founder = besieged.founder
    control, _ = ports_of(founder)
    calls_enough = _seconds(3.0)
    key = identity(founder).transport_key
    with outsiders.attacked(attack, control, key) as told:
        _, before = assert_holds_out(besieged, calls_enough)
    assert told["calls"] > CALLS / 10
    # At most how ZeroMQ introduces itself, and nothing from us.
    assert told["heard"] <= len(outsiders.GREETING)
    assert_is_as_before(besieged, before)


def _seconds(count: float) -> Callable[[], bool]:
    """Whether so much time has passed, in which as much happened as can."""
    end = time.monotonic() + count
    return lambda: time.monotonic() > end


def ports_of(daemon: Daemon) -> tuple[int, int]:
    """Where a daemon listens to peers."""
    port = int(daemon.address.rpartition(":")[2])
    return port, port + 1


def test_one_ticket_lets_in_as_many_as_it_says_and_not_one_more(
    besieged: Besieged,
) -> None:
    """Also when all come at once, and when the daemon is started again meanwhile."""
    founder = besieged.founder
    ticket = founder.ticket(uses=3)
    with besieged.betrayed("hello"):
        sybils = knock_all(ticket, 9)
    assert sum(each.is_in for each in sybils) == 3
    assert sum(bool(each.refused) for each in sybils) == 6
    again = knock_all(ticket, 3)
    assert not any(each.is_in for each in again)
