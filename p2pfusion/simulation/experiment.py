"""A whole swarm's training in one process, without protocol and network.

Plan, methods, fusion, wire format, store and trainer are the daemon's own code
(``desks.py``). What is left out is what cannot change a value while nobody fails:
sockets, gossip, deadlines. All peers share one store, which is the assembled model.

This is the one module beside ``training`` that imports torch code; it runs as a process
of its own (``python -m p2pfusion.simulation.experiment``), with a specification on
standard input and JSON lines on standard output.
"""

from __future__ import annotations

import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

from p2pfusion.errors import ConfigError, P2PFusionError
from p2pfusion.methods import (
    Member,
    Method,
    PlanContext,
    build_method,
    initial_layout,
)
from p2pfusion.protocol.manifest import WIRE_DTYPE_BYTES, Manifest
from p2pfusion.protocol.objectives import SELF_SUPERVISED
from p2pfusion.simulation.desks import Desks
from p2pfusion.simulation.numbers import Assembly
from p2pfusion.simulation.saving import hash_of, save_model
from p2pfusion.simulation.specification import (
    Controls,
    Fields,
    Files,
    check_keys,
    data_table,
    optional,
    split_fractions,
    stated,
    table,
    whole,
)
from p2pfusion.split.blocks import check_blocks
from p2pfusion.split.homes import Homes
from p2pfusion.split.plan import plan_round
from p2pfusion.split.segment import Split
from p2pfusion.split.windows import check_fraction
from p2pfusion.store import Store
from p2pfusion.store.files import Floats
from p2pfusion.training.controls import FullForwardTrainer
from p2pfusion.training.cost import Meter, costs_told
from p2pfusion.training.data import DataOptions, Records, load
from p2pfusion.training.descent import Optimiser
from p2pfusion.training.examination import Examiner, Labels, examiner_for
from p2pfusion.training.loop import Schedule
from p2pfusion.training.request import parse
from p2pfusion.training.trainer import (
    Setup,
    Trainer,
    coding_of,
    describe,
    evaluation_records,
    use_one_thread,
)

Tell = Callable[[dict[str, object]], None]
SEED_BITS = 32
"""Seeds of experiments are smaller, so no two swarms begin alike by accident."""


@dataclass(frozen=True)
class Experiment:
    """What is trained, by how many, and how often it is looked at."""

    manifest: Manifest
    peers: int
    split_fractions: tuple[Fraction, ...]
    """One for each peer."""
    data: Fields
    data_name: str
    eval_every: int
    controls: Controls
    files: Files
    labels: Labels

    @classmethod
    def of(cls, fields: Fields) -> Experiment:
        """From a specification; missing keys have the manifest's defaults.

        ``ConfigError`` names a key that is missing, unknown or wrong.
        """
        check_keys(fields)
        data, files = data_table(fields), Files.of(fields)
        options = DataOptions.from_data({**data, "partition": None})
        described = describe(
            str(fields["model"]),
            table(fields, "model_arguments"),
            options,
            table(fields, "vocabulary"),
        )
        method = build_method(
            str(fields.get("method", Manifest.method)),
            table(fields, "method_arguments"),
        )
        manifest = Manifest(
            name="experiment",
            model=str(fields["model"]),
            model_arguments=described.arguments,
            vocabulary=described.vocabulary,
            layout=initial_layout(method, described.layout),
            pretrained=hash_of(files.pretrained),
            **stated(fields),  # type: ignore[arg-type]
        )
        data["partition"] = table(fields, "partition")
        peers = whole(fields, "peers")
        return cls(
            manifest=manifest,
            peers=peers,
            controls=Controls.of(fields, peers),
            files=files,
            labels=Labels(
                optional(fields, "probe_labels"), optional(fields, "fine_tune_labels")
            ),
            split_fractions=split_fractions(fields["split_fraction"], peers),
            data=data,
            data_name=str(fields.get("data_name", data.get("kind"))),
            eval_every=optional(fields, "eval_every") or 1,
        )


