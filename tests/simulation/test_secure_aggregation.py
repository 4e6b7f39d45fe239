"""Simulated swarms with secure aggregation: random faults, real masks, same values."""

from __future__ import annotations

from dataclasses import replace

import pytest

from p2pfusion.protocol.manifest import Manifest
from p2pfusion.simulation.run import simulate, small_perceptron
from p2pfusion.simulation.seeds import random_setting
from p2pfusion.simulation.trained import simulate_training


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


@pytest.mark.parametrize("seed", [1, 2])
def test_real_arrays_lack_what_the_model_of_them_lacks(seed: int) -> None:
    specified = {
        "model": "mlp",
        "method": "fedavg",
        "peers": 4,
        "rounds": 8,
        "split_fraction": "1",
        "data": {"kind": "digits"},
        "limit": 200,
        "limit_test": 100,
        "local_steps": 2,
        "seed": seed,
        "secure_aggregation": "withhold",
        "max_staleness": 0,
    }
    outcome, found = simulate_training(specified, faults="random")
    assert outcome.violations == []
    assert found is not None
