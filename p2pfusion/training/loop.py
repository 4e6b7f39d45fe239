"""One round of training, and evaluation: plain loops over batches.

A round is a pure function of the module's values, the records, the settings and the
generator that orders the batches: run twice on one machine it gives the same bits. The
optimiser is fresh in every round, because the next round trains other coordinates.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from numpy.random import Generator
from torch import Tensor, nn
from torch.nn import functional

from p2pfusion.errors import NonFiniteError
from p2pfusion.training.data.augment import Augmentation
from p2pfusion.training.data.partition import generator as random_stream
from p2pfusion.training.data.records import NO_ANSWER, Records
from p2pfusion.training.descent import Descent, Optimiser
from p2pfusion.training.devices import computing_in
from p2pfusion.training.models.skipping import DepthDropout
from p2pfusion.training.objectives import Objective
from p2pfusion.training.replicas import ALONE, Loss, Team

EVALUATION_BATCH = 512
"""Records per forward pass without gradients: enough to be fast, small in memory."""

EVALUATION_LOGITS = 1 << 24
"""Logits of such a pass, at most: a vocabulary makes many of them for every token."""

BATCH_STREAM, VIEW_STREAM, MASK_STREAM, DEPTH_STREAM = 4, 5, 6, 7
DRAW_STREAM = 8
"""Keys of the random streams that order batches, that objectives draw from, that masks
are learned with, that leave out blocks, and that modules draw from;
data/partition.py has the others."""

Progress = Callable[[int, int, float], None]


@dataclass(frozen=True)
class Schedule:
    """How much one round trains: whole epochs, or ``steps`` steps if that is given.

    ``parts``: in so many a batch goes through the model, one after the other; their
    gradients are added up, and are those of the whole batch.
    """

    batch: int
    epochs: int = 1
    steps: int | None = None
    parts: int = 1

    def step_count(self, example_count: int) -> int:
        """Steps of one round over this many examples."""
        return self.steps or self.epochs * math.ceil(example_count / self.batch)


@dataclass(frozen=True)
class RoundResult:
    """``loss``: mean training loss over all answers that the round's steps saw."""

    loss: float
    steps: int


@dataclass(frozen=True)
class Evaluation:
    """Mean cross-entropy and fraction of right answers, of ``samples`` answers in all:
    one for each image or text, and one for each token foretold."""

    loss: float
    accuracy: float
    samples: int
    perplexity: float | None = None
    """Of running text, exp(loss): among how many tokens a guess would do as well."""

    def to_data(self) -> dict[str, object]:
        """What an experiment says of it. Perplexity, where there is one."""
        data: dict[str, object] = {"accuracy": self.accuracy, "test_loss": self.loss}
        if self.perplexity is not None:
            data["perplexity"] = self.perplexity
        return data


def batch_generator(seed: int, round_index: int, share_index: int) -> torch.Generator:
    """What orders one peer's batches in one round, the same in every run."""
    return _torchs(random_stream(seed, BATCH_STREAM, round_index, share_index))


def view_generator(seed: int, round_index: int, share_index: int) -> torch.Generator:
    """What one peer's objective draws from in one round, the same in every run."""
    return _torchs(random_stream(seed, VIEW_STREAM, round_index, share_index))


def depth_generator(seed: int, round_index: int, share_index: int) -> torch.Generator:
    """What leaves out one peer's blocks in one round, the same in every run."""
    return _torchs(random_stream(seed, DEPTH_STREAM, round_index, share_index))


def seed_draws(
    seed: int,
    round_index: int,
    share_index: int,
    *,
    device: torch.device,
    rank: int = 0,
) -> None:
    """What a module of somebody's own draws from torch's generators in one round, as
    dropout does, is the same in every run, too; each process draws for its own part of
    the batches."""
    keys = DRAW_STREAM, round_index, share_index, *([rank] if rank else [])
    number = _torchs(random_stream(seed, *keys)).initial_seed()
    if device.type == "cpu":
        # For every kind of card that is not in use torch would keep the number and a
        # whole traceback, round after round.
        torch.default_generator.manual_seed(number)
    else:
        torch.manual_seed(number)


def mask_generator(seed: int, share_index: int) -> torch.Generator:
    """What one peer's mask is learned with, the same in every run."""
    return _torchs(random_stream(seed, MASK_STREAM, 0, share_index))


def _torchs(stream: Generator) -> torch.Generator:
    return torch.Generator().manual_seed(int(stream.bit_generator.random_raw()) >> 1)


