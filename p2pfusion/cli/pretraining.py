"""The model that a demo's swarm begins with, where its method finetunes one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from p2pfusion.cli.experiment import RUNNER, run_experiment
from p2pfusion.cli.output import Data


@dataclass(frozen=True)
class Pretrained:
    """A checkpoint, and what it is worth before anybody finetunes it."""

    file: Path
    accuracy: float
    """On the examples that the finetuned model is evaluated on, too."""


def pretrain(
    model: str,
    arguments: Data,
    data: Data,
    settings: Mapping[str, object],
    *,
    seed: int,
    file: Path,
) -> Pretrained:
    """One peer trains the whole model, by ``sim --train`` with these settings."""
    specified: Data = {
        **{"model": model, "model_arguments": arguments, "data": data, "seed": seed},
        **{"method": "fedavg", "split_fraction": "1", "peers": 1},
        **{"save": str(file.absolute()), **settings},
    }
    result = run_experiment(specified, runner=RUNNER, quiet=True)
    accuracy = result["accuracy"]
    assert isinstance(accuracy, float)
    return Pretrained(file, accuracy)
