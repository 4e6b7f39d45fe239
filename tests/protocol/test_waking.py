"""Who was stopped for a while does not judge others by the time that it did not see."""

from __future__ import annotations

import pytest

from p2pfusion.protocol.course import ALONE_AFTER_S
from p2pfusion.protocol.phases import Phase
from tests.protocol.stage import Host
from tests.protocol.test_suspicion import Sleepy, alive, reach, running

SECONDS = [1.5, 6.0, 20.0]
"""Shorter than silence is noticed, longer, and long enough to be put out."""


def in_phase(host: Host, phase: Phase) -> bool:
    round_ = host.peer.round
    return round_ is not None and round_.phase is phase


def missed(swarm: Sleepy, name: str, *, but: str = "") -> list[object]:
    """Whom a peer has named missing in all its rounds."""
    rows = [row["missing"] for row in swarm.hosts[name].sealed]
    entries = [entry for row in rows if isinstance(row, list) for entry in row]
    return [entry for entry in entries if entry["peer"] != but]


def sleep(swarm: Sleepy, name: str, seconds: float, *, lost: bool) -> None:
    """Stops a peer for a while; what is sent to it meanwhile waits, or is lost."""
    swarm.asleep[name] = []
    swarm.run_to(swarm.now + seconds)
    if lost:
        swarm.asleep[name].clear()
    swarm.wake(name)


@pytest.mark.parametrize("lost", [False, True], ids=["queued", "lost"])
@pytest.mark.parametrize("seconds", SECONDS)
@pytest.mark.parametrize("phase", [Phase.TRAIN, Phase.EXCHANGE])
def test_who_was_stopped_names_nobody_missing_that_was_there(
    phase: Phase, seconds: float, lost: bool
) -> None:
    swarm = running(4, deadline_min_s=2.0)
    # It waits for one that is slower, so it is stopped while others are awaited.
    swarm.hosts["p3"].training_s = 1.3
    swarm.run(lambda: in_phase(swarm.hosts["p2"], phase))
    sleep(swarm, "p2", seconds, lost=lost)
    reach(swarm, swarm.hosts["p0"].peer.course.round_index + 3)
    assert not missed(swarm, "p2", but="p2")
    for name in ("p0", "p1", "p3"):
        assert not missed(swarm, name, but="p2")
    assert swarm.hosts["p2"].reported("slept")


def test_if_all_are_stopped_at_once_the_round_goes_on_where_it_was() -> None:
    swarm = running(4)
    swarm.run(lambda: in_phase(swarm.hosts["p0"], Phase.TRAIN))
    number = swarm.hosts["p0"].peer.course.round_index
    for host in alive(swarm):
        swarm.asleep[host.name] = []
    swarm.run_to(swarm.now + 60)
    for host in alive(swarm):
        swarm.wake(host.name)
    reach(swarm, number + 3)
    for host in alive(swarm):
        assert not missed(swarm, host.name)


def test_who_died_meanwhile_is_missed_all_the_same() -> None:
    swarm = running(4)
    swarm.run(lambda: in_phase(swarm.hosts["p2"], Phase.EXCHANGE))
    swarm.asleep["p2"] = []
    swarm.kill("p3")
    swarm.run_to(swarm.now + 1.0)
    swarm.wake("p2")
    number = swarm.hosts["p2"].peer.course.round_index
    reach(swarm, number + 2)
    assert {entry["peer"] for entry in missed(swarm, "p2")} == {"p3"}  # type: ignore[index]


def test_who_sleeps_right_after_its_restart_does_not_wake_again_and_again() -> None:
    swarm = running(3)
    swarm.kill("p2")
    swarm.run_to(swarm.now + 0.1)
    swarm.cut = lambda a, b, m: "p2" in (a, b)
    swarm.restart("p2")
    swarm.run_to(swarm.now + 0.1)
    sleep(swarm, "p2", ALONE_AFTER_S + 1.0, lost=True)
    peer = swarm.hosts["p2"].peer
    assert peer.exchange.pause.is_listening and peer.deadline() > swarm.now


def test_who_sleeps_again_and_again_goes_on_all_the_same() -> None:
    swarm = running(3)
    number = swarm.hosts["p0"].peer.course.round_index
    for _ in range(12):
        sleep(swarm, "p2", 1.1, lost=False)
        swarm.run_to(swarm.now + 0.2)
    assert swarm.hosts["p2"].peer.course.round_index > number + 1
