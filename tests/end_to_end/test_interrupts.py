"""Ctrl-C at any moment, a power failure, and the same command typed again: a daemon
ends at once, leaves nothing running, and goes on where it was when it is started again.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from tests.end_to_end.programs import Program, marked
from tests.end_to_end.swarm import PATIENCE_S, QUICK, Daemon, Swarm, share

pytestmark = pytest.mark.slow

Moment = Callable[[Swarm], Daemon]
"""Brings a swarm to a moment; which of its daemons is to be interrupted."""

SETTINGS: dict[str, object] = {
    **QUICK,
    "rounds": 12,
    "network": "local",
    "deadline_min_s": 15.0,
    "deadline_max_s": 60.0,
}
LONG_EPOCHS = 10_000
"""Epochs of a training that does not end while a test looks."""


# --- Moments -------------------------------------------------------------------------


def while_it_is_loaded(swarm: Swarm) -> Daemon:
    """Its libraries are being loaded."""
    return launched(swarm, lambda daemon: "zmq" in maps(daemon))


def while_its_home_is_opened(swarm: Swarm) -> Daemon:
    """It has taken its home, and is about to be ready."""
    return launched(swarm, lambda daemon: (daemon.home / "incarnation").exists())


def launched(swarm: Swarm, begun: Callable[[Daemon], bool]) -> Daemon:
    """A daemon that is not ready yet, as a rule."""
    daemon = swarm.add(data=share(0, 3), swarm={**SETTINGS, "min_peers": 1})
    daemon.launch()
    process = psutil.Process(daemon.pid)
    while not begun(daemon):
        assert process.status() != psutil.STATUS_ZOMBIE, daemon.errors()
    return daemon


def maps(daemon: Daemon) -> str:
    """The libraries that a process has loaded so far."""
    return Path(f"/proc/{daemon.pid}/maps").read_text()


def without_a_swarm(swarm: Swarm) -> Daemon:
    """It knocks where nobody answers."""
    daemon = swarm.add(data=share(0, 3))
    daemon.start("--join", "127.0.0.1:9")
    daemon.until(lambda: bool(daemon.ask("status")["joining"]))
    return daemon


def before_the_start(swarm: Swarm) -> Daemon:
    """A founder waits for others."""
    daemon = swarm.add(data=share(0, 3), swarm={**SETTINGS, "min_peers": 2})
    daemon.start()
    daemon.wait("joined")
    return daemon


def while_it_trains(swarm: Swarm) -> Daemon:
    """In the middle of a training that takes for ever."""
    founder, *_ = swarm.start(2, **{**SETTINGS, "local_epochs": LONG_EPOCHS})
    founder.until(lambda: "step" in str(founder.ask("status")["round"]))
    return founder


def while_it_exchanges(swarm: Swarm) -> Daemon:
    """Its training is done; it waits for another's, who is slow."""
    founder, other = swarm.start(2, **{**SETTINGS, "local_epochs": 5})
    founder.wait("round=1")
    os.kill(other.trainer.pid, signal.SIGSTOP)
    founder.until(lambda: phase(founder) == "exchange")
    return founder


def when_all_is_done(swarm: Swarm) -> Daemon:
    """All rounds are over, and it serves what it has."""
    (daemon,) = swarm.start(1, **SETTINGS)
    daemon.wait("done")
    return daemon


def at_length(moment: Moment) -> object:
    """A moment that only ``make soak`` looks at."""
    return pytest.param(moment, marks=pytest.mark.soak)


BEFORE_READY = [at_length(while_it_is_loaded), while_its_home_is_opened]
MOMENTS = [
    at_length(without_a_swarm),
    at_length(before_the_start),
    while_it_trains,
    at_length(while_it_exchanges),
    at_length(when_all_is_done),
]


def phase(daemon: Daemon) -> object:
    """In which phase of its round a daemon is."""
    found = daemon.ask("status")["round"]
    assert isinstance(found, dict)
    return found["phase"]


# --- Tests ---------------------------------------------------------------------------


