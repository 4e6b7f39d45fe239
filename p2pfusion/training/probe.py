"""What an encoder is worth that was trained without labels.

Its classifier has learned nothing, so another one is fitted to what a classifier reads,
with labels of the training part; the test part says how good it is. Two ways:

- ``linear_probe``: the encoder stays as it is, and a multinomial logistic regression is
  fitted to its features of some labelled images, standardised with their own means and
  deviations. A small penalty on the weights makes the minimum unique, so it depends on
  no order, seed or first guess; steps over all images at once, with Nesterov's momentum
  and restarts (O'Donoghue and Candes, Foundations of Computational Mathematics, 2015),
  find it. torch's own L-BFGS takes fewer, and seconds to load with all that it imports.
  A ridge classifier would need no steps at all, but its scores are no probabilities,
  and the cross-entropy on the test part would then say nothing.
- ``fine_tune``: the whole encoder and a fresh classifier are trained on a few labelled
  images of each class. This is how LW-FedSSL (arXiv 2401.11647) judges its encoders.

Either is worth something only beside the same of an encoder with initial values
(``initial_model``): on easy data a random one is good already.

Differs from LW-FedSSL: batches of 32, because labels are few, and no augmentation.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from p2pfusion.errors import ConfigError, DataError
from p2pfusion.store import initial_values
from p2pfusion.training.data.partition import generator as random_stream
from p2pfusion.training.data.records import Records
from p2pfusion.training.descent import Descent, Optimiser
from p2pfusion.training.loop import EVALUATION_BATCH, Evaluation, evaluate
from p2pfusion.training.models import find_model
from p2pfusion.training.models.projection import Projecting

PROBE_LABELS = 2_000
"""Labelled images of a probe, unless told: enough that more change little."""

PENALTY = 1e-3
"""Times half the squared weights, beside the mean loss."""

PROBE_STEPS = 5_000
"""At most; it stops where the gradient vanishes."""

VANISHED = 1e-6

LEAST_DEVIATION = 1e-6
"""A feature that differs less between images says nothing, and is left as it is."""

PROBE_STREAM, FINE_TUNE_STREAM = 6, 7
"""Keys of the random streams that choose labelled images, and order them; loop.py and
data/partition.py have the others."""


@dataclass(frozen=True)
class FineTuning:
    """How an encoder is trained on a few labels."""

    per_class: int
    """Labelled images of each class, or all there are."""
    epochs: int = 40
    warm_up_epochs: int = 10
    batch: int = 32
    learning_rate: float = 1e-3
    weight_decay: float = 1e-5

    def learning_rate_at(self, progress: float) -> float:
        """After this part of all steps: rises evenly, then falls along a cosine."""
        warm_up = self.warm_up_epochs / self.epochs
        if progress < warm_up:
            return self.learning_rate * progress / warm_up
        falling = (progress - warm_up) / (1 - warm_up)
        return self.learning_rate * (1 + math.cos(math.pi * falling)) / 2


class Classified(nn.Module):
    """An encoder with another classifier."""

    def __init__(self, encoder: Projecting, classifier: nn.Linear) -> None:
        super().__init__()
        self.encoder = encoder
        self.classifier = classifier

    def forward(self, inputs: Tensor) -> Tensor:
        """Logits."""
        encoder = self.encoder
        logits: Tensor = self.classifier(encoder.features(encoder.last(inputs)))
        return logits


def linear_probe(
    module: nn.Module,
    labelled: Records,
    test: Records,
    device: torch.device,
    *,
    label_count: int = PROBE_LABELS,
) -> Evaluation:
    """How well a linear classifier reads the module's features: fitted with so many
    labels of ``labelled``, measured on ``test``."""
    encoder, classes = _encoder(module), _classes(labelled, test)
    order = random_stream(0, PROBE_STREAM, len(labelled)).permutation(len(labelled))
    chosen = labelled.select(np.sort(order[:label_count]))
    found, labels = encoded(encoder, chosen, device)
    means, deviations = found.mean(0), found.std(0, correction=0)
    deviations = torch.where(deviations > LEAST_DEVIATION, deviations, 1.0)
    weights, bias = regression((found - means) / deviations, labels, classes)
    weights = weights / deviations[:, None]
    classifier = nn.Linear(len(weights), classes)
    with torch.no_grad():
        classifier.weight.copy_(weights.T)
        classifier.bias.copy_(bias - means @ weights)
    return evaluate(Classified(encoder, classifier).to(device), test, device)


def fine_tune(
    module: nn.Module,
    labelled: Records,
    test: Records,
    device: torch.device,
    settings: FineTuning,
    *,
    seed: int,
) -> Evaluation:
    """The same after training a copy of the module on a few labels; the seed chooses
    these, and orders them."""
    encoder = copy.deepcopy(_encoder(module)).requires_grad_(True)
    random = random_stream(seed, FINE_TUNE_STREAM)
    chosen = labelled.select(few_of_each_class(labelled, settings.per_class, random))
    width = encoded(encoder, chosen.select(np.arange(1)), device)[0].shape[1]
    classifier = nn.Linear(width, _classes(labelled, test))
    with torch.no_grad():
        classifier.weight.zero_()
        classifier.bias.zero_()
    tuned = Classified(encoder, classifier).to(device)
    rule = Optimiser(rule="adamw", weight_decay=settings.weight_decay)
    descent = Descent(list(tuned.parameters()), rule)
    steps = settings.epochs * math.ceil(len(chosen) / settings.batch)
    done = 0
    for _ in range(settings.epochs):
        order = torch.from_numpy(random.permutation(len(chosen)))
        for batch in order.split(settings.batch):
            done += 1
            inputs, targets = chosen.batch(batch, device)
            loss = functional.cross_entropy(tuned(inputs), targets)
            loss.backward()  # type: ignore[no-untyped-call]
            descent.step(settings.learning_rate_at(done / steps))
    return evaluate(tuned, test, device)


def initial_model(
    name: str, arguments: Mapping[str, object], seed: int
) -> dict[str, np.ndarray]:
    """A model's values that nobody has trained, by parameter name."""
    layout = find_model(name).layout(arguments)
    return {
        parameter.name: initial_values(
            layout, seed, index, 0, parameter.shape[0]
        ).reshape(parameter.shape)
        for index, parameter in enumerate(layout.parameters)
    }


