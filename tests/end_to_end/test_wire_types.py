"""Real daemons whose values travel in fewer bytes.

The model is compared between peers, bit for bit, and with the experiment runner's.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest

from p2pfusion.daemon.presets import suited
from p2pfusion.protocol.transfer import STALLED_RETRY_S
from p2pfusion.split.coverage import traffic
from p2pfusion.split.forms import WIRE
from tests.end_to_end.swarm import (
    DIRICHLET,
    QUICK,
    Daemon,
    Swarm,
    exported,
    planned,
)

pytestmark = pytest.mark.slow

PEERS = 4
ROUNDS = 3
LEAST_STEP = 2.0**-11
"""Of float16 between 1/2 and 1, where the largest of these models' values are."""

STEPS_APART = {"bfloat16": 32, "int8": 32}
"""Sums of another order may round to the other side, and training goes on from there:
so far from the runner's is far less than what three rounds change."""

MEAN_STEPS_APART = 48
"""The same of ``top-k``, on average: which values are the largest of their block
depends on the streams, and these on the ids that are drawn for daemons."""


def assert_bytes_as_planned(daemons: list[Daemon], wire_dtype: str) -> None:
    """To the byte; more only leaves in a round so long that somebody asked again."""
    rows = [daemon.rounds() for daemon in daemons]
    for number, (plan, splits) in enumerate(planned(daemons[0])):
        here = [of_daemon[number] for of_daemon in rows]
        is_quick = max(float(str(row["seconds"])) for row in here) < STALLED_RETRY_S
        for row, peer in zip(here, sorted(splits), strict=True):
            found = traffic(plan, peer, wire=WIRE[wire_dtype])
            sent = int(str(row["payload_sent_bytes"]))
            assert sent == found.sent_bytes or (
                sent > found.sent_bytes and not is_quick
            )
            assert row["payload_received_bytes"] == found.received_bytes


def models_of(
    daemons: Iterable[Daemon], directory: Path
) -> list[dict[str, np.ndarray]]:
    """What each of them exports."""
    return [exported(d, directory / f"{i}.st") for i, d in enumerate(daemons)]


def runners_model(wire_dtype: str, directory: Path) -> dict[str, np.ndarray]:
    """What the experiment runner makes of the same."""
    from p2pfusion.simulation.design import Experiment
    from p2pfusion.simulation.experiment import Course

    settings = {k: v for k, v in QUICK.items() if not k.startswith(("name", "dead"))}
    fields = {
        **settings,
        "peers": PEERS,
        "split_fraction": "1/2",
        "data": {"kind": "digits"},
        "partition": DIRICHLET,
        "method": "msfusion",
        "rounds": ROUNDS,
        "wire_dtype": wire_dtype,
    }
    course = Course.create(Experiment.of(suited(fields)), directory)
    course.run(lambda message: None)
    (runner,) = course.swarms
    return runner.values()


@pytest.mark.parametrize(
    "wire_dtype",
    [
        "int8",
        pytest.param("bfloat16", marks=pytest.mark.soak),
        pytest.param("top-k", marks=pytest.mark.soak),
    ],
)
def test_all_end_with_the_same_model_for_the_bytes_that_were_planned(
    swarm: Swarm, tmp_path: Path, wire_dtype: str
) -> None:
    daemons = swarm.start(
        PEERS,
        method="msfusion",
        rounds=ROUNDS,
        validation=0.0,
        wire_dtype=wire_dtype,
    )
    for daemon in daemons:
        daemon.wait("done")
    assert_bytes_as_planned(daemons, wire_dtype)
    first, other = models_of(daemons[::3], tmp_path)
    expected = runners_model(wire_dtype, tmp_path / "runner")
    for name, values in first.items():
        np.testing.assert_array_equal(values, other[name])
        apart = np.abs(values - expected[name])
        if wire_dtype == "top-k":
            assert apart.mean() <= MEAN_STEPS_APART * LEAST_STEP, name
        else:
            assert apart.max() <= STEPS_APART[wire_dtype] * LEAST_STEP, name


@pytest.mark.soak
def test_a_peer_that_was_killed_goes_on_with_what_it_owes(
    swarm: Swarm, tmp_path: Path
) -> None:
    daemons = swarm.start(
        PEERS, method="msfusion", rounds=6, validation=0.0, wire_dtype="int8"
    )
    for daemon in daemons:
        daemon.wait("round=2")
    victim = next(d for d in daemons[1:] if list(d.home.rglob("owed-*.f32")))
    victim.kill()
    victim.start()
    for daemon in daemons:
        daemon.wait("done")
    first, *others = models_of(daemons, tmp_path)
    for name, values in first.items():
        assert np.isfinite(values).all()
        for other in others:
            np.testing.assert_array_equal(values, other[name])
