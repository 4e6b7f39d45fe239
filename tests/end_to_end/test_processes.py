"""A peer whose trainer is several processes, beside one whose trainer is one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import psutil
import pytest

from tests.end_to_end.swarm import QUICK, Daemon, Swarm, exported, share

pytestmark = [pytest.mark.slow, pytest.mark.soak]

SEVERAL = {"processes": 2, "split_fraction": "auto", "memory": "2 GiB"}


def others(daemon: Daemon) -> list[psutil.Process]:
    """The processes of its trainer but the first."""
    children: list[psutil.Process] = daemon.trainer.children()
    return children


def test_several_processes_are_one_peer(swarm: Swarm, tmp_path: Path) -> None:
    settings = {**QUICK, "min_peers": 2, "rounds": 4}
    first = swarm.add(data=share(0, 2), swarm=settings, peer=SEVERAL)
    second = swarm.add(data=share(1, 2))
    first.start()
    second.start("--join", first.ticket())
    first.until(lambda: len(others(first)) == 1)
    for each in (first, second):
        each.wait("done")
    contributors = [len(each["contributors"]) for each in first.rounds()]
    assert contributors == [2] * 4
    one, two = (exported(each, tmp_path / each.home.name) for each in (first, second))
    assert all(np.array_equal(one[name], two[name]) for name in one)


def test_one_that_dies_costs_a_round_and_is_started_again(swarm: Swarm) -> None:
    settings = {**QUICK, "min_peers": 1, "rounds": 1000, "local_epochs": 20}
    daemon = swarm.add(data=share(0, 2), swarm=settings, peer={"processes": 2})
    daemon.start()
    daemon.until(lambda: len(daemon.rounds()) > 0)
    trainer = daemon.trainer
    (victim,) = others(daemon)
    victim.terminate()
    daemon.until(lambda: not trainer.is_running())
    assert not psutil.wait_procs([victim, trainer], 30)[1]
    daemon.until(lambda: len(others(daemon)) == 1)
    sealed = len(daemon.rounds())
    daemon.until(lambda: len(daemon.rounds()) > sealed + 1)
    assert "has ended: killed by signal 15" in daemon.errors()