@torch.inference_mode()
def encoded(
    encoder: Projecting, records: Records, device: torch.device
) -> tuple[Tensor, Tensor]:
    """What a classifier reads of each record (N, w), in float64, and the labels."""
    encoder.to(device).eval()
    found, labels = [], []
    for batch in torch.arange(len(records)).split(EVALUATION_BATCH):
        inputs, targets = records.batch(batch, device)
        found.append(encoder.features(encoder.last(inputs)).cpu().double())
        labels.append(targets.cpu())
    return torch.cat(found), torch.cat(labels)


@torch.no_grad()
def regression(features: Tensor, labels: Tensor, classes: int) -> tuple[Tensor, Tensor]:
    """Weights (w, classes) and bias (classes) that make the mean cross-entropy and the
    penalty least."""
    ones = features.new_ones(len(features), 1)
    design = torch.cat([features, ones], 1)  # (N, w + 1)
    wanted = functional.one_hot(labels, classes).to(design.dtype)
    penalty = features.new_full((design.shape[1], 1), PENALTY)
    penalty[-1] = 0.0
    # No direction is curved more than this: a softmax adds at most one half.
    spread = torch.linalg.matrix_norm(design.T @ design / len(design), 2)
    step = 1 / (spread / 2 + PENALTY)
    found = ahead = features.new_zeros(design.shape[1], classes)
    pace = 1.0
    for _ in range(PROBE_STEPS):
        excess = (design @ ahead).softmax(1) - wanted
        gradient = design.T @ excess / len(design) + penalty * ahead
        if gradient.abs().max() < VANISHED:
            break
        last, found = found, ahead - step * gradient
        if (gradient * (found - last)).sum() > 0:
            pace = 1.0  # it has run past the minimum: from here without momentum
        following = (1 + math.sqrt(1 + 4 * pace**2)) / 2
        ahead = found + (pace - 1) / following * (found - last)
        pace = following
    return ahead[:-1], ahead[-1]


def few_of_each_class(
    records: Records, per_class: int, random: np.random.Generator
) -> np.ndarray:
    """Positions of so many records of each class, ascending."""
    assert records.labels is not None
    labels = records.labels.numpy()
    chosen = [
        random.permutation(np.flatnonzero(labels == label))[:per_class]
        for label in np.unique(labels)
    ]
    return np.sort(np.concatenate(chosen))


def _encoder(module: nn.Module) -> Projecting:
    if not isinstance(module, Projecting):
        raise ConfigError(
            "a probe needs a model that says what its classifier reads",
            hint="models/projection.py describes one",
        )
    return module


def _classes(labelled: Records, test: Records) -> int:
    if labelled.labels is None or test.labels is None:
        raise DataError(
            "a probe needs a label for every record, and this data has none",
            hint="use labelled images",
        )
    return max(labelled.traits.classes, test.traits.classes)
