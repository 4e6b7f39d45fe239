"""Peers that are killed, stop and come back, and whole models while one is gone."""

from __future__ import annotations

import os
import signal
from collections.abc import Mapping, Sequence
from concurrent import futures
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from p2pfusion.daemon.home import Home
from p2pfusion.daemon.state import SwarmState
from p2pfusion.errors import ConflictError, ResourceError
from p2pfusion.store import Store, read_checkpoint
from tests.end_to_end.swarm import PATIENCE_S, QUICK, Daemon, Data, Swarm, exported

pytestmark = pytest.mark.slow


def test_a_killed_peer_is_missed_by_name_and_comes_back(
    swarm: Swarm, tmp_path: Path
) -> None:
    first, _, victim = swarm.start(3, rounds=100_000, local_epochs=3)
    victim.wait("round=2")
    victim.kill()
    first.wait("peers=2")
    reached = int(str(first.rounds()[-1]["number"]))
    first.wait(f"round={reached + 3}")
    missing = [entry for row in first.rounds() for entry in row["missing"]]  # type: ignore[attr-defined]
    assert {entry["name"] for entry in missing} == {"p2"}
    assert all(entry["reason"] for entry in missing)
    victim.start("--join", first.address)
    first.until(lambda: len(rounds_with("p2", first, since=reached)) > 2)
    status = victim.ask("status")
    assert status["self"]["id"] == victim.peer  # type: ignore[index]
    assert (victim.home / "incarnation").read_text() == "2"
    for daemon in (first, victim):
        done = daemon.ask("export", path=str(tmp_path / "model.safetensors"))
        assert done["ever_trained_fraction"] == pytest.approx(1.0, abs=0.1)


def rounds_with(name: str, daemon: Daemon, since: int) -> list[Data]:
    """The rounds after that one to which a peer contributed, of the last thousand."""
    return [
        row
        for row in daemon.rounds()
        if int(str(row["number"])) > since and name in row["contributors"]  # type: ignore[operator]
    ]


@pytest.mark.soak
def test_a_peer_that_stops_and_starts_is_missed_for_that_long_only(
    swarm: Swarm,
) -> None:
    daemons = swarm.start(2, rounds=300, local_epochs=2)
    founder, other = daemons
    other.wait("round=2")
    other.ask("stop")
    assert other.ended()[0] == 0
    assert founder.wait("peers=1")["reached"] == "peers=1"
    other.start()
    # Without --join: the addresses of the others are on its disk.
    assert other.wait("peers=2")["reached"] == "peers=2"
    status = other.ask("status")
    assert status["swarm"]["name"] == "test"  # type: ignore[index]
    assert (other.home / "incarnation").read_text() == "2"
    # It first receives, in a round or two, what it has missed.
    both = ["p0", "p1"]
    founder.until(lambda: founder.rounds()[-1]["contributors"] == both)
    number = int(str(founder.rounds()[-1]["number"]))
    founder.wait(f"round={number + 4}")
    since = [row for row in founder.rounds() if int(str(row["number"])) >= number]
    assert len(since) > 3
    assert all(row["contributors"] == both and not row["missing"] for row in since)


@pytest.mark.soak
def test_a_founder_that_stops_before_the_start_still_starts_the_swarm(
    swarm: Swarm,
) -> None:
    founder = swarm.add(
        data={"kind": "digits"}, swarm={**QUICK, "min_peers": 2, "rounds": 1}
    )
    other = swarm.add(data={"kind": "digits"})
    founder.start()
    founder.wait("joined")
    founder.ask("stop")
    assert founder.ended()[0] == 0
    founder.start()
    other.start("--join", founder.ticket())
    assert other.wait("done")["reached"] == "done"
    assert founder.wait("done")["reached"] == "done"


# --- Whole models --------------------------------------------------------------------


