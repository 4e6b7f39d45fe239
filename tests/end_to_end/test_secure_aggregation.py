"""Real daemons with secure aggregation: the same model, also when one drops out."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.end_to_end.swarm import DIRICHLET, QUICK, Swarm, exported

pytestmark = pytest.mark.slow

PEERS = 4
ROUNDS = 3
WHOLE: dict[str, object] = {"method": "fedavg", "rounds": ROUNDS, "validation": 0.0}
HIDDEN: dict[str, object] = {**WHOLE, "secure_aggregation": "withhold"}
PEER = {"split_fraction": 1.0}
TOLERANCE = 1e-5
"""What three rounds of training make of differences of a float's last place."""


def plain_model(directory: Path) -> dict[str, np.ndarray]:
    """What the experiment runner makes of the same without masks."""
    from p2pfusion.simulation.design import Experiment
    from p2pfusion.simulation.experiment import Course

    settings = {k: v for k, v in QUICK.items() if not k.startswith(("name", "dead"))}
    fields = {
        **settings,
        "peers": PEERS,
        "split_fraction": "1",
        "data": {"kind": "digits"},
        "partition": DIRICHLET,
        "method": "fedavg",
        "rounds": ROUNDS,
    }
    course = Course.create(Experiment.of(fields), directory)
    course.run(lambda message: None)
    (runner,) = course.swarms
    return runner.values()


def test_all_end_with_the_model_that_plain_means_give(
    swarm: Swarm, tmp_path: Path
) -> None:
    daemons = swarm.start(PEERS, peer=PEER, **HIDDEN)  # type: ignore[arg-type]
    for daemon in daemons:
        daemon.wait("done")
    first, other = (exported(d, tmp_path / f"{d.home.name}.st") for d in daemons[::3])
    for name, values in plain_model(tmp_path / "runner").items():
        np.testing.assert_array_equal(first[name], other[name])
        np.testing.assert_allclose(first[name], values, rtol=0, atol=TOLERANCE)


@pytest.mark.soak
def test_a_round_fuses_without_one_that_was_killed_in_it(
    swarm: Swarm, tmp_path: Path
) -> None:
    settings = {**HIDDEN, "rounds": 12, "local_epochs": 30}
    daemons = swarm.start(PEERS, peer=PEER, **settings)  # type: ignore[arg-type]
    victim, rest = daemons[-1], daemons[:-1]
    victim.wait("round=2")
    victim.kill()
    for daemon in rest:
        daemon.wait("done")
    lost = {
        row["number"]: row
        for row in rest[0].rounds()
        if victim.peer in str(row["missing"])
    }
    assert lost, "it was never missed"
    models = [exported(d, tmp_path / f"{d.home.name}.st") for d in rest]
    for name, values in models[0].items():
        assert np.isfinite(values).all()
        for other in models[1:]:
            np.testing.assert_array_equal(values, other[name])
