"""Simulated swarms with secure aggregation: random faults, real masks, same values."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from p2pfusion.daemon.contribution import Contribution
from p2pfusion.daemon.masking import Opening
from p2pfusion.fusion.ring import scale_for, to_ring
from p2pfusion.protocol.manifest import Manifest
from p2pfusion.simulation.design import Experiment
from p2pfusion.simulation.run import simulate, small_perceptron
from p2pfusion.simulation.seeds import random_setting
from p2pfusion.simulation.swarm import Swarm
from p2pfusion.simulation.trained import simulate_training

Floats = NDArray[np.float32]


def masked(policy: str, **changes: object) -> Manifest:
    return Manifest(
        name="masked",
        model="mlp",
        layout=small_perceptron(),
        secure_aggregation=policy,
        max_staleness=0,
        **changes,  # type: ignore[arg-type]
    )


@pytest.mark.parametrize("policy", ["withhold", "clear"])
@pytest.mark.parametrize("seed", [0, 2, 3, 4, 9])
def test_random_swarms_keep_every_promise(seed: int, policy: str) -> None:
    setting = replace(random_setting(seed), like=masked(policy))
    found = simulate(setting)
    assert not found.violations, "\n".join(map(str, found.violations))


WHOLE = {
    "model": "mlp",
    "method": "fedavg",
    "peers": 5,
    "rounds": 20,
    "split_fraction": "1",
    "data": {"kind": "digits"},
    "learning_rate": 0.1,
}
HIDDEN = {**WHOLE, "secure_aggregation": "withhold", "max_staleness": 0}


@pytest.mark.parametrize(
    "seed", [1, *(pytest.param(seed, marks=pytest.mark.soak) for seed in (2, 3, 4))]
)
def test_a_swarm_learns_whatever_goes_wrong_for_a_while(seed: int) -> None:
    """One mask that is left in a sum would be the end of the model."""
    outcome, found = simulate_training({**HIDDEN, "seed": seed}, faults="random")
    assert outcome.violations == []
    assert found is not None and found.accuracy >= 0.7


# --- In the experiment runner --------------------------------------------------------


def model_of(directory: Path, **changes: object) -> dict[str, Floats]:
    """What three rounds of an experiment make."""
    swarm = Swarm.create(Experiment.of({**WHOLE, "rounds": 3, **changes}), directory)
    for number in range(3):
        swarm.round(number)
    return swarm.values()


@pytest.mark.parametrize("policy", ["withhold", "clear"])
def test_whole_runs_end_as_without_masks(tmp_path: Path, policy: str) -> None:
    masked = {"secure_aggregation": policy, "max_staleness": 0}
    plain = model_of(tmp_path / "plain", limit=400)
    found = model_of(tmp_path / "masked", limit=400, **masked)
    for name, values in plain.items():
        np.testing.assert_allclose(found[name], values, rtol=0, atol=1e-6)


def test_sub_models_fuse_as_without_masks_where_small_groups_are_clear(
    tmp_path: Path,
) -> None:
    parts = {"method": "msfusion", "split_fraction": "1/2", "peers": 6, "limit": 400}
    masked = {"secure_aggregation": "clear", "max_staleness": 0}
    plain = model_of(tmp_path / "plain", **parts)
    found = model_of(tmp_path / "masked", **parts, **masked)
    for name, values in plain.items():
        np.testing.assert_allclose(found[name], values, rtol=0, atol=1e-6)


def test_reducers_of_a_run_receive_nothing_but_masked_values(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Captured where they arrive; beside them what the same peers contributed."""
    captured: list[NDArray[np.uint32]] = []
    plain: list[Floats] = []
    came, cut = Opening.came, Contribution.cut

    def receive(self: Opening, source: str, values: NDArray[np.uint32]) -> None:
        captured.append(values.copy())
        came(self, source, values)

    def give(*arguments: object) -> Contribution:
        given = cut(*arguments)  # type: ignore[arg-type]
        plain.append(given.values.copy())
        return given

    monkeypatch.setattr(Opening, "came", receive)
    monkeypatch.setattr(Contribution, "cut", give)
    masked = {"secure_aggregation": "withhold", "max_staleness": 0}
    model_of(tmp_path / "masked", limit=400, **masked)
    seen, values = np.concatenate(captured), np.concatenate(plain)
    assert seen.size == values.size > 50_000
    as_sent = to_ring(values, scale_for(5))
    assert (seen != as_sent).mean() > 0.999
    counts = np.bincount(seen.view(np.uint8), minlength=256)
    expected = seen.size * 4 / 256
    assert ((counts - expected) ** 2 / expected).sum() < 400
    signed = seen.view(np.int32).astype(np.float64)
    assert abs(np.corrcoef(signed, values)[0, 1]) < 6 / seen.size**0.5