def test_exports_come_one_at_a_time_and_never_by_halves(
    swarm: Swarm, tmp_path: Path
) -> None:
    founder, other = swarm.start(2, rounds=2)
    for daemon in (founder, other):
        daemon.wait("done")
    told: list[Mapping[str, object]] = []
    path = str(tmp_path / "model")
    founder.client.call("export", timeout_s=30, on_event=told.append, path=path)
    assert_tells_how_far_it_is(told)
    os.kill(other.pid, signal.SIGSTOP)  # what lives there does not come now
    with ThreadPoolExecutor(2) as pool:
        asked = [
            pool.submit(founder.ask, "export", path=str(tmp_path / name))
            for name in ("model", "new")
        ]
        (refused,), (pending,) = futures.wait(
            asked, timeout=PATIENCE_S, return_when=futures.FIRST_COMPLETED
        )
        with pytest.raises(ConflictError, match="under way"):
            refused.result()
        assert sum(path.suffix == ".part" for path in tmp_path.iterdir()) == 1
        founder.ask("stop")
        with pytest.raises(ResourceError, match="stopped before"):
            pending.result(20)
    assert founder.ended()[0] == 0
    left = sorted(path.name for path in tmp_path.iterdir())
    assert left == ["model", "model.manifest.json"], "of the first export"
    read_checkpoint(tmp_path / "model")


def assert_tells_how_far_it_is(told: list[Mapping[str, object]]) -> None:
    assert told
    for event in told:
        done, total = event["done_bytes"], event["total_bytes"]
        assert isinstance(done, int) and isinstance(total, int)
        assert 0 <= done <= total and total > 0


@pytest.mark.soak
def test_an_export_without_a_peer_names_it_and_leaves_no_file(
    swarm: Swarm, tmp_path: Path
) -> None:
    founder, other = swarm.start(2, rounds=2, replication=1)
    for daemon in (founder, other):
        daemon.wait("done")
    other.kill()
    with pytest.raises(ResourceError, match="p1"):
        founder.ask("export", path=str(tmp_path / "model"))
    assert list(tmp_path.iterdir()) == []
    other.start()
    founder.wait("peers=2")
    assert founder.ask("export", path=str(tmp_path / "model"))["peers"] == 2


@pytest.mark.soak
def test_a_second_copy_makes_up_for_a_peer_that_is_gone_for_good(
    swarm: Swarm, tmp_path: Path
) -> None:
    daemons = swarm.start(3, rounds=3)
    for daemon in daemons:
        daemon.wait("done")
    before = exported(daemons[0], tmp_path / "before")
    daemons[1].kill()
    after = exported(daemons[2], tmp_path / "after")
    for name, values in before.items():
        np.testing.assert_array_equal(values, after[name])


def versions_of(daemons: Sequence[Daemon]) -> np.ndarray:
    """(daemons, cells): what is in each store, as a reader finds it."""
    found = []
    for daemon in daemons:
        state = SwarmState(Home(daemon.home).swarm)
        manifest = state.load_manifest()
        assert manifest is not None
        store = Store.open(state.store, manifest.layout, manifest.seed)
        found.append(np.concatenate([v.ravel() for v in store.all_versions()]))
    return np.stack(found)


@pytest.mark.soak
def test_a_swarm_that_is_done_loses_one_peer_after_the_other(
    swarm: Swarm, tmp_path: Path
) -> None:
    daemons = swarm.start(4, rounds=3)
    for daemon in daemons:
        daemon.wait("done")
    before = exported(daemons[0], tmp_path / "before")
    newest = versions_of(daemons).max(axis=0)
    for gone in (3, 2):
        left = daemons[:gone]
        assert (versions_of(left) == newest).sum(axis=0)[newest > 0].min() < 2
        daemons[gone].kill()
        left[0].until(
            lambda left=left: bool(
                ((versions_of(left) == newest).sum(axis=0) >= 2)[newest > 0].all()
            )
        )
    after = exported(daemons[1], tmp_path / "after")
    for name, values in before.items():
        np.testing.assert_array_equal(values, after[name])