def train_round(
    module: nn.Module,
    records: Records,
    *,
    objective: Objective,
    optimiser: Optimiser,
    schedule: Schedule,
    learning_rate: float,
    generator: torch.Generator,
    device: torch.device,
    augment: Augmentation | None = None,
    dropout: DepthDropout | None = None,
    precision: str = "float32",
    team: Team = ALONE,
    measured: Sequence[str] = (),
    on_progress: Progress | None = None,
) -> RoundResult:
    """Trains the module in place; ``NonFiniteError`` if it diverges.

    ``dropout`` leaves out some of the module's blocks, others in each step.
    ``precision``: of products (``devices.py``). ``team``: all processes that train it.
    ``measured``: parameters that follow from batches, and not from gradients.
    ``on_progress(step, steps, loss)`` is called after every step, steps counting from
    1.
    """
    module.train()
    trained = [each for each in module.parameters() if each.requires_grad]
    descent = Descent(trained, optimiser)
    steps = schedule.step_count(len(records))
    order = batches(len(records), schedule.batch, generator)
    loss_of = team.loss_of(module, objective)
    loss_sum, seen = 0.0, 0
    for step in range(1, steps + 1):
        chosen = next(order)
        part = team.part(len(chosen))
        inputs, targets = records.batch(chosen[part.start : part.stop], device)
        if augment is not None:
            inputs = augment(inputs, generator, start=part.start, count=part.of)
        if dropout is not None:
            dropout.draw()
        answers = round(team.total(part.counts * _answers(targets)))
        pieces = _pieces(inputs, targets, schedule.parts)
        # Gradients of a team are the mean of everybody's, and shall be the sum.
        times = team.count * part.counts
        value = _add_gradients(loss_of, pieces, times, answers, precision)
        value = team.total(value) / team.count
        if not math.isfinite(value):
            raise _diverged(f"the loss of step {step} of {steps} is {value}")
        descent.step(learning_rate)
        objective.after_step(module)
        loss_sum += value * answers
        seen += answers
        if on_progress is not None:
            on_progress(step, steps, value)
    team.average(module.get_parameter(name) for name in measured)
    _check_finite(module, steps)
    return RoundResult(loss_sum / seen, steps)


@torch.no_grad()
def _check_finite(module: nn.Module, steps: int) -> None:
    for name, parameter in module.named_parameters():
        # A sum takes a fraction of the time, and only if it overflows says too much.
        is_certain = math.isfinite(parameter.sum().item())
        if not is_certain and not torch.isfinite(parameter).all():
            raise _diverged(f"parameter {name} is not finite after {steps} steps")


def _pieces(inputs: Tensor, targets: Tensor, parts: int) -> list[tuple[Tensor, Tensor]]:
    """A batch in so many parts, without those that have no answers."""
    pairs = zip(inputs.chunk(parts), targets.chunk(parts), strict=True)
    return [pair for pair in pairs if _answers(pair[1])] or [(inputs, targets)]


def _add_gradients(
    loss_of: Loss,
    pieces: Sequence[tuple[Tensor, Tensor]],
    times: int,
    answers: int,
    precision: str,
) -> float:
    """Adds up the gradients of a batch, piece by piece; its loss, ``times`` over. All
    ``answers`` of the batch count alike."""
    value = 0.0
    for number, (inputs, targets) in enumerate(pieces, 1):
        weight = times * _answers(targets) / answers
        with computing_in(precision, inputs.device):
            loss = loss_of(inputs, targets, is_last=number == len(pieces)) * weight
        value += loss.item()
        loss.backward()  # type: ignore[no-untyped-call]
    return value


def _answers(targets: Tensor) -> int:
    return int((targets != NO_ANSWER).sum())


@torch.inference_mode()
def evaluate(
    module: nn.Module,
    records: Records,
    device: torch.device,
    *,
    absent: Tensor | None = None,
    precision: str = "float32",
) -> Evaluation:
    """Loss and accuracy of the module on the records.

    ``absent`` classes are not among the possible answers: a sub-model whose training
    leaves their logits alone says nothing of them.
    """
    module.eval()
    loss_sum, right, answers = 0.0, 0, 0
    for chosen in torch.arange(len(records)).split(evaluation_batch(records)):
        inputs, targets = records.batch(chosen, device)
        with computing_in(precision, device):
            logits = module(inputs).float()
        if absent is not None:
            logits = logits.masked_fill(absent, -math.inf)
        loss_sum += float(
            functional.cross_entropy(
                logits.flatten(0, -2),
                targets.flatten(),
                ignore_index=NO_ANSWER,
                reduction="sum",
            )
        )
        right += int((logits.argmax(-1) == targets).sum())
        answers += _answers(targets)
    loss = loss_sum / answers
    perplexity = _perplexity(loss) if records.traits.task == "language" else None
    return Evaluation(loss, right / answers, answers, perplexity)


def evaluation_batch(records: Records) -> int:
    """Records that are looked at together where nothing is trained."""
    traits = records.traits
    places = traits.shape[0] if traits.task == "language" else 1
    return max(1, min(EVALUATION_BATCH, EVALUATION_LOGITS // (places * traits.classes)))


def _perplexity(loss: float) -> float:
    # exp of a double overflows at 710; NaN stays what it is.
    return math.inf if loss > 700 else math.exp(loss)


def batches(count: int, size: int, generator: torch.Generator) -> Iterator[Tensor]:
    """Positions of one batch after another, shuffled anew in every epoch, forever."""
    while True:
        yield from torch.randperm(count, generator=generator).split(size)


def _diverged(what: str) -> NonFiniteError:
    return NonFiniteError(
        f"training diverged: {what}; nothing is offered this round",
        hint="lower the learning rate or the gradient clip",
    )
