"""The peers of an experiment: trainers with a share of the data each, in one process.

Plan, methods, fusion, wire format, store and trainer are the daemon's own code
(``desks.py``). What is left out is what cannot change a value while nobody fails:
sockets, gossip, deadlines. All peers share one store, which is the assembled model.
Announcements count from the first round on. Where a method closes rounds at a quorum,
who is late is found by a virtual clock (``clock.py``).

This is one of the modules beside ``training`` that import torch code.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from p2pfusion.daemon.hidden_payloads import owed_of
from p2pfusion.errors import NonFiniteError
from p2pfusion.methods import (
    Member,
    Method,
    PlanContext,
    announcing,
    sharing,
    skipping,
)
from p2pfusion.methods.base import Update
from p2pfusion.simulation.attacks import Hostile
from p2pfusion.simulation.clock import Clock
from p2pfusion.simulation.design import Experiment, experiment_setup
from p2pfusion.simulation.desks import Desks
from p2pfusion.simulation.numbers import Assembly
from p2pfusion.simulation.watch import Watch
from p2pfusion.split.blocks import check_blocks
from p2pfusion.split.coverage import contributed_bytes, traffic
from p2pfusion.split.homes import Homes
from p2pfusion.split.plan import ExchangePlan, plan_round
from p2pfusion.split.segment import Split
from p2pfusion.split.windows import check_fraction
from p2pfusion.store import Owed, Store, reading_from, write_offer
from p2pfusion.store.files import Floats
from p2pfusion.training.controls import FullForwardTrainer
from p2pfusion.training.cost import Meter
from p2pfusion.training.data import DataOptions, Records, load
from p2pfusion.training.data.mislabelling import flip_labels
from p2pfusion.training.description import coding_of
from p2pfusion.training.trainer import Trainer
from p2pfusion.training.whole import evaluation_records

SEED_BITS = 32
"""Seeds of experiments are smaller, so no two swarms begin alike by accident."""


@dataclass(frozen=True)
class Work:
    """What a peer has trained, from the values of one round."""

    base_round: int
    split: Split
    path: Path
    since: Path | None
    """The own work from which it went on, if it did (``protocol/delay.py``)."""
    samples: int
    loss: float
    l1: float


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
    clock: Clock
    owed: Mapping[str, Owed | None]
    """Of each peer, what its contributions have lost, if they lose something."""
    hostile: Hostile | None
    watch: Watch
    works: dict[int, Work] = field(default_factory=dict)
    """Of each peer by number, its last one."""
    moved: list[float] = field(default_factory=list)
    """How far the model has moved in each round, as a sum of magnitudes."""
    sent_bytes: int = 0
    too_late: int = 0
    """Updates that were too old for any round."""

    @classmethod
    def create(cls, experiment: Experiment, directory: Path, number: int = 0) -> Swarm:
        """Loads the data once, deals it out, and makes the store; peers announce what
        the method lets them find out.

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
        past, owed = directory / f"past-{number}", directory / f"owed-{number}"
        setups = (
            experiment_setup(
                experiment, peer, past=past / _name(peer), owed=owed / _name(peer)
            )
            for peer in range(experiment.peers)
        )
        trainers = [kind(setup, records=records) for setup in setups]
        store = Store.create(
            directory / f"store-{number}",
            layout,
            manifest.seed + (number << SEED_BITS),
            experiment.files.pretrained,
        )
        roster = announced(experiment, trainers, store)
        return cls(
            experiment=experiment,
            directory=directory,
            method=manifest.trained_by,
            store=store,
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
                options=manifest.objective_arguments,
                depth_dropout=skipping(manifest.trained_by),
            ),
            clock=Clock(experiment.slowness),
            owed={
                member.peer: owed_of(manifest, owed / member.peer) for member in roster
            },
            hostile=enlisted(experiment, trainers, records.traits.classes),
            watch=Watch.over(manifest, roster, acts=experiment.threat.quarantine),
        )

    def splits(self, round_index: int) -> dict[str, Split]:
        """The splits of all who train in a round, or still do in one before."""
        chosen = self._chosen(round_index) | self.clock.at_work
        return {
            self.context.roster[rank].peer: self.method.split(
                self.context, round_index, rank
            )
            for rank in sorted(chosen)
        }

    def _chosen(self, round_index: int) -> frozenset[int]:
        experiment = self.experiment
        drawn = experiment.controls.chosen(
            experiment.manifest.seed, round_index, experiment.peers
        )
        return frozenset(n for n in drawn if _name(n) not in self.watch.put_out)

    def round(self, round_index: int) -> float:
        """One round; the mean training loss of those whose updates are in it."""
        manifest = self.experiment.manifest
        current = self.splits(round_index)
        for number in sorted(self._chosen(round_index) - self.clock.at_work):
            self._train(number, round_index, current[_name(number)])
        self._tamper(round_index)
        arrived = self._arrived(round_index)
        plan = plan_round(
            manifest.layout,
            seed=manifest.seed,
            round_index=round_index,
            current=current,
            following=self.splits(round_index + 1),
            homes=self.homes,
            # Nobody dies here, so copies are only traffic; but whoever keeps one of
            # what nobody holds next compares it, where reducers are checked.
            replication=manifest.replication if manifest.weighs else 0,
            among_holders=manifest.sends_changes,
        )
        self._fuse(plan, arrived)
        self.homes = plan.homes_after()
        wire = manifest.wire
        sent = sum(traffic(plan, peer, wire=wire).sent_bytes for peer in plan.peers)
        absent = set(plan.peers) - {_name(number) for number in arrived}
        unsent = sum(contributed_bytes(plan, peer, wire=wire) for peer in absent)
        self.sent_bytes += sent - unsent
        losses = [work.loss for work in arrived.values()]
        return sum(losses) / len(losses) if losses else math.nan

    def _tamper(self, round_index: int) -> None:
        """Hostile peers lie when all others are ready, and know what they have."""
        if self.hostile is not None:
            fresh = {
                _name(number): (work.split, work.path)
                for number, work in self.works.items()
                if work.base_round == round_index
            }
            self.hostile.tamper(round_index, fresh, self.store.read)

    def _train(self, number: int, round_index: int, split: Split) -> None:
        """A peer trains; when it will have finished is the clock's matter."""
        manifest, trainer = self.experiment.manifest, self.trainers[number]
        since = self._since(number, round_index, split)
        try:
            trained = trainer.train(
                round_index=round_index,
                split=split,
                learning_rate=manifest.learning_rate_at(round_index),
                read=reading_from(since, manifest.layout, split, self.store.read),
            )
        except NonFiniteError:
            if self.hostile is None:
                raise
            return  # as in a swarm: it offers nothing in this round
        path = self.directory / f"{_name(number)}-{round_index % 2}.f32"
        write_offer(path, trained.arrays)
        self.works[number] = Work(
            round_index, split, path, since, trainer.samples, trained.loss, trained.l1
        )
        if self.experiment.controls.full_forward:
            split = Split.full(manifest.layout)
        by_steps = trained.steps * manifest.batch
        by_epochs = trainer.samples * manifest.local_epochs
        seen = by_steps if manifest.local_steps else by_epochs
        flops = self.meter.count(split, trained.frozen, seen)
        self.clock.begin(number, flops)

    def _since(self, number: int, round_index: int, split: Split) -> Path | None:
        """The own work of the round before, where training goes on from that."""
        manifest, before = self.experiment.manifest, self.works.get(number)
        if before is None or before.base_round != round_index - 1:
            return None
        return before.path if manifest.overlaps(before.split, split) else None

    def _arrived(self, round_index: int) -> dict[int, Work]:
        """Whose updates are in this round: all, unless there is a quorum."""
        manifest, rule = self.experiment.manifest, sharing(self.method)
        at_work = len(self.clock.at_work)
        quorum = self.experiment.controls.quorum or at_work
        if rule is not None:
            quorum = rule.quorum(at_work)
        oldest = round_index - manifest.max_staleness
        arrived, refused = self.clock.close(
            quorum, lambda number: self.works[number].base_round >= oldest
        )
        self.too_late += len(refused)
        return {number: self.works[number] for number in sorted(arrived)}

    def _fuse(self, plan: ExchangePlan, arrived: Mapping[int, Work]) -> None:
        manifest = self.experiment.manifest
        desks = Desks(
            plan,
            self.store,
            self.homes,
            manifest,
            owed=self.owed,
            hostile=self.hostile,
            opinions={peer: self.watch.opinions[peer] for peer in plan.peers},
            last_said=self.watch.last_said,
        )
        for number, work in arrived.items():
            desks.offer(
                _name(number), work.path, work.split, work.base_round, work.since
            )
        weights = self._weights(plan.round_index, arrived)
        before = self.values() if manifest.adds_changes else {}
        weighed = {_name(number): each for number, each in weights.items()}
        desks.fuse(weighed)
        desks.hand_out(weighed)
        self.watch.note(plan.round_index, desks)
        if manifest.weighs:
            desks.lose(self.watch.put_out)
        self.store.flush(durable=False)
        after = self.values() if manifest.adds_changes else {}
        self.moved.append(
            sum(
                float(np.abs(after[name] - before[name]).sum(dtype=np.float64))
                for name in before
            )
        )

    def _weights(
        self, round_index: int, arrived: Mapping[int, Work]
    ) -> dict[int, float]:
        """Of each update: its share, or its weight in a mean."""
        rule = sharing(self.method)
        if rule is None:
            by_samples = self.experiment.manifest.weighting == "samples"
            return {
                number: self._claimed(number, work) if by_samples else 1.0
                for number, work in arrived.items()
            }
        updates = [
            Update(
                self.context.roster[number].split_fraction,
                work.l1,
                staleness=round_index - work.base_round,
                distance=sum(self.moved[work.base_round : round_index]),
            )
            for number, work in arrived.items()
        ]
        return dict(zip(arrived, rule.shares(updates), strict=True))

    def _claimed(self, number: int, work: Work) -> float:
        """How many samples a peer says that it has."""
        times = 1 if self.hostile is None else self.hostile.samples(_name(number))
        return float(work.samples * times)

    def values(self) -> dict[str, Floats]:
        """The assembled model, by parameter name."""
        return Assembly(self.store).values()


