"""Layer finetuning and start values from files, in the experiment runner."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from p2pfusion.errors import ConfigError
from p2pfusion.methods import Member
from p2pfusion.simulation.design import Experiment
from p2pfusion.simulation.experiment import run
from p2pfusion.simulation.swarm import Swarm
from p2pfusion.split.hops import Hop
from p2pfusion.split.plan import plan_round
from p2pfusion.store import read_checkpoint
from p2pfusion.store.checksum import file_hash
from tests.end_to_end.programs import ROOT
from tests.simulation.test_experiment import DEEP, SPECIFICATION

Data = dict[str, object]
Values = dict[str, np.ndarray]

FINETUNING: Data = {
    **SPECIFICATION,
    **DEEP,
    "method": "layer-finetune",
    "weight_decay": 0.1,
    "peers": 2,
    "limit": 120,
    "limit_test": 60,
}


def result(**changes: object) -> Data:
    return run({**FINETUNING, **changes}, lambda message: None)


def layers(swarm: Swarm) -> dict[str, int]:
    return {p.name: p.layer for p in swarm.experiment.manifest.layout.parameters}


@pytest.mark.parametrize(
    ("fraction", "trained"), [("1/3", {3}), ("1/2", {2, 3}), ("1", {0, 1, 2, 3})]
)
def test_what_is_below_stays_as_it_is_bit_for_bit(
    fraction: str, trained: set[int], tmp_path: Path
) -> None:
    specified = {**FINETUNING, "split_fraction": fraction}
    swarm = Swarm.create(Experiment.of(specified), tmp_path)
    before = swarm.values()
    for number in range(2):
        swarm.round(number)
    after = swarm.values()
    for name, layer in layers(swarm).items():
        assert (before[name] != after[name]).any() == (layer in trained), name
    # Nothing of what is frozen is offered, or asked for.
    everything = Swarm.create(
        Experiment.of({**FINETUNING, "method": "fedavg"}), tmp_path, 1
    )
    everything.round(0)
    share = sum(
        p.size
        for p in swarm.experiment.manifest.layout.parameters
        if p.layer in trained
    )
    assert swarm.sent_bytes * everything.experiment.manifest.layout.size == (
        2 * everything.sent_bytes * share
    )


class Spy:
    """Notes the values that a trainer begins each round with."""

    def __init__(self, swarm: Swarm, number: int) -> None:
        self.seen: list[Values] = []
        trainer, layout = swarm.trainers[number], swarm.experiment.manifest.layout
        train = trainer.train

        def watched(**given: object) -> object:
            split, read = given["split"], given["read"]
            segments = split.segments(layout)  # type: ignore[attr-defined]
            pairs = zip(layout.parameters, segments, strict=True)
            self.seen.append({p.name: read(s).copy() for p, s in pairs})  # type: ignore[operator]
            return train(**given)  # type: ignore[arg-type]

        trainer.train = watched  # type: ignore[method-assign, assignment]


def test_a_weak_peer_gets_what_a_strong_one_has_trained(tmp_path: Path) -> None:
    """The second trains only the head, and holds what the first does with the rest."""
    specified = {**FINETUNING, "split_fraction": "1,1/3", "rounds": 3}
    swarm = Swarm.create(Experiment.of(specified), tmp_path)
    strong, weak = swarm.context.roster
    assert (strong, weak) == (
        Member("peer-0000", strong.split_fraction),
        Member("peer-0001", weak.split_fraction),
    )
    assert strong.split_fraction == 3 * weak.split_fraction
    splits = swarm.splits(0)
    assert not splits[strong.peer].frozen and len(splits[weak.peer].frozen) == 3
    plan = plan_round(
        swarm.experiment.manifest.layout,
        seed=3,
        round_index=0,
        current=splits,
        following=swarm.splits(1),
        homes=swarm.homes,
    )
    assert len(plan.ranges(Hop.FUSED, source=strong.peer, target=weak.peer))
    begins = Spy(swarm, 1)
    ends: list[Values] = []
    offer = swarm.trainers[0].train

    def noted(**given: object) -> object:
        trained = offer(**given)  # type: ignore[arg-type]
        names = [p.name for p in swarm.experiment.manifest.layout.parameters]
        ends.append({n: a.copy() for n, a in zip(names, trained.arrays, strict=True)})
        return trained

    swarm.trainers[0].train = noted  # type: ignore[method-assign, assignment]
    for number in range(3):
        swarm.round(number)
    for before, then in zip(ends[:2], begins.seen[1:], strict=True):
        for name, layer in layers(swarm).items():
            same = np.array_equal(before[name], then[name])
            assert same == (layer != 3), name  # the head is the mean of both


# --- Files ---------------------------------------------------------------------------


def pretrain(path: Path, **changes: object) -> Data:
    """As the documents say that a model of the pool is made."""
    alone = {"peers": 1, "method": "fedavg", "split_fraction": "1"}
    return result(**alone, **changes, save=str(path))


def test_a_saved_model_is_where_finetuning_begins(tmp_path: Path) -> None:
    file = tmp_path / "pretrained.safetensors"
    found = pretrain(file)
    values, told = read_checkpoint(file)
    assert (told["model"], told["objective"]) == ("vit", "task")
    assert json.loads(told["model_arguments"])["layers"] == 2
    specified = {**FINETUNING, "pretrained": str(file), "seed": 8, "rounds": 1}
    swarm = Swarm.create(Experiment.of(specified), tmp_path)
    assert swarm.experiment.manifest.pretrained == file_hash(file)
    began = swarm.values()
    assert began.keys() == values.keys()
    assert all(np.array_equal(began[name], values[name]) for name in values)
    swarm.round(0)
    after = swarm.values()
    for name, layer in layers(swarm).items():
        assert (after[name] != values[name]).any() == (layer in (2, 3))
    assert found["curve"] and len(values) == len(after)


def test_another_model_is_refused_by_the_name_of_a_tensor(tmp_path: Path) -> None:
    file = tmp_path / "pretrained.safetensors"
    pretrain(file)
    arguments = {**DEEP["model_arguments"], "layers": 3}  # type: ignore[dict-item]
    with pytest.raises(ConfigError, match=r"'blocks\.2\.\S+' of .* is not there"):
        result(pretrained=str(file), model_arguments=arguments)
    with pytest.raises(ConfigError, match="begins silent"):
        result(pretrained=str(file), method="msfusion")


@pytest.mark.slow
def test_the_commands_of_the_documents(tmp_path: Path) -> None:
    """Pretrain, look at it, put it into a pool, finetune: processes as a user has."""
    file, home = tmp_path / "pretrained.safetensors", tmp_path / "home"
    model = json.dumps(DEEP["model_arguments"])
    common = ["--train", "--model", "vit", "--model-arguments", model, "--rounds", "1"]
    common += ["--limit", "100", "--limit-test", "50", "--optimiser", "adamw"]
    alone = ["--peers", "1", "--method", "fedavg", "--split-fraction", "1"]
    command("sim", *common, *alone, "--save", str(file))
    added = command("pool", "add", str(file), "--home", str(home))
    assert added["hash"] == file_hash(file)
    (row,) = command("pool", "ls", "--home", str(home))["pool"]  # type: ignore[misc]
    assert (row["hash"], row["model"], row["verified"]) == (added["hash"], "vit", True)
    mixed = ["--peers", "2", "--method", "layer-finetune", "--split-fraction", "1/2,1"]
    again = tmp_path / "finetuned.safetensors"
    found = command(
        "sim", *common, *mixed, "--pretrained", str(file), "--save", str(again)
    )
    assert (found["method"], found["split_fraction"]) == ("layer-finetune", 0.75)
    before, after = (read_checkpoint(path)[0] for path in (file, again))
    assert before.keys() == after.keys()
    told = command("evaluate", str(again), "--data", "digits")
    assert told["model"] == "vit"


def command(*arguments: str) -> Data:
    """What a command of the program answers."""
    done = subprocess.run(
        [sys.executable, "cli.py", *arguments, "--json"],
        capture_output=True,
        text=True,
        cwd=ROOT,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    found: Data = json.loads(done.stdout)["data"]
    return found
