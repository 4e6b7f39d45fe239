"""The power of a whole swarm goes at once: nothing of a sealed round is lost.

Real daemons on loopback, all killed with SIGKILL at one moment, some rounds on. What
their homes then hold is read from disk, as a start reads it, before they start again.
"""

from __future__ import annotations

import itertools
import random
from pathlib import Path

import numpy as np
import pytest

from p2pfusion.daemon.state import SwarmState
from p2pfusion.protocol.manifest import Manifest
from p2pfusion.split.segment import Split
from p2pfusion.store import Store, read_checkpoint
from p2pfusion.store.cells import Cells
from tests.end_to_end.swarm import Daemon, Swarm

pytestmark = [pytest.mark.slow, pytest.mark.soak]

PEERS = 3
ROUNDS = 16
POWER_FAILURES = 2
MOST_IDLE_TURNS = 3_000_000
SEED = 5


def on_disk(daemon: Daemon) -> tuple[Manifest, int, Store]:
    """The swarm, the first round that is not sealed, and the store."""
    state = SwarmState(daemon.home / "swarm")
    manifest = state.load_manifest()
    assert manifest is not None
    next_round, _ = state.load_progress(manifest.layout)
    return manifest, next_round, state.open_store(manifest)


def newest(manifest: Manifest, stores: list[Store]) -> list[np.ndarray]:
    """The newest version of every cell that some peer has."""
    return [
        np.maximum.reduce([store.versions(index) for store in stores])
        for index in range(len(manifest.layout.signatures))
    ]


def assert_equal_versions_have_equal_values(
    manifest: Manifest, stores: list[Store]
) -> None:
    """What two peers hold of one version is the same to the bit."""
    layout, cells = manifest.layout, Cells(manifest.layout)
    for one, other in itertools.combinations(stores, 2):
        for segment in Split.full(layout).segments(layout):
            index = cells.signature(segment.parameter)
            same = np.asarray(one.versions(index) == other.versions(index))
            mask = cells.of_elements(segment, same)
            found, expected = one.read(segment), other.read(segment)
            np.testing.assert_array_equal(found[mask], expected[mask])


def test_a_power_failure_of_all_costs_at_most_the_round_in_progress(
    swarm: Swarm, tmp_path: Path
) -> None:
    chance = random.Random(SEED)
    daemons = swarm.start(
        PEERS, rounds=ROUNDS, deadline_min_s=15.0, deadline_max_s=60.0
    )
    for failure in range(POWER_FAILURES):
        reached = 3 + 5 * failure
        chance.choice(daemons).wait(f"round={reached}")
        for _ in range(chance.randrange(MOST_IDLE_TURNS)):
            pass
        for daemon in daemons:
            assert daemon.process is not None
            daemon.process.kill()
        for daemon in daemons:
            daemon.kill()
        found = [on_disk(daemon) for daemon in daemons]
        manifest, stores = found[0][0], [store for _, _, store in found]
        sealed = max(next_round for _, next_round, _ in found)
        assert sealed >= reached - 1
        if not failure:
            # A round that is done anew may give a version other values.
            assert_equal_versions_have_equal_values(manifest, stores)
        before = newest(manifest, stores)
        assert max(int(v.max()) for v in before) >= sealed
        for daemon in daemons:
            # Where the others remember it: none is left that could tell another place.
            daemon.launch("--listen", daemon.address)
        for daemon in daemons:
            daemon.ready()
        for daemon in daemons:
            daemon.wait(f"round={sealed}")
            rounds = [row["number"] for row in daemon.rounds()]
            assert not rounds or min(rounds) >= sealed - 1, (rounds, sealed)
    for daemon in daemons:
        daemon.wait("done")
    for number, daemon in enumerate(daemons):
        path = tmp_path / f"{number}.safetensors"
        daemon.ask("export", path=str(path))
        values, _ = read_checkpoint(path)
        assert all(np.isfinite(each).all() for each in values.values())
    for daemon in daemons:
        assert daemon.process is not None
        daemon.process.terminate()
        daemon.ended()
    stores = [on_disk(daemon)[2] for daemon in daemons]
    after = newest(manifest, stores)
    for old, new in zip(before, after, strict=True):
        assert (new >= old).all(), "a version went back"
    assert max(int(v.max()) for v in after) == ROUNDS
