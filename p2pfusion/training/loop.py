"""One round of training, and evaluation: plain loops over batches.

A round is a pure function of the module's values, the examples, the settings and the
generator that orders the batches: run twice on one machine it gives the same bits. The
optimiser is fresh in every round, because the next round trains other coordinates.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from p2pfusion.errors import NonFiniteError
from p2pfusion.training.data.examples import Examples
from p2pfusion.training.data.partition import generator as random_stream
from p2pfusion.training.descent import Descent, Optimiser
from p2pfusion.training.objectives import Objective

EVALUATION_BATCH = 512
"""Examples per forward pass without gradients: enough to be fast, small in memory."""

BATCH_STREAM = 4
"""Key of the random stream that orders batches; data/partition.py has the others."""

Progress = Callable[[int, int, float], None]


@dataclass(frozen=True)
class Schedule:
    """How much one round trains: whole epochs, or ``steps`` steps if that is given."""

    batch: int
    epochs: int = 1
    steps: int | None = None

    def step_count(self, example_count: int) -> int:
        """Steps of one round over this many examples."""
        return self.steps or self.epochs * math.ceil(example_count / self.batch)


@dataclass(frozen=True)
class RoundResult:
    """``loss``: mean training loss over all examples that the round's steps saw."""

    loss: float
    steps: int


@dataclass(frozen=True)
class Evaluation:
    """Mean cross-entropy and fraction of right answers over ``samples`` examples."""

    loss: float
    accuracy: float
    samples: int


def batch_generator(seed: int, round_index: int, share_index: int) -> torch.Generator:
    """What orders one peer's batches in one round, the same in every run."""
    stream = random_stream(seed, BATCH_STREAM, round_index, share_index)
    return torch.Generator().manual_seed(int(stream.bit_generator.random_raw()) >> 1)


def train_round(
    module: nn.Module,
    examples: Examples,
    *,
    objective: Objective,
    optimiser: Optimiser,
    schedule: Schedule,
    learning_rate: float,
    generator: torch.Generator,
    device: torch.device,
    on_progress: Progress | None = None,
) -> RoundResult:
    """Trains the module in place; ``NonFiniteError`` if it diverges.

    ``on_progress(step, steps, loss)`` is called after every step, steps counting from
    1.
    """
    module.train()
    descent = Descent(list(module.parameters()), optimiser)
    steps = schedule.step_count(len(examples))
    batches = _batches(len(examples), schedule.batch, generator)
    loss_sum, seen = 0.0, 0
    for step in range(1, steps + 1):
        images, labels = examples.batch(next(batches), device)
        loss = objective.loss(module, images, labels)
        value = loss.item()
        if not math.isfinite(value):
            raise _diverged(f"the loss of step {step} of {steps} is {value}")
        loss.backward()  # type: ignore[no-untyped-call]
        descent.step(learning_rate)
        loss_sum += value * len(labels)
        seen += len(labels)
        if on_progress is not None:
            on_progress(step, steps, value)
    for name, parameter in module.named_parameters():
        if not torch.isfinite(parameter).all():
            raise _diverged(f"parameter {name} is not finite after {steps} steps")
    return RoundResult(loss_sum / seen, steps)


@torch.inference_mode()
def evaluate(
    module: nn.Module,
    examples: Examples,
    device: torch.device,
    *,
    absent: Tensor | None = None,
) -> Evaluation:
    """Loss and accuracy of the module on the examples.

    ``absent`` classes are not among the possible answers: a sub-model whose training
    leaves their logits alone says nothing of them.
    """
    module.eval()
    loss_sum, right = 0.0, 0
    for chosen in torch.arange(len(examples)).split(EVALUATION_BATCH):
        images, labels = examples.batch(chosen, device)
        logits = module(images)
        if absent is not None:
            logits = logits.masked_fill(absent, -math.inf)
        loss_sum += float(functional.cross_entropy(logits, labels, reduction="sum"))
        right += int((logits.argmax(1) == labels).sum())
    return Evaluation(loss_sum / len(examples), right / len(examples), len(examples))


def _batches(count: int, size: int, generator: torch.Generator) -> Iterator[Tensor]:
    """Positions of one batch after another, shuffled anew in every epoch, forever."""
    while True:
        yield from torch.randperm(count, generator=generator).split(size)


def _diverged(what: str) -> NonFiniteError:
    return NonFiniteError(
        f"training diverged: {what}; nothing is offered this round",
        hint="lower the learning rate or the gradient clip",
    )