@dataclass
class Swarm:
    """The state between two rounds."""

    experiment: Experiment
    directory: Path
    method: Method
    store: Store
    trainers: list[Trainer]
    records: Records
    """Of the training part, of which every trainer has a share."""
    test: Records
    homes: Homes
    context: PlanContext
    meter: Meter
    sent_bytes: int = 0

    @classmethod
    def create(cls, experiment: Experiment, directory: Path, number: int = 0) -> Swarm:
        """Loads the data once, deals it out, and makes the store.

        Swarms of one experiment with other numbers have other initial values.
        """
        manifest = experiment.manifest
        layout = manifest.layout
        for fraction in set(experiment.split_fractions):
            check_fraction(layout, fraction, "split fraction")
            check_blocks(layout, fraction, "split fraction")
        options = DataOptions.from_data({**experiment.data, "partition": None})
        coding = coding_of(manifest.model_arguments, manifest.vocabulary)
        records = load(options, "train", coding)
        assert records is not None, "every loader has a training part"
        test, _ = evaluation_records(options, coding)
        kind = FullForwardTrainer if experiment.controls.full_forward else Trainer
        trainers = [
            kind(experiment_setup(experiment, peer), records=records)
            for peer in range(experiment.peers)
        ]
        fractions = enumerate(experiment.split_fractions)
        roster = tuple(Member(_name(number), each) for number, each in fractions)
        return cls(
            experiment=experiment,
            directory=directory,
            method=build_method(manifest.method, manifest.method_arguments),
            store=Store.create(
                directory / f"store-{number}",
                layout,
                manifest.seed + (number << SEED_BITS),
                experiment.files.pretrained,
            ),
            trainers=trainers,
            records=records,
            test=test,
            homes=Homes.initial(layout),
            context=PlanContext(manifest.seed, manifest.rounds, layout, roster),
            meter=Meter(
                manifest.model,
                manifest.model_arguments,
                layout,
                test,
                batch=manifest.batch,
                objective=manifest.objective,
            ),
        )

    def splits(self, round_index: int) -> dict[str, Split]:
        """The splits of all who train in a round."""
        chosen = self.experiment.controls.chosen(
            self.experiment.manifest.seed, round_index, self.experiment.peers
        )
        return {
            self.context.roster[rank].peer: self.method.split(
                self.context, round_index, rank
            )
            for rank in chosen
        }

    def round(self, round_index: int) -> float:
        """One round of everybody; the mean training loss."""
        manifest = self.experiment.manifest
        current = self.splits(round_index)
        plan = plan_round(
            manifest.layout,
            seed=manifest.seed,
            round_index=round_index,
            current=current,
            following=self.splits(round_index + 1),
            homes=self.homes,
        )
        desks = Desks(plan, self.store, self.homes, manifest.wire_dtype)
        by_samples = manifest.weighting == "samples"
        losses, weights = [], {}
        for number, trainer in enumerate(self.trainers):
            peer = _name(number)
            if peer in current:
                split = current[peer]
                losses.append(self._train(trainer, desks, peer, round_index, split))
                weights[peer] = float(trainer.samples) if by_samples else 1.0
        desks.fuse(weights)
        self.store.flush(durable=False)
        self.homes = plan.homes_after()
        elements = sum(plan.elements_sent(peer) for peer in plan.peers)
        self.sent_bytes += elements * WIRE_DTYPE_BYTES[manifest.wire_dtype]
        return sum(losses) / len(losses)

    def _train(
        self,
        trainer: Trainer,
        desks: Desks,
        peer: str,
        round_index: int,
        split: Split,
    ) -> float:
        manifest = self.experiment.manifest
        trained = trainer.train(
            round_index=round_index,
            split=split,
            learning_rate=manifest.learning_rate_at(round_index),
            read=self.store.read,
        )
        desks.offer(peer, self.directory / f"{peer}.f32", trained.arrays, split)
        if self.experiment.controls.full_forward:
            split = Split.full(manifest.layout)
        by_steps = trained.steps * manifest.batch
        by_epochs = trainer.samples * manifest.local_epochs
        seen = by_steps if manifest.local_steps else by_epochs
        self.meter.count(split, trained.frozen, seen)
        return trained.loss

    def values(self) -> dict[str, Floats]:
        """The assembled model, by parameter name."""
        return Assembly(self.store).values()


