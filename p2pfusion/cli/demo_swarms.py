"""What a demo trains, where nothing else is asked for: one setting per kind of method.

Methods that cut widths train the small perceptron on its labels. Methods that cut depth
need a transformer, and those that were published for unlabelled data are shown on it.
Finetuning begins with a model that one peer has trained before, on a few examples; the
founder has the file, and the others get it from whoever has it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from p2pfusion.cli.output import Data


@dataclass(frozen=True)
class DemoSwarm:
    """A model, rounds, and the rest of the founder's ``[swarm]`` section."""

    model: str = "mlp"
    model_arguments: Data = field(default_factory=dict)
    rounds: int = 40
    swarm: Data = field(
        default_factory=lambda: {"local_epochs": 2, "learning_rate": 0.1}
    )
    pretraining: Data = field(default_factory=dict)
    """How one peer trains the model before the swarm begins; empty: not at all."""
    strong: int = 0
    """So many of the peers train the whole model, whatever the others do."""


PERCEPTRON = DemoSwarm()
"""Enough for more than 0.96 on the digits at split fraction 0.5 in every run so far:
peer ids are drawn anew in every run, and who trains what follows from their order."""

ENCODER = DemoSwarm(
    "vit",
    {
        **{"patch": 2, "width": 32, "heads": 4, "layers": 4, "inner": 64, "group": 4},
        **{"head_hidden": 64, "head_output": 32},
    },
    rounds=16,
    swarm={
        **{"objective": "moco", "optimiser": "adamw", "learning_rate": 0.003},
        **{"batch": 64, "local_epochs": 1},
    },
)
"""Four blocks in two stages, without labels."""

PRETRAINED = DemoSwarm(
    "vit",
    {"patch": 2, "width": 32, "heads": 4, "layers": 4, "inner": 64, "group": 32},
    rounds=20,
    swarm={"optimiser": "adamw", "learning_rate": 0.003, "local_epochs": 1},
    pretraining={
        **{"optimiser": "adamw", "learning_rate": 0.003, "rounds": 10, "limit": 200},
        **{"local_epochs": 2, "eval_every": 10},
    },
)
"""Pretrained on 200 examples to far above guessing, and far below what all can do."""

MASKED = DemoSwarm(
    "vit-units",
    {"patch": 2, "width": 32, "heads": 4, "layers": 4, "inner": 64, "exits": 4},
    rounds=24,
    swarm={
        **{"objective": "exits", "optimiser": "adamw", "learning_rate": 0.003},
        **{"local_epochs": 1, "max_staleness": 4},
    },
    pretraining={**PRETRAINED.pretraining, "objective": "exits"},
    strong=1,
)
"""The last block is for whoever can afford all of them."""

DEMO_SWARMS: Mapping[str, DemoSwarm] = {
    "co-s2p": MASKED,
    "layer-finetune": PRETRAINED,
    "lw-fedssl": ENCODER,
    "prog-fedssl": ENCODER,
}
"""By method; of all others it is ``PERCEPTRON``."""


def demo_swarm(method: str, model: str | None) -> DemoSwarm:
    """The setting for a method; another model has its own arguments, and labels."""
    found = DEMO_SWARMS.get(method, PERCEPTRON)
    if model is None or model == found.model:
        return found
    return DemoSwarm(model)
