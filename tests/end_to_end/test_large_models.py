"""A model that no peer could hold: what daemon and trainer need follows from the slice.

A perceptron of 1.08 billion parameters, 4.3 GB as float32, of which each peer trains a
sixteenth of every width: 4.4 million parameters. The operating system gives no process
of the swarm more than ``MOST_DATA_BYTES`` of memory of its own, and what both processes
of a peer had resident at most, mapped files included, is counted afterwards.
"""

from __future__ import annotations

import contextlib
import resource
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.end_to_end.swarm import PATIENCE_S, Daemon, Swarm, planned

pytestmark = [
    pytest.mark.slow,
    pytest.mark.soak,
    pytest.mark.skipif(sys.platform != "linux", reason="reads /proc, limits data"),
]

PEERS = 2
BLOCKS = 16
WIDTH = 1 << 15
MOST_DATA_BYTES = 600 << 20
"""``RLIMIT_DATA`` of every daemon and every trainer: a seventh of the model."""

MOST_RESIDENT_BYTES = 1_500_000_000
"""Of a daemon and its trainer together."""

MOST_DISK_BYTES = 600 << 20
"""Of one peer's home, whose files look as large as the model, twice."""

LARGE: dict[str, object] = {
    "method": "msfusion",
    "method_arguments": {"blocks": BLOCKS},
    "model_arguments": {"hidden": [WIDTH, WIDTH]},
    "rounds": 2,
    "local_steps": 2,
    "batch": 16,
    "deadline_max_s": 600.0,
}


@contextlib.contextmanager
def limited(data_bytes: int) -> Iterator[None]:
    """Processes that are started here, and theirs, get no more memory of their own."""
    soft, hard = resource.getrlimit(resource.RLIMIT_DATA)
    resource.setrlimit(resource.RLIMIT_DATA, (data_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, (soft, hard))


def most_resident_bytes(pid: int) -> int:
    """The peak of a process so far, by the kernel's count."""
    status = Path(f"/proc/{pid}/status").read_text()
    (line,) = (row for row in status.splitlines() if row.startswith("VmHWM:"))
    return int(line.split()[1]) << 10


def disk_bytes(home: Path) -> int:
    """What the files of a home take, without their holes."""
    files = (path.lstat() for path in home.rglob("*") if path.is_file())
    return sum(found.st_blocks * 512 for found in files)


def resident_bytes(daemon: Daemon) -> int:
    """Of a peer: the peaks of its two processes, as if they had been at once."""
    pids = (daemon.pid, daemon.trainer.pid)
    return sum(map(most_resident_bytes, pids))


def test_a_peer_needs_memory_for_its_slice_and_not_for_the_model(swarm: Swarm) -> None:
    with limited(MOST_DATA_BYTES):
        peer: dict[str, object] = {"split_fraction": 1 / BLOCKS}
        daemons = swarm.start(PEERS, peer=peer, **LARGE)
    for daemon in daemons:
        daemon.wait("done", PATIENCE_S * 4)
        assert [row["contributors"] for row in daemon.rounds()] == [["p0", "p1"]] * 2
        assert resident_bytes(daemon) < MOST_RESIDENT_BYTES
        assert disk_bytes(daemon.home) < MOST_DISK_BYTES
    plan, splits = next(planned(daemons[0]))
    model_bytes = plan.layout.size * 4
    assert model_bytes > 4_000_000_000
    assert splits[daemons[0].peer].size(plan.layout) * 200 < plan.layout.size
    # Also the whole model comes out, piece by piece.
    path = swarm.root / "whole.safetensors"
    daemons[0].client.call("export", timeout_s=PATIENCE_S * 4, path=str(path))
    assert path.stat().st_size > model_bytes
    assert resident_bytes(daemons[0]) < MOST_RESIDENT_BYTES
