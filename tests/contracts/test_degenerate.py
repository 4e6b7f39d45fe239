"""Every method is FedAvg, bit for bit, where it leaves nothing out."""

from __future__ import annotations

from pathlib import Path

import pytest
from safetensors.numpy import load_file

from p2pfusion.methods import METHODS
from p2pfusion.simulation.experiment import run

Data = dict[str, object]

DIGITS: Data = {
    **{"data": {"kind": "digits"}, "partition": {"rule": "dirichlet", "alpha": 0.5}},
    **{"peers": 3, "split_fraction": "1", "rounds": 2, "seed": 3, "batch": 16},
    **{"limit": 120, "limit_test": 100, "learning_rate": 0.005, "optimiser": "adamw"},
}
WIDE: Data = {"model": "mlp", "model_arguments": {"hidden": [16, 16]}}
VIT = {
    **{"image_size": 8, "patch": 4, "width": 16, "heads": 4, "layers": 2, "inner": 16},
}
DEEP: Data = {"model": "vit", "model_arguments": {**VIT, "group": 4}}
UNITS: Data = {"model": "vit-units", "model_arguments": {**VIT, "exits": 1}}
UNTAUGHT: Data = {"objective": "exits", "objective_arguments": {"weight": 0}}

SETTINGS: dict[str, list[tuple[Data, Data]]] = {
    "fedavg": [(WIDE, {})],
    "heterofl": [(WIDE, {})],
    "fedrolex": [(WIDE, {})],
    "federated-dropout": [(WIDE, {})],
    "msfusion": [
        (WIDE, {"method_arguments": {"shift": "tied", "start": "dense"}}),
        (WIDE, {"method_arguments": {"shift": "skewed", "start": "dense"}}),
        (WIDE, {"method_arguments": {"blocks": 1}}),
    ],
    "co-s2p": [(UNITS, {**UNTAUGHT, "method_arguments": {"merge": "mean"}})],
    "layer-finetune": [
        (DEEP, {"method_arguments": {"limit": limit}})
        for limit in ("layers", "upload", "flops")
    ],
    "lw-fedssl": [(DEEP, {"method_arguments": {"layers_per_stage": 2}})],
    "prog-fedssl": [(DEEP, {"method_arguments": {"layers_per_stage": 2}})],
}
"""By method: models, and what makes it train everything everywhere."""


def test_every_method_has_such_a_setting() -> None:
    assert SETTINGS.keys() == METHODS.keys()


@pytest.mark.parametrize(
    ("method", "model", "options"),
    [(name, *setting) for name, settings in SETTINGS.items() for setting in settings],
)
def test_it_trains_what_fedavg_trains(
    method: str, model: Data, options: Data, tmp_path: Path
) -> None:
    """The same whole model, at the same cost."""

    def trained(name: str, **told: object) -> tuple[dict[str, bytes], Data]:
        path = tmp_path / "trained.safetensors"
        specified = {**DIGITS, **model, **told, "save": str(path)}
        found = run({**specified, "method": name}, lambda message: None)
        return {key: v.tobytes() for key, v in load_file(path).items()}, found

    whole, cost = trained("fedavg")
    ours, ours_cost = trained(method, **options)
    assert ours == whole and cost["ever_trained_fraction"] == 1
    for key in ("curve", "bytes_per_peer_round", "train_flops_per_peer_round"):
        assert ours_cost[key] == cost[key]


def test_alone_a_peer_learns_the_same_with_late_averages(tmp_path: Path) -> None:
    """What arrives late is its own contribution, which it has gone on from already."""
    alone = {**DIGITS, **WIDE, "peers": 1, "rounds": 4, "method": "fedavg"}
    models = []
    for delay in (0, 1):
        path = tmp_path / f"{delay}.safetensors"
        told = {**alone, "delay": delay, "outer_momentum": 0.5, "save": str(path)}
        run(told, lambda message: None)
        models.append({key: v.tobytes() for key, v in load_file(path).items()})
    assert models[0] == models[1]
