"""Simulated swarms with real numbers: they learn, also while things go wrong."""

from __future__ import annotations

import numpy as np
import pytest

from p2pfusion.errors import ConfigError
from p2pfusion.methods import METHODS
from p2pfusion.protocol import events as e
from p2pfusion.protocol.messages import PeerRecord
from p2pfusion.simulation.numbers import Assembly, Numbers
from p2pfusion.simulation.trained import School, simulate_training


def digits(seed: int, rounds: int) -> dict[str, object]:
    return {
        "model": "mlp",
        "peers": 4,
        "rounds": rounds,
        "split_fraction": "0.5",
        "data": {"kind": "digits"},
        "partition": {"rule": "dirichlet", "alpha": 0.5},
        "seed": seed,
    }


def test_a_swarm_without_faults_learns_the_digits() -> None:
    outcome, found = simulate_training(digits(0, 15), faults="none")
    assert outcome.violations == []
    assert found is not None and found.accuracy >= 0.9


@pytest.mark.parametrize(
    "seed",
    [*(1, 2, 3), *(pytest.param(seed, marks=pytest.mark.soak) for seed in (4, 5, 6))],
)
def test_a_swarm_learns_whatever_goes_wrong_for_a_while(seed: int) -> None:
    outcome, found = simulate_training(digits(seed, 30), faults="random")
    assert outcome.violations == []
    # Of four peers some miss a third of the rounds; guessing would give a tenth.
    assert found is not None and found.accuracy >= 0.8


DEEP: dict[str, object] = {
    **{"image_size": 8, "patch": 4, "width": 16, "heads": 4, "layers": 2, "inner": 16},
}
HEADS = {"group": 4, "head_hidden": 16, "head_output": 16, "predictor": True}
MOCO = {"model": "vit", "model_arguments": {**DEEP, **HEADS}, "objective": "moco"}
MODELS: dict[str, dict[str, object]] = {
    "co-s2p": {"model": "vit-units", "model_arguments": {**DEEP, "layers": 4}},
    "layer-finetune": {"model": "vit", "model_arguments": {**DEEP, "group": 4}},
    "lw-fedssl": MOCO,
    "prog-fedssl": MOCO,
}
"""What each method trains here, if not an mlp."""


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    "seed", [3, *(pytest.param(n, marks=pytest.mark.soak) for n in (4, 5))]
)
def test_every_method_keeps_its_promises_whatever_goes_wrong(
    method: str, seed: int
) -> None:
    """Among them: real arrays lack what the simulator's model of them lacks."""
    settings = {"method": method, "limit": 200, "limit_test": 100, "local_steps": 2}
    specified = {**digits(seed, 8), **settings, **MODELS.get(method, {})}
    outcome, _ = simulate_training(specified, faults="random")
    assert outcome.violations == []


@pytest.mark.parametrize(
    "wire_dtype",
    [
        "int8",
        pytest.param("top-k", marks=pytest.mark.soak),
        pytest.param("bfloat16", marks=pytest.mark.soak),
    ],
)
def test_streams_of_few_bits_are_as_modelled_whatever_goes_wrong(
    wire_dtype: str,
) -> None:
    told = {**digits(3, 15), "wire_dtype": wire_dtype}
    outcome, found = simulate_training(told, faults="random")
    assert outcome.violations == []
    assert found is not None and found.accuracy >= 0.8


@pytest.mark.parametrize(
    ("more", "told"),
    [
        ({"save": "all.safetensors"}, "neither begins with files nor saves"),
        ({"split_fraction": "1/2,1"}, "all split fractions are equal"),
    ],
)
def test_what_only_experiments_do_is_refused(
    more: dict[str, object], told: str
) -> None:
    with pytest.raises(ConfigError, match=told):
        simulate_training({**digits(0, 2), **more}, faults="none")


def test_the_same_seed_trains_the_same_model() -> None:
    first, second = (
        simulate_training(digits(2, 12), faults="random") for _ in range(2)
    )
    assert first[0].event_log_hash == second[0].event_log_hash
    assert first[1] == second[1]


def test_machines_announce_masks_that_their_trainers_have_learned(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    found: dict[str, bytes] = {}
    announces = School.announces

    def remembered(self: School, record: PeerRecord) -> bytes:
        found[record.name] = announces(self, record)
        return found[record.name]

    monkeypatch.setattr(School, "announces", remembered)
    small = {"image_size": 8, "patch": 4, "width": 8, "heads": 2, "layers": 2}
    specified = {
        **{**digits(3, 6), "limit": 60, "limit_test": 50, "peers": 2},
        **{"model": "vit-units", "method": "co-s2p"},
        "model_arguments": {**small, "inner": 8, "exits": 2},
        "method_arguments": {"mask_epochs": 1, "merge": "mean"},
    }
    outcome, _ = simulate_training(specified, faults="none")
    assert outcome.violations == [] and outcome.rounds_completed_min == 6
    assert set(found) == {"p0", "p1"} and all(found.values())
    assert found["p0"] != found["p1"]
    static = {**specified, "method_arguments": {"mask": "static", "merge": "mean"}}
    plain, _ = simulate_training(static, faults="none")
    assert plain.event_log_hash != outcome.event_log_hash


def test_all_have_what_an_elected_peer_has_made_of_frozen_layers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Each in its own store; without an election these stay as they were."""
    machines: dict[str, Numbers] = {}
    equip = School.equip

    def remembered(self: School, name: str) -> Numbers:
        machines[name] = equip(self, name)
        return machines[name]

    monkeypatch.setattr(School, "equip", remembered)
    kept: list[dict[str, np.ndarray]] = []
    small = {"image_size": 8, "patch": 4, "width": 8, "heads": 2, "layers": 2}
    for calibration in ("none", "elected"):
        outcome, _ = simulate_training(
            {
                **{**digits(3, 6), "limit": 60, "limit_test": 50, "peers": 3},
                **{"model": "vit", "method": "lw-fedssl"},
                "model_arguments": {**small, "inner": 8, "group": 4},
                "method_arguments": {"layers_per_stage": 1, "calibration": calibration},
            },
            faults="none",
        )
        assert outcome.violations == [] and outcome.rounds_completed_min == 6
        first, *others = (Assembly(each.store).values() for each in machines.values())
        assert len(others) == 2
        for other in others:
            assert all(np.array_equal(first[name], other[name]) for name in first)
        kept.append(first)
    plain, calibrated = kept
    for name in ("patches.weight", "blocks.0.up.weight"):
        assert not np.array_equal(plain[name], calibrated[name])


def test_a_stream_that_is_not_as_modelled_is_found(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    start = Numbers.start

    def shorter(self: Numbers, effect: e.SendStart) -> tuple[int, bytes]:
        size, absent = start(self, effect)
        return (size - 4, absent) if effect.stream.hop == "fused" else (size, absent)

    monkeypatch.setattr(Numbers, "start", shorter)
    outcome, _ = simulate_training(digits(0, 4), faults="none")
    assert {found.check for found in outcome.violations} >= {"model"}
