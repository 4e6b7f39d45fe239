"""Peers that the system allows 600 MiB: ``auto`` trains as much as fits, and no more.

The whole peer, daemon and trainer, is in a control group of its own; who takes more is
killed by the kernel. Steps between fractions are some 200 MB, so that what the daemon
takes, and pages of libraries that the kernel can drop, decide nothing.
"""

from __future__ import annotations

import base64
import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from p2pfusion.daemon.budget import candidates
from p2pfusion.protocol.manifest import Manifest
from tests.end_to_end.swarm import QUICK, Daemon, Swarm

pytestmark = [pytest.mark.slow, pytest.mark.soak]

LIMIT_BYTES = 600 << 20
TRAINERS = "530MiB"
"""The rest is the daemon's."""
RECORDS = 2048
WORDS = "one word after another, and then the next one that nobody has seen before\n"

CNN = {
    **{"model": "cnn", "model_arguments": {"channels": [128] * 3, "group": 32}},
    **{"batch": RECORDS, "local_steps": 2},
}
TRANSFORMER = {
    "model": "transformer",
    "model_arguments": {
        **{"width": 512, "heads": 4, "layers": 2, "inner": 2048},
        **{"length": 64, "group": 128},
    },
    **{"batch": 160, "local_steps": 2, "vocabulary": {"level": "byte"}},
    **{"optimiser": "adamw", "learning_rate": 1e-4},
}


class Group:
    """A control group whose members together may have so much memory."""

    def __init__(self, path: Path, limit: str, limit_bytes: int) -> None:
        self._path = path
        path.mkdir()
        (path / limit).write_text(str(limit_bytes))

    def add(self, pid: int) -> None:
        """From now on a process, and all that it starts, is a member."""
        (self._path / "cgroup.procs").write_text(str(pid))

    def end(self) -> None:
        """It is gone, once its members are."""
        with suppress(OSError):
            self._path.rmdir()


def new_group(name: str, limit_bytes: int = LIMIT_BYTES) -> Group:
    """Below the group of this process; skips where that is not allowed."""
    lines = Path("/proc/self/cgroup").read_text().splitlines()
    places = {line.split(":")[1]: line.split(":")[2].lstrip("/") for line in lines}
    first, limit = Path("/sys/fs/cgroup/memory"), "memory.limit_in_bytes"
    own = first / places.get("memory", "")
    if not first.is_dir():
        own, limit = Path("/sys/fs/cgroup") / places.get("", ""), "memory.max"
    try:
        return Group(own / name, limit, limit_bytes)
    except OSError as error:
        pytest.skip(f"no control group for memory can be made here: {error}")


@pytest.fixture
def limited(swarm: Swarm) -> Iterator[Callable[[Daemon], None]]:
    """Starts a daemon in a group of its own."""
    groups: list[Group] = []

    def start(daemon: Daemon) -> None:
        group = new_group(f"p2pfusion-test-{os.getpid()}-{len(groups)}")
        groups.append(group)
        daemon.launch()
        group.add(daemon.pid)  # before it has a trainer
        daemon.ready()

    yield start
    for daemon in swarm.daemons:
        if daemon.process is not None:
            daemon.kill()
    for group in groups:
        group.end()


def noise(directory: Path) -> dict[str, object]:
    """Images that show nothing."""
    draws = np.random.default_rng(0)
    images = draws.integers(0, 256, (RECORDS, 28, 28), dtype=np.uint8)
    path = directory / "noise.npz"
    np.savez(path, images=images, labels=np.arange(RECORDS) % 10)
    return {"kind": "npz", "path": str(path), "validation": 0.0}


def words(directory: Path) -> dict[str, object]:
    """Text that says little."""
    path = directory / "words.txt"
    path.write_text(WORDS * 4_000)
    return {"kind": "text", "path": str(path), "validation": 0.0}


@pytest.mark.parametrize(
    ("model", "write"), [(CNN, noise), (TRANSFORMER, words)], ids=["cnn", "transformer"]
)
def test_auto_trains_as_much_as_fits_and_the_next_fraction_is_killed(
    swarm: Swarm,
    limited: Callable[[Daemon], None],
    tmp_path: Path,
    model: dict[str, object],
    write: Callable[[Path], dict[str, object]],
) -> None:
    data = write(tmp_path)
    settings = {**QUICK, **model, "rounds": 3}
    auto = {"split_fraction": "auto", "memory": TRAINERS}
    first = swarm.add(data=data, swarm=settings, peer=auto)
    limited(first)
    first.wait("joined")
    trainer = first.trainer.pid
    first.wait("done")
    assert first.trainer.pid == trainer, first.errors()
    assert all(round_["loss"] is not None for round_ in first.rounds())
    me = first.ask("status")["self"]
    assert isinstance(me, dict)
    manifest = Manifest.from_bytes(base64.b64decode(str(first.ask("plan")["manifest"])))
    fractions = [each.fraction for each in candidates(manifest)]
    chosen = fractions.index(Fraction(me["split_fraction"]))
    first.kill()

    larger = {"split_fraction": float(fractions[chosen + 1])}
    second = swarm.add(data=data, swarm={**settings, "rounds": 1000}, peer=larger)
    limited(second)
    second.wait("joined")
    second.until(lambda: "killed by SIGKILL" in str(second.ask("status")["self"]))