def enlisted(
    experiment: Experiment, trainers: list[Trainer], classes: int
) -> Hostile | None:
    """Who is hostile, if anybody; with the wrong labels that the attack may want."""
    hostile = experiment.hostile([_name(number) for number in range(experiment.peers)])
    if hostile is not None and hostile.attack.flips_labels:
        for number, trainer in enumerate(trainers):
            if _name(number) in hostile.peers:
                flip_labels(trainer.records, classes)
    return hostile


def announced(
    experiment: Experiment, trainers: list[Trainer], store: Store
) -> tuple[Member, ...]:
    """The roster, with what its members have found out before the first round."""
    manifest = experiment.manifest
    fractions = enumerate(experiment.split_fractions)
    roster = [Member(_name(number), each) for number, each in fractions]
    rule = announcing(manifest.trained_by)
    if rule is None:
        return tuple(roster)
    members = []
    for member, trainer in zip(roster, trainers, strict=True):
        fraction = member.split_fraction
        found = trainer.announce(
            rule.asks(manifest.layout, fraction),
            learning_rate=manifest.learning_rate_at(0),
            read=store.read,
        )
        rule.check_announced(manifest.layout, fraction, found)
        members.append(replace(member, announced=found))
    return tuple(members)


def _name(number: int) -> str:
    return f"peer-{number:04}"
