"""A simulated swarm that really trains, while things go wrong.

The world of ``simulation/``, with its faults, checks and virtual clock, around real
stores, real sums and a real trainer for every machine: what the experiment runner is to
methods, this is to the protocol. At the end one peer exports the model, and it is
evaluated on data that nobody has trained on.

Imports torch code, so it runs in the experiment runner's process.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from p2pfusion.errors import ConfigError
from p2pfusion.methods import announcing, split_fraction
from p2pfusion.protocol.messages import PeerRecord
from p2pfusion.protocol.objectives import SELF_SUPERVISED
from p2pfusion.security import ExchangeKey
from p2pfusion.simulation.design import Experiment, experiment_setup
from p2pfusion.simulation.experiment import Tell, serve
from p2pfusion.simulation.numbers import Numbers, Read, Train, Trained
from p2pfusion.simulation.run import Outcome, Setting, simulate
from p2pfusion.simulation.specification import Fields
from p2pfusion.simulation.world import World
from p2pfusion.split.segment import Split
from p2pfusion.training.data import DataOptions, load
from p2pfusion.training.description import coding_of
from p2pfusion.training.devices import use_one_thread
from p2pfusion.training.loop import Evaluation
from p2pfusion.training.trainer import Trainer
from p2pfusion.training.whole import evaluate_full, evaluation_records


class School:
    """Trainers for all machines of a world, and their stores."""

    def __init__(
        self, experiment: Experiment, seats: int, manifest_of: Setting, directory: Path
    ) -> None:
        """``seats``: machines that may ever take part; the data is dealt to all."""
        controls = replace(experiment.controls, shares=seats)
        self._experiment = replace(experiment, peers=seats, controls=controls)
        self._manifest = manifest_of.manifest()
        self._directory = directory
        options = DataOptions.from_data({**experiment.data, "partition": None})
        coding = coding_of(self._manifest.model_arguments, self._manifest.vocabulary)
        self._records = load(options, "train", coding)
        self._trainers: dict[str, Trainer] = {}
        self._numbers: dict[str, Numbers] = {}
        self._keys: dict[str, ExchangeKey] = {}
        """Of every machine's newest life."""

    def announces(self, record: PeerRecord) -> bytes:
        """What a machine's trainer finds out, at the split fraction of its record."""
        method = announcing(self._manifest.trained_by)
        assert method is not None, "nobody asks otherwise"
        fraction = split_fraction(record.split_fraction, record.name)
        return self._trainer(record.name).announce(
            method.asks(self._manifest.layout, fraction),
            learning_rate=self._manifest.learning_rate_at(0),
            read=self._numbers[record.name].store.read,
        )

    def equip(self, name: str) -> Numbers:
        """What a new life of a machine computes with."""
        directory = self._directory / name
        directory.mkdir(exist_ok=True)
        key = self._keys[name] = ExchangeKey.generate()
        numbers = Numbers(
            name,
            directory,
            self._manifest,
            self._train(name),
            lambda other: key.shared(self._keys[other].public),
        )
        self._numbers[name] = numbers
        return numbers

    def _trainer(self, name: str) -> Trainer:
        number = int(name.removeprefix("p"))
        if name not in self._trainers:
            setup = experiment_setup(
                self._experiment,
                number,
                past=self._directory / f"past-{name}",
                owed=self._directory / name / "owed",
            )
            self._trainers[name] = Trainer(setup, records=self._records)
        return self._trainers[name]

    def _train(self, name: str) -> Train:
        trainer = self._trainer(name)

        def train(round_index: int, split: Split, read: Read) -> Trained:
            rate = self._manifest.learning_rate_at(round_index)
            done = trainer.train(
                round_index=round_index, split=split, learning_rate=rate, read=read
            )
            arrays = [array.copy() for array in done.arrays]  # a round ahead, two wait
            return Trained(arrays, done.samples, done.loss, done.norm, done.l1)

        return train


def simulate_training(
    fields: Mapping[str, object],
    *,
    faults: str,
    network: str = "local",
    policy: str = "majority",
) -> tuple[Outcome, Evaluation | None]:
    """A swarm as an experiment's specification says, under faults.

    The outcome of the simulation, and how the exported model does on held-out data;
    None if nobody could export it.
    """
    use_one_thread()
    experiment = Experiment.of(fields)
    _check(experiment)
    setting = Setting(
        peers=experiment.peers,
        rounds=experiment.manifest.rounds,
        seed=experiment.manifest.seed,
        split_fraction=experiment.split_fractions[0],
        faults=faults,
        network=network,
        policy=policy,
        like=experiment.manifest,
    )
    seats = setting.peers + setting.script().newcomer_count
    worlds: list[World] = []

    def on_world(world: World) -> None:
        world.announces = school.announces
        worlds.append(world)

    with tempfile.TemporaryDirectory(prefix="p2pfusion-sim-") as directory:
        school = School(experiment, seats, setting, Path(directory))
        outcome = simulate(setting, equip=school.equip, on_world=on_world)
    return outcome, _evaluated(experiment, worlds[0])


def _check(experiment: Experiment) -> None:
    """Refuses what only the experiment runner does."""
    if experiment.files.pretrained or experiment.files.save:
        raise ConfigError(
            "a simulation with faults neither begins with files nor saves"
        )
    if len(set(experiment.split_fractions)) > 1:
        raise ConfigError("in a simulation with faults all split fractions are equal")


def _evaluated(experiment: Experiment, world: World) -> Evaluation | None:
    manifest = experiment.manifest
    options = DataOptions.from_data({**experiment.data, "partition": None})
    coding = coding_of(manifest.model_arguments, manifest.vocabulary)
    test, _ = evaluation_records(options, coding)
    probed = manifest.objective in SELF_SUPERVISED
    labelled = load(options, "train", coding) if probed else None
    for life in world.alive():
        if life.numbers is None or life.numbers.export is None:
            continue
        found = evaluate_full(
            manifest.model,
            manifest.model_arguments,
            life.numbers.export.values(),
            test,
            labelled=labelled,
        )
        return found.result
    return None


def run(fields: Fields, tell: Tell) -> dict[str, object]:
    """For the command line: the simulation's data, and what was learned."""
    started = time.monotonic()
    rest = dict(fields)
    faults, network, policy = (
        str(rest.pop(key)) for key in ("faults", "network", "policy")
    )
    outcome, found = simulate_training(
        rest, faults=faults, network=network, policy=policy
    )
    return {
        **outcome.to_data(),
        "method": rest.get("method"),
        "model": rest["model"],
        "data": rest.get("data_name"),
        **({"accuracy": None} if found is None else found.to_data()),
        "seconds": time.monotonic() - started,
    }


if __name__ == "__main__":
    serve(run)
