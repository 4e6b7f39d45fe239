"""On each benchmark task real daemons train the curve of the experiment runner.

The runner has no network, no protocol and no second process. If nobody fails, the same
seed gives the same losses in every round, and the same model, to float tolerance.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest

from p2pfusion.daemon.presets import suited
from p2pfusion.simulation.design import Experiment
from p2pfusion.simulation.experiment import Course
from tests.end_to_end.swarm import DIRICHLET, Daemon, Swarm, exported

pytestmark = [pytest.mark.slow, pytest.mark.soak]

PEERS = 3
Table = Mapping[str, object]


@dataclass(frozen=True)
class Task:
    """What one of the tasks is, small enough for three rounds on one core."""

    data: str
    model: str
    model_arguments: Table
    partition: Table = field(default_factory=lambda: DIRICHLET)
    others: Table = field(default_factory=dict)
    limit: int = 384


SENTENCES: Table = {
    **{"length": 16, "width": 32, "heads": 8, "layers": 1, "inner": 64},
    "group": 4,
}
TASKS = {
    "fashion": Task(
        "fashion-mnist",
        "cnn",
        {"channels": [16, 16]},
        # Blocks stay for two rounds, so the second has a velocity.
        others={"method_arguments": {"dwell": 2}, "outer_momentum": 0.5},
    ),
    "cifar": Task("cifar10-jpeg", "resnet18", {"width": 16}, limit=96),
    "shakespeare": Task(
        "tiny-shakespeare",
        "transformer",
        SENTENCES,
        {"rule": "by-document"},
        {"optimiser": "adamw", "vocabulary": {"level": "character"}},
    ),
    "sst2": Task(
        "sst2",
        "transformer-classifier",
        SENTENCES,
        others={"optimiser": "adamw", "vocabulary": {"size": 512}},
    ),
    "without labels": Task(
        "fashion-mnist",
        "vit",
        {
            **{"patch": 7, "width": 16, "heads": 4, "layers": 2, "inner": 32},
            **{"group": 4, "head_hidden": 32, "head_output": 16},
        },
        others={
            **{"method": "lw-fedssl", "method_arguments": {"layers_per_stage": 1}},
            **{"objective": "moco", "optimiser": "adamw"},
        },
    ),
}


def started(swarm: Swarm, task: Task, settings: Table) -> list[Daemon]:
    """A swarm of this task's daemons, each with a quarter of the widths."""
    made = []
    for number in range(PEERS):
        partition = {**task.partition, "share": f"{number}/{PEERS}"}
        data = {"kind": task.data, "partition": partition, "limit": task.limit}
        told = {"name": "curve", "min_peers": PEERS, "deadline_min_s": 60.0}
        made.append(
            swarm.add(
                peer={"split_fraction": 0.25},
                data={**data, "validation": 0.0},
                swarm=None if number else {**settings, **told},
            )
        )
    founder, *others = made
    founder.start()
    ticket = founder.ticket(uses=len(others))
    for daemon in others:
        daemon.start("--join", ticket)
    return made


@pytest.mark.parametrize("name", TASKS)
def test_daemons_train_the_curve_of_the_runner(
    name: str, swarm: Swarm, tmp_path: Path, benchmark_data: Path
) -> None:
    task = TASKS[name]
    settings = {
        "model": task.model,
        "model_arguments": task.model_arguments,
        "rounds": 3,
        "batch": 16,
        "learning_rate": 0.01 if "optimiser" in task.others else 0.1,
        "seed": 7,
        **task.others,
    }
    daemons = started(swarm, task, settings)
    for daemon in daemons:
        daemon.wait("done")
    told = [daemon.rounds() for daemon in daemons]

    fields = {
        **settings,
        "peers": PEERS,
        "split_fraction": "1/4",
        "data": {"kind": task.data},
        "partition": task.partition,
        "limit": task.limit,
        "limit_test": 64,
    }
    course = Course.create(Experiment.of(suited(fields)), tmp_path)
    course.run(lambda message: None)

    by_round = zip(*told, strict=True)
    losses = [np.mean([row["loss"] for row in rows]) for rows in by_round]
    np.testing.assert_allclose(losses, [p["loss"] for p in course.curve], rtol=1e-5)
    found = exported(daemons[1], tmp_path / "model.safetensors")
    (runner,) = course.swarms
    for key, true in runner.values().items():
        np.testing.assert_allclose(found[key], true, rtol=1e-4, atol=1e-6)