@pytest.mark.parametrize("moment", MOMENTS, ids=lambda m: m.__name__)
def test_ctrl_c_ends_a_daemon_at_any_moment_and_it_starts_again(
    swarm: Swarm, moment: Moment
) -> None:
    daemon = moment(swarm)
    children = psutil.Process(daemon.pid).children(recursive=True)
    daemon.interrupt()
    code, line = daemon.ended()
    assert code == 0, line
    assert "Traceback" not in daemon.errors()
    assert psutil.wait_procs(children, timeout=PATIENCE_S)[1] == []
    assert not (daemon.home / "control.sock").exists()
    daemon.start()
    assert daemon.ask("status")["daemon"]


@pytest.mark.parametrize("moment", BEFORE_READY, ids=lambda m: m.__name__)
def test_ctrl_c_ends_a_start_whose_exit_code_tells_whether_it_was_ready(
    swarm: Swarm, moment: Moment
) -> None:
    daemon = moment(swarm)
    daemon.interrupt()
    code, line = daemon.ended()
    assert daemon.process is not None and daemon.process.stdout is not None
    was_ready = daemon.process.stdout.read().startswith("READY")
    assert code == (0 if was_ready else 130), line
    assert was_ready or "interrupted before the daemon was ready" in line
    assert "Traceback" not in daemon.errors()
    assert psutil.wait_procs(marked(swarm.mark), timeout=PATIENCE_S)[1] == []
    assert not (daemon.home / "control.sock").exists()
    daemon.start()
    assert daemon.ask("status")["daemon"]


@pytest.mark.soak
def test_ctrl_c_at_a_start_in_the_background_leaves_no_daemon_behind(
    swarm: Swarm,
) -> None:
    daemon = swarm.add(data=share(0, 3), swarm={**SETTINGS, "min_peers": 1})
    program = Program(daemon.home, swarm.mark)
    with program.open("start", str(daemon.profile), "--detach") as starting:
        while not (daemon.home / "daemon.lock").exists():
            assert starting.poll() is None
        starting.send_signal(signal.SIGINT)
        out, err = starting.communicate(timeout=PATIENCE_S)
    if starting.returncode == 0:  # it was ready before the signal came
        assert out.startswith("READY") and program.run("stop").code == 0
    else:
        assert (starting.returncode, out) == (130, "")
        assert "interrupted before the daemon was ready" in err
    assert psutil.wait_procs(marked(swarm.mark), timeout=PATIENCE_S)[1] == []
    daemon.start()


@pytest.mark.soak
def test_power_failures_in_a_row_cost_only_the_rounds_under_way(swarm: Swarm) -> None:
    daemons = swarm.start(2, **{**SETTINGS, "rounds": 60})
    founder, victim = daemons
    reached = 2
    for _ in range(3):
        victim.wait(f"round={reached}")
        reached = number(victim) + 2
        victim.kill()
        assert Program(victim.home).run("status").code == 3
        victim.start()
    for daemon in daemons:
        daemon.wait("done")
    assert (victim.home / "incarnation").read_text() == "4"
    last = founder.rounds()[-1]
    assert last["contributors"] == ["p0", "p1"] and not last["missing"]


def number(daemon: Daemon) -> int:
    """The round that a daemon is in, once it is in one."""
    found = daemon.ask("status")["round"]
    assert isinstance(found, dict)
    return int(found["number"])


@pytest.mark.soak
def test_typing_the_same_command_again_harms_nothing(swarm: Swarm) -> None:
    founder, other = swarm.start(2, **{**SETTINGS, "rounds": 40})
    program = Program(other.home, swarm.mark)
    for _ in range(3):
        again = program.run("start", str(other.profile))
        assert again.code == 10 and f"pid {other.pid}" in again.err
    for daemon in (founder, other):
        daemon.wait("done")
    assert all(not row["missing"] for row in founder.rounds())
    assert program.run("stop").code == 0
    assert other.ended()[0] == 0
    twice = program.run("stop")
    assert twice.code == 3 and "no daemon runs" in twice.err