@dataclass
class Course:
    """The swarms of an experiment, one unless they are an ensemble, round by round."""

    experiment: Experiment
    swarms: list[Swarm]
    examiner: Examiner
    curve: list[dict[str, object]] = field(default_factory=list)
    beside: dict[str, object] = field(default_factory=dict)
    """What the examiner says beside the curve."""

    @classmethod
    def create(cls, experiment: Experiment, directory: Path) -> Course:
        """Everything is ready; ``ConfigError`` for what cannot be looked at."""
        manifest, count = experiment.manifest, experiment.controls.ensemble
        if count > 1 and manifest.objective in SELF_SUPERVISED:
            raise ConfigError("encoders without labels do not answer as an ensemble")
        swarms = [Swarm.create(experiment, directory, n) for n in range(count)]
        model, arguments = manifest.model, manifest.model_arguments
        examiner = examiner_for(
            manifest.objective,
            Examiner(model, arguments, swarms[0].test),
            labelled=swarms[0].records,
            labels=experiment.labels,
            seed=manifest.seed,
        )
        return cls(experiment, swarms, examiner)

    def run(self, tell: Tell) -> None:
        """All rounds."""
        rounds = self.experiment.manifest.rounds
        self.beside |= self.examiner.before(self.swarms[0].values())
        for done in range(1, rounds + 1):
            losses = [swarm.round(done - 1) for swarm in self.swarms]
            if done % self.experiment.eval_every == 0 or done == rounds:
                found = self.examiner.evaluate([s.values() for s in self.swarms])
                point: dict[str, object] = {
                    "round": done,
                    "loss": sum(losses) / len(losses),
                    **found.to_data(),
                }
                self.curve.append(point)
                tell({"event": "round", "rounds": rounds, **point})
        self.beside |= self.examiner.after(self.swarms[0].values())

    def result(self, seconds: float) -> dict[str, object]:
        """The data of ``p2pfusion sim --train``."""
        experiment, manifest = self.experiment, self.experiment.manifest
        peer_rounds = experiment.peers * manifest.rounds
        last, homes = self.curve[-1], self.swarms[0].homes
        sent_bytes = sum(swarm.sent_bytes for swarm in self.swarms)
        return {
            "method": manifest.method,
            "method_arguments": manifest.method_arguments,
            "objective": manifest.objective,
            "model": manifest.model,
            "data": experiment.data_name,
            "peers": experiment.peers,
            "rounds": manifest.rounds,
            "split_fraction": float(statistics.mean(experiment.split_fractions)),
            "seed": manifest.seed,
            "accuracy": last["accuracy"],
            "loss": last["test_loss"],
            **{key: last[key] for key in ("perplexity",) if key in last},
            **self.beside,
            "curve": self.curve,
            "ever_trained_fraction": homes.ever_trained_fraction(manifest.layout),
            "bytes_per_peer_round": sent_bytes / peer_rounds,
            **costs_told([swarm.meter for swarm in self.swarms], peer_rounds),
            "full_model_parameters": manifest.layout.size * len(self.swarms),
            "seconds": seconds,
        }


def experiment_setup(experiment: Experiment, number: int) -> Setup:
    """What the trainer of one of an experiment's peers is told."""
    manifest = experiment.manifest
    share = f"{number}/{experiment.controls.shares}"
    partition = {**table(experiment.data, "partition"), "share": share}
    return Setup(
        model=manifest.model,
        arguments=manifest.model_arguments,
        vocabulary=manifest.vocabulary,
        augment=manifest.augment,
        layout=manifest.layout,
        seed=manifest.seed,
        schedule=Schedule(
            batch=manifest.batch,
            epochs=manifest.local_epochs,
            steps=manifest.local_steps or None,
        ),
        data=DataOptions.from_data({**experiment.data, "partition": partition}),
        optimiser=Optimiser.from_data(manifest.step_settings),
        outer_momentum=manifest.outer_momentum,
        objective=manifest.objective_options,
    )


def _name(number: int) -> str:
    return f"peer-{number:04}"


def run(fields: Fields, tell: Tell) -> dict[str, object]:
    """Runs an experiment in this process."""
    started = time.monotonic()
    use_one_thread()
    with tempfile.TemporaryDirectory(prefix="p2pfusion-experiment-") as directory:
        experiment = Experiment.of(fields)
        course = Course.create(experiment, Path(directory))
        course.run(tell)
        save_model(course.swarms[0].store, experiment.manifest, experiment.files.save)
        return course.result(time.monotonic() - started)


def serve(run: Callable[[Fields, Tell], dict[str, object]]) -> None:
    """One specification on standard input, JSON lines out."""

    def tell(message: dict[str, object]) -> None:
        print(json.dumps(message), flush=True)

    try:
        tell({"result": run(parse(sys.stdin.readline(), "experiment"), tell)})
    except P2PFusionError as error:
        failed = {"name": error.name, "message": error.message, "hint": error.hint}
        tell({"failed": failed})


if __name__ == "__main__":
    serve(run)
