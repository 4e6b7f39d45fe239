"""How experiments look at the models that come of them.

An examiner knows a model and a test part, and is given values. The plain one asks the
model's own classifier. After a self-supervised objective that classifier has learned
nothing, so an ``EncoderExaminer`` fits others, and also looks at the values that the
experiment begins with: a random encoder, below which nothing has been learned.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from p2pfusion.errors import ConfigError
from p2pfusion.training.controls import evaluate_together
from p2pfusion.training.data import Records
from p2pfusion.training.loop import Evaluation
from p2pfusion.training.objectives import SELF_SUPERVISED
from p2pfusion.training.probe import PROBE_LABELS, FineTuning, fine_tune, linear_probe
from p2pfusion.training.whole import whole_module

CPU = torch.device("cpu")

Values = Mapping[str, np.ndarray]
"""A whole model's, by parameter name."""


@dataclass(frozen=True)
class Examiner:
    """Asks the model, or several of them together, about a test part."""

    model: str
    arguments: Mapping[str, object]
    test: Records

    def evaluate(self, each: Sequence[Values]) -> Evaluation:
        """How good the models with these values are together."""
        return evaluate_together(self.model, self.arguments, each, self.test)

    def before(self, values: Values) -> dict[str, object]:
        """What a result says of the values that training begins with."""
        return {}

    def after(self, values: Values) -> dict[str, object]:
        """What it says of those at the end, beside their evaluation."""
        return {}


@dataclass(frozen=True)
class EncoderExaminer(Examiner):
    """Fits classifiers with labels of ``labelled``, and asks those."""

    labelled: Records
    probe_labels: int
    fine_tuning: FineTuning | None
    """None: nobody asks for it, because it takes its time."""
    seed: int

    def evaluate(self, each: Sequence[Values]) -> Evaluation:
        """How well a linear classifier reads what an encoder makes of an image."""
        (values,) = each
        return linear_probe(
            whole_module(self.model, self.arguments, values),
            self.labelled,
            self.test,
            CPU,
            label_count=self.probe_labels,
        )

    def before(self, values: Values) -> dict[str, object]:
        """The same of a random encoder, and how many labels the probe gets."""
        return {
            "probe_labels": min(self.probe_labels, len(self.labelled)),
            "random_encoder_accuracy": self.evaluate([values]).accuracy,
            **self._tuned("random_encoder_fine_tuned_accuracy", values),
        }

    def after(self, values: Values) -> dict[str, object]:
        """How good the encoder is after training on a few labels, if asked."""
        return self._tuned("fine_tuned_accuracy", values)

    def _tuned(self, key: str, values: Values) -> dict[str, object]:
        if self.fine_tuning is None:
            return {}
        module = whole_module(self.model, self.arguments, values)
        found = fine_tune(
            module, self.labelled, self.test, CPU, self.fine_tuning, seed=self.seed
        )
        return {key: found.accuracy}


@dataclass(frozen=True)
class Labels:
    """How many labels encoders are looked at with."""

    probe: int | None = None
    """Of a linear probe in all; None: as usual."""
    fine_tuning: int | None = None
    """Of each class, for training the whole model at the end; None: none of it."""


def examiner_for(
    objective: str, plain: Examiner, *, labelled: Records, labels: Labels, seed: int
) -> Examiner:
    """Who looks at what an objective has trained; ``ConfigError`` for labels that
    nobody needs."""
    if objective not in SELF_SUPERVISED:
        if labels != Labels():
            raise ConfigError(
                f"probe_labels and fine_tune_labels are for objectives without labels, "
                f"and {objective!r} has them",
                hint=f"such objectives are: {', '.join(SELF_SUPERVISED)}",
            )
        return plain
    few = labels.fine_tuning
    return EncoderExaminer(
        plain.model,
        plain.arguments,
        plain.test,
        labelled=labelled,
        probe_labels=labels.probe or PROBE_LABELS,
        fine_tuning=None if few is None else FineTuning(few),
        seed=seed,
    )
