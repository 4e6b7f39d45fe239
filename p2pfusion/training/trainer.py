"""A peer's trainer as a plain object: data once, then one round after another.

``worker.py`` drives one over its channel; the experiment runner drives many in one
process. Where values come from and go to is the caller's: it passes a reader of
segments and gets arrays.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import nn

from p2pfusion.errors import DataError, IncompatibleError
from p2pfusion.split.comparison import first_difference
from p2pfusion.split.depth import check_depth, without_gates
from p2pfusion.split.segment import Split
from p2pfusion.store import Owed, Spent
from p2pfusion.training import submodel
from p2pfusion.training.data import (
    Records,
    load,
    own_records,
)
from p2pfusion.training.data.augment import augmentation
from p2pfusion.training.description import code_of, coding_of
from p2pfusion.training.devices import check_precision, find_devices
from p2pfusion.training.loop import (
    Progress,
    batch_generator,
    depth_generator,
    evaluate,
    mask_generator,
    seed_draws,
    train_round,
    view_generator,
)
from p2pfusion.training.masks import Question, learn_mask
from p2pfusion.training.models import (
    MODELS,
    check_fit,
    find_model,
    is_deep,
    settle,
    statistics,
)
from p2pfusion.training.models.skipping import DepthDropout
from p2pfusion.training.objectives import (
    Dated,
    check_name,
    create_objective,
)
from p2pfusion.training.outer import OuterMomentum
from p2pfusion.training.outside import check_versions, told_versions
from p2pfusion.training.privacy import PrivateChanges
from p2pfusion.training.recomputing import check_parts, recomputing
from p2pfusion.training.replicas import ALONE, Team
from p2pfusion.training.setup import Setup, check_together


@dataclass(frozen=True)
class TrainedRound:
    """A round's outcome. ``arrays``: the values of what was trained, in the layout's
    order, with the outer momentum, or how they have changed, with what earlier changes
    have lost, if that was asked for;
    everything else is of the training alone. They may be the sub-model's own memory, in
    which the next round is trained."""

    arrays: list[np.ndarray]
    samples: int
    loss: float
    norm: float
    """The length of the change."""
    l1: float
    """The sum of its magnitudes."""
    seconds: float
    steps: int
    frozen: tuple[Split, ...] = ()
    """What ran beside the split in every step, without being trained."""


class Trainer:
    """Trains one peer's splits on its own records."""

    def __init__(
        self, setup: Setup, *, records: Records | None = None, team: Team = ALONE
    ) -> None:
        """``records``: the whole training part, if the caller has loaded it already.
        ``team``: the processes that train with this one."""
        check_together(setup)
        self._setup, self._team = setup, team
        self._model = find_model(setup.model)
        # What a module of somebody's own remembers beside its values, we do not know.
        keeps = setup.model in MODELS and team is ALONE
        self._modules = submodel.SubModels(
            self._model, setup.arguments, setup.layout, keeps=keeps
        )
        self._trained: nn.Module | None = None
        check_name(str(setup.objective.get("name", "task")))
        described = self._model.layout(setup.arguments)
        difference = first_difference(without_gates(setup.layout), described)
        if difference is not None:
            raise IncompatibleError(
                f"model {setup.model!r} has another layout here than in the manifest: "
                f"{difference}",
                hint="all peers need the same version of the model's code"
                + told_versions(setup.versions, code_of(setup.model, setup.objective)),
            )
        check_versions(setup.versions, code_of(setup.model, setup.objective))
        check_depth(setup.layout, is_deep=is_deep(self._model))
        if setup.checkpointing:
            with torch.device("meta"):  # what it is made of, without its values
                sizes = Split.full(setup.layout).sizes()
                check_parts(self._model.build(setup.arguments, sizes))
        self.device = find_devices(setup.device, setup.processes)[team.rank]
        check_precision(setup.precision, self.device)
        if records is None:
            records = self._load()
        check_fit(self._model, setup.arguments, records.traits)
        self._records, self._validation = own_records(records, setup.data, setup.seed)
        self._augment = augmentation(setup.augment, records)
        self.class_counts = self._count_classes()
        self._private = PrivateChanges(setup.privacy) if setup.privacy else None
        self._outer = self._remembered()
        self._owed = Owed(setup.owed, setup.layout) if setup.owed else None
        objective = dict(setup.objective)
        if records.traits.task == "language":
            # How common a token is belongs to what is learnt of running text.
            objective["logit_adjustment"] = 0.0
        self._objective = create_objective(
            objective, self.class_counts, self.device, setup.layout
        )

    def _remembered(self) -> OuterMomentum | None:
        setup = self._setup
        if not setup.outer_momentum or setup.past is None:
            return None
        return OuterMomentum.open(
            setup.past,
            setup.layout,
            setup.seed,
            setup.outer_momentum,
            statistics(self._model, setup.arguments),
        )

    def _load(self) -> Records:
        setup = self._setup
        coding = coding_of(setup.arguments, setup.vocabulary)
        records = load(setup.data, "train", coding)
        if records is None:
            raise DataError(f"data kind {setup.data.kind!r} has no records to train on")
        if records.vocabulary is not None and coding.vocabulary is None:
            raise IncompatibleError(
                "the data is text, and the swarm has no vocabulary",
                hint="use data of the kind that the swarm was founded for",
            )
        return records

    def _count_classes(self) -> list[int]:
        """Training answers per class of the model, also of classes without any."""
        settled = settle(self._model, self._setup.arguments)
        classes = settled.get("classes", settled.get("vocabulary"))
        assert isinstance(classes, int)
        counts: list[int] = self._records.answer_counts(classes).tolist()
        return counts

    @property
    def rank(self) -> int:
        """Which of the processes that train together this one is."""
        return self._team.rank

    @property
    def records(self) -> Records:
        """The records that this peer trains on."""
        return self._records

    @property
    def samples(self) -> int:
        """Records that this peer trains on."""
        return len(self._records)

    @property
    def spent(self) -> Spent | None:
        """What its changes have told of its data, if they hide it."""
        return None if self._private is None else self._private.spent

    @property
    def validation_samples(self) -> int:
        """Records that this peer keeps for validation."""
        return 0 if self._validation is None else len(self._validation)

    def _module(self, split: Split, read: submodel.Read) -> nn.Module:
        """What a round trains, with its values."""
        self._trained = None  # first, so that no two of them are in memory
        return self._modules.filled(split, read)

    def _arrays(self, module: nn.Module, split: Split) -> list[np.ndarray]:
        """The dense arrays of what is trained, out of such a module."""
        return submodel.extract(module, self._setup.layout, split)

    def train(
        self,
        *,
        round_index: int,
        split: Split,
        learning_rate: float,
        read: submodel.Read,
        on_progress: Progress | None = None,
    ) -> TrainedRound:
        """One round on one split; ``NonFiniteError`` if training diverges."""
        started_s = time.monotonic()
        setup = self._setup
        if self._private is not None:
            self._private.check()
        module = self._module(split, read)
        before = [array.copy() for array in self._arrays(module, split)]
        module.to(self.device)
        share = setup.data.partition
        drawn = setup.seed, round_index, share.index if share else 0
        seed_draws(*drawn, device=self.device, rank=self._team.rank)
        if isinstance(self._objective, Dated):
            self._objective.at(round_index)
        # First, because copies that the objective makes leave out the same blocks.
        dropout = DepthDropout(module, setup.depth_dropout, depth_generator(*drawn))
        frozen = self._objective.begin(module, split, view_generator(*drawn))
        with recomputing(module) if setup.checkpointing else nullcontext():
            result = train_round(
                module,
                self._records,
                objective=self._objective,
                optimiser=setup.optimiser,
                schedule=setup.schedule,
                learning_rate=learning_rate,
                generator=batch_generator(*drawn),
                device=self.device,
                augment=self._augment,
                dropout=dropout,
                precision=setup.precision,
                team=self._team,
                measured=sorted(statistics(self._model, setup.arguments)),
                on_progress=on_progress,
            )
        dropout.end()
        self._objective.end(module, split)
        self._trained = module
        arrays = self._arrays(module, split)
        if self._private is not None:
            arrays = [each.copy() for each in arrays]  # the module is measured later
            self._private.hide(before, arrays)
        norm, l1 = submodel.update_sizes(before, arrays)
        return TrainedRound(
            arrays=self._offered(round_index, split.trained, before, arrays),
            samples=self.samples,
            loss=result.loss,
            norm=norm,
            l1=l1,
            seconds=time.monotonic() - started_s,
            steps=result.steps,
            frozen=frozen,
        )

    @property
    def measures(self) -> bool:
        """Whether there is an accuracy to measure: records are held back, and labels
        mean anything."""
        held_back = self._validation is not None and self._team.rank == 0
        return held_back and self._objective.labelled

    def measure(self) -> float:
        """The accuracy of what the last round has trained, on the records that are held
        back: without momentum, noise, and what others have trained."""
        trained, self._trained = self._trained, None
        assert trained is not None, "each round is measured once"
        assert self._validation is not None, "something is held back"
        found = evaluate(
            trained,
            self._validation,
            self.device,
            absent=self._objective.absent,
            precision=self._setup.precision,
        )
        return found.accuracy

    def _offered(
        self,
        round_index: int,
        split: Split,
        before: list[np.ndarray],
        arrays: list[np.ndarray],
    ) -> list[np.ndarray]:
        """What others get of what was trained, which stays as it is."""
        trained = arrays
        if self._setup.outer_momentum:
            assert self._outer is not None, "its memory needs a place"
            arrays = self._outer.push(round_index, split, before, trained)
        if self._setup.changes:
            arrays = [
                np.subtract(new, old, out=None if new is kept else new)
                for new, old, kept in zip(arrays, before, trained, strict=True)
            ]
        if self._owed is not None:
            segments = split.segments(self._setup.layout)
            for array, segment in zip(arrays, segments, strict=True):
                array += self._owed.read(segment).reshape(array.shape)
        return arrays

    def rest(self) -> None:
        """What is left to do of a round when its outcome has been given away."""
        if self._outer is not None:
            self._outer.remember()

    def announce(
        self,
        asked: Mapping[str, object],
        *,
        learning_rate: float,
        read: submodel.Read,
        on_progress: Progress | None = None,
    ) -> bytes:
        """What a method lets this peer find out and tell, once: a mask of its units.

        ``asked``: what the method says of it (``masks.Question``). ``NonFiniteError``
        if training diverges.
        """
        question = Question.from_data(asked, self._setup.layout)
        if question.is_settled:
            return question.encode(question.everything())
        setup = self._setup
        # Of no use afterwards, so it is not one of those that rounds are trained in.
        module = submodel.made(
            self._model, setup.arguments, setup.layout, question.split, read
        )
        share = setup.data.partition
        found = learn_mask(
            module.to(self.device),
            self._records,
            question,
            # A mask is no round: there is nothing to stay near.
            optimiser=replace(setup.optimiser, proximal=0.0),
            schedule=replace(setup.schedule, epochs=question.epochs, steps=None),
            learning_rate=learning_rate,
            generator=mask_generator(setup.seed, share.index if share else 0),
            device=self.device,
            augment=self._augment,
            on_progress=on_progress,
        )
        return question.encode(found)
